/* Convolution on filterlet weight compressed storage.
 *
 * Once per call the bit masks are expanded into `stream`: per filter the number of runs and, for
 * each, its window offset and its length in vectors. Filterlets at neighbouring kernel positions are
 * neighbours in memory as well, in the weights always and in the input where the dilation is 1, so
 * they make one run. */
#include "dtmm_conv_kernels.h"
#include "dtmm_run.h"

#if DTMM_USE_MVE

/* Adds to `sum` the products of `vectors` > 0 vectors of weights with those of four windows; returns
 * where the weights go on. In assembler because the compilers find neither the loop's pairing of
 * loads and multiplications nor the running pointers' final values. */
DTMM_INLINE const int8_t *dot1x4(int32_t sum[DTMM_TILE], const int8_t *w, const int8_t *x0,
                                 const int8_t *x1, const int8_t *x2, const int8_t *x3,
                                 int32_t vectors) {
  __asm__ volatile(
      "dls lr, %[vectors]\n"
      "1:\n"
      "vldrb.u8 q0, [%[w]], #16\n"
      "vldrb.u8 q1, [%[x0]], #16\n"
      "vmladava.s8 %[s0], q0, q1\n"
      "vldrb.u8 q2, [%[x1]], #16\n"
      "vmladava.s8 %[s1], q0, q2\n"
      "vldrb.u8 q1, [%[x2]], #16\n"
      "vmladava.s8 %[s2], q0, q1\n"
      "vldrb.u8 q2, [%[x3]], #16\n"
      "vmladava.s8 %[s3], q0, q2\n"
      "le lr, 1b\n"
      : [s0] "+Te"(sum[0]), [s1] "+Te"(sum[1]), [s2] "+Te"(sum[2]), [s3] "+Te"(sum[3]),
        [w] "+r"(w), [x0] "+r"(x0), [x1] "+r"(x1), [x2] "+r"(x2), [x3] "+r"(x3)
      : [vectors] "r"(vectors)
      : "lr", "q0", "q1", "q2", "memory");
  return w;
}

static void tile_of_runs(const dtmm_tile_job *job, const int8_t *in, int8_t *out) {
  const dtmm_tile_output to = dtmm_tile_output_of(job);
  const int8_t *w = job->weights;
  const uint16_t *stream = job->stream;
  const dtmm_channel_params *channel = job->params;
  const int32_t d1 = job->in_pixel[1], d2 = job->in_pixel[2], d3 = job->in_pixel[3];
  for (int32_t filter = job->out_channels; filter > 0; --filter, ++channel, ++out) {
    const int32_t bias = channel->bias;
    int32_t sum[DTMM_TILE] = {bias, bias, bias, bias};
    for (int32_t n = *stream++; n > 0; --n) {
      const int8_t *x0 = in + DTMM_OFFSET_UNIT * *stream++;
      const int8_t *x1 = x0 + d1, *x2 = x0 + d2, *x3 = x0 + d3;
      const int32_t vectors = *stream++;
      w = dot1x4(sum, w, x0, x1, x2, x3, vectors);
    }
    const int32x4_t sums = {sum[0], sum[1], sum[2], sum[3]};
    dtmm_store_tile(to, channel, sums, out);
  }
}

#else

static void tile_of_runs(const dtmm_tile_job *job, const int8_t *in, int8_t *out) {
  const int8_t *w = job->weights;
  const uint16_t *stream = job->stream;
  for (int32_t filter = 0; filter < job->out_channels; ++filter) {
    const dtmm_channel_params *channel = job->params + filter;
    int32_t sums[DTMM_TILE] = {channel->bias, channel->bias, channel->bias, channel->bias};
    for (int32_t n = *stream++; n > 0; --n) {
      const int8_t *x = in + DTMM_OFFSET_UNIT * *stream++;
      const int32_t bytes = DTMM_VECTOR_BYTES * *stream++;
      dtmm_add_products(job, w, x, bytes, sums);
      w += bytes;
    }
    for (int32_t i = 0; i < DTMM_TILE; ++i) {
      out[(int32_t)job->out_pixel[i] + filter] = dtmm_finish(job, channel, sums[i]);
    }
  }
}

#endif

/* Writes the stream: per filter the number of entries, then offset and vectors of each. Returns 0 if
 * they do not fit into `words`. */
DTMM_NO_INLINE static int expand_masks(const dtmm_conv_weights *weights, int32_t positions,
                                       const uint16_t *offsets, uint16_t *stream, size_t words) {
  const uint16_t *end = stream + words;
  const uint8_t *masks = weights->index;
  const uint32_t vectors = (uint32_t)weights->in_stride / DTMM_VECTOR_BYTES;
  const uint32_t units = (uint32_t)weights->in_stride / DTMM_OFFSET_UNIT;
  for (int32_t filter = weights->out_channels; filter > 0; --filter) {
    if (stream == end) return 0;
    uint16_t *count = stream++;
    uint32_t entries = 0, run_end = UINT32_MAX;
    DTMM_NO_UNROLL
    for (int32_t first = 0; first < positions; first += 8) {
      uint32_t mask = *masks++;
      if (positions - first < 8) mask &= (1u << (positions - first)) - 1;
      DTMM_NO_UNROLL
      for (; mask != 0; mask &= mask - 1) {
        const uint32_t offset = offsets[first + __builtin_ctz(mask)];
        if (offset == run_end) {
          stream[-1] = (uint16_t)(stream[-1] + vectors);
        } else {
          if (end - stream < 2) return 0;
          *stream++ = (uint16_t)offset;
          *stream++ = (uint16_t)vectors;
          ++entries;
        }
        run_end = offset + units;
      }
    }
    *count = (uint16_t)entries;
  }
  return 1;
}

static int32_t count_kept(const dtmm_conv_params *conv, const dtmm_conv_weights *weights) {
  const int32_t bytes = weights->out_channels * ((conv->kernel_h * conv->kernel_w + 7) / 8);
  int32_t kept = 0;
  DTMM_NO_UNROLL
  for (int32_t i = 0; i < bytes; ++i) kept += __builtin_popcount(weights->index[i]);
  return kept;
}

size_t dtmm_conv_fwcs_s8_get_buffer_size(const dtmm_conv_params *conv,
                                         const dtmm_conv_weights *weights, const dtmm_tensor *in,
                                         const dtmm_tensor *out) {
  (void)in, (void)out;
  if (weights->kernel != NULL && weights->stream != NULL) return 0;
  const int32_t filters = weights->out_channels, kept = count_kept(conv, weights);
  if (weights->kernel != NULL) {
    return dtmm_conv_runs_entries(conv, filters, &kept) * sizeof(uint16_t);
  }
  const int32_t per_row = conv->dilation_w == 1 ? (conv->kernel_w + 1) / 2 : conv->kernel_w;
  const int32_t runs = dtmm_min(kept, filters * conv->kernel_h * per_row);
  return (size_t)(conv->kernel_h * conv->kernel_w + filters + 2 * runs) * sizeof(uint16_t);
}

dtmm_status dtmm_conv_fwcs_s8(const dtmm_conv_params *conv, const dtmm_conv_weights *weights,
                              const dtmm_tensor *in, const dtmm_tensor *out, void *scratch,
                              size_t scratch_size) {
  const int listed = weights->kernel != NULL && weights->stream != NULL;
  if (!dtmm_conv_is_valid(conv, weights, in, out) || (weights->index == NULL && !listed) ||
      !dtmm_conv_is_vectorisable(conv, weights, in)) {
    return DTMM_BAD_ARGUMENT;
  }
  const size_t positions = (size_t)(conv->kernel_h * conv->kernel_w);
  const size_t words = scratch_size / sizeof(uint16_t);
  if (listed) return dtmm_conv_runs(conv, weights, in, out, NULL, 0);
  if (words < 1 || (weights->kernel == NULL && words < positions)) return DTMM_NO_SPACE;
  if (scratch == NULL || !dtmm_aligned4(scratch)) return DTMM_BAD_ARGUMENT;
  if (weights->kernel != NULL) return dtmm_conv_runs(conv, weights, in, out, scratch, words);
  uint16_t *offsets = scratch;
  uint16_t *stream = offsets + positions;
  dtmm_window_offsets(conv, in, 1, offsets);
  if (!expand_masks(weights, (int32_t)positions, offsets, stream, words - positions)) {
    return DTMM_NO_SPACE;
  }
  dtmm_tile_job job = {.weights = weights->weights,
                       .params = weights->params,
                       .stream = stream,
                       .out_channels = weights->out_channels,
                       .in_stride = weights->in_stride,
                       .output = conv->output};
  dtmm_walk_tiles(conv, in, out, &job, tile_of_runs, tile_of_runs);
  dtmm_fill_halo(out, conv->output.zero_point);
  return DTMM_OK;
}
