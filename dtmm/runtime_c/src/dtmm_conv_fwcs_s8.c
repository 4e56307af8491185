/* Convolution on filterlet weight compressed storage.
 *
 * Once per call the bit masks are expanded into `stream`: per filter the number of runs and, for
 * each, its window offset and its length in vectors. Filterlets at neighbouring kernel positions are
 * neighbours in memory as well, in the weights always and in the input where the dilation is 1, so
 * they make one run. */
#include "dtmm_conv_kernels.h"

#if DTMM_USE_MVE

DTMM_TILE_OF_NEIGHBOURS(tile_16, 16, "0", 0)
DTMM_TILE_OF_NEIGHBOURS(tile_32, 32, "0, 16", 0)
DTMM_TILE_OF_NEIGHBOURS(tile_48, 48, "0, 16, 32", 0)
DTMM_TILE_OF_NEIGHBOURS(tile_64, 64, "0, 16, 32, 48", 0)
DTMM_TILE_OF_NEIGHBOURS(tile_80, 80, "0, 16, 32, 48, 64", 0)
DTMM_TILE_OF_NEIGHBOURS(tile_96, 96, "0, 16, 32, 48, 64, 80", 0)
DTMM_TILE_OF_NEIGHBOURS(tile_128, 128, "0, 16, 32, 48, 64, 80, 96, 112", 0)

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

/* Any pixels, any number of vectors; without runs every entry is one filterlet. */
DTMM_INLINE void tile_of_pixels(const dtmm_tile_job *job, const int8_t *in, int8_t *out,
                                const int runs) {
  const int32_t filterlet = job->in_stride / DTMM_VECTOR_BYTES;
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
      const int32_t vectors = runs ? *stream++ : filterlet;
      w = dot1x4(sum, w, x0, x1, x2, x3, vectors);
    }
    const int32x4_t sums = {sum[0], sum[1], sum[2], sum[3]};
    dtmm_store_tile(to, channel, sums, out);
  }
}

#else

DTMM_INLINE void tile_of_pixels(const dtmm_tile_job *job, const int8_t *in, int8_t *out,
                                const int runs) {
  const int32_t filterlet = job->in_stride / DTMM_VECTOR_BYTES;
  const int8_t *w = job->weights;
  const uint16_t *stream = job->stream;
  for (int32_t filter = 0; filter < job->out_channels; ++filter) {
    const dtmm_channel_params *channel = job->params + filter;
    int32_t sums[DTMM_TILE] = {channel->bias, channel->bias, channel->bias, channel->bias};
    for (int32_t n = *stream++; n > 0; --n) {
      const int8_t *x = in + DTMM_OFFSET_UNIT * *stream++;
      int32_t bytes = DTMM_VECTOR_BYTES * (runs ? *stream++ : filterlet);
      /* A host's vectors are long: filterlets that follow each other make one product. */
      for (; !runs && n > 1 && in + DTMM_OFFSET_UNIT * *stream == x + bytes; --n, ++stream) {
        bytes += DTMM_VECTOR_BYTES * filterlet;
      }
      dtmm_add_products(job, w, x, bytes, sums);
      w += bytes;
    }
    for (int32_t i = 0; i < DTMM_TILE; ++i) {
      out[(int32_t)job->out_pixel[i] + filter] = dtmm_finish(job, channel, sums[i]);
    }
  }
}

#define tile_16 tile_of_filterlets
#define tile_32 tile_of_filterlets
#define tile_48 tile_of_filterlets
#define tile_64 tile_of_filterlets
#define tile_80 tile_of_filterlets
#define tile_96 tile_of_filterlets
#define tile_128 tile_of_filterlets

#endif

static void tile_of_filterlets(const dtmm_tile_job *job, const int8_t *in, int8_t *out) {
  tile_of_pixels(job, in, out, 0);
}
static void tile_of_runs(const dtmm_tile_job *job, const int8_t *in, int8_t *out) {
  tile_of_pixels(job, in, out, 1);
}

/* NULL where only tile_of_runs will do. The same on every machine, for the scratch size hangs on it. */
static dtmm_tile_kernel kernel_of_neighbours(const dtmm_conv_params *conv, int32_t in_stride) {
  if (conv->stride_w != 1) return NULL;
  switch (in_stride) {
    case 16: return tile_16;
    case 32: return tile_32;
    case 48: return tile_48;
    case 64: return tile_64;
    case 80: return tile_80;
    case 96: return tile_96;
    case 128: return tile_128;
    default: return NULL;
  }
}

/* Writes the stream: per filter the number of entries, then the entries. Returns 0 if they do not fit
 * into `words`. */
DTMM_NO_INLINE static int expand_masks(const dtmm_conv_weights *weights, int32_t positions,
                        const uint16_t *offsets, int runs, uint16_t *stream, size_t words) {
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
          if (end - stream < 1 + runs) return 0;
          *stream++ = (uint16_t)offset;
          if (runs) *stream++ = (uint16_t)vectors;
          ++entries;
        }
        if (runs) run_end = offset + units;
      }
    }
    *count = (uint16_t)entries;
  }
  return 1;
}

static int32_t count_kept(const dtmm_conv_weights *weights, int32_t positions) {
  int32_t kept = 0;
  const int32_t bytes = weights->out_channels * ((positions + 7) / 8);
  DTMM_NO_UNROLL
  for (int32_t i = 0; i < bytes; ++i) kept += __builtin_popcount(weights->index[i]);
  return kept;
}

size_t dtmm_conv_fwcs_s8_get_buffer_size(const dtmm_conv_params *conv,
                                         const dtmm_conv_weights *weights, const dtmm_tensor *in,
                                         const dtmm_tensor *out) {
  (void)in, (void)out;
  const int32_t positions = conv->kernel_h * conv->kernel_w;
  int32_t entries = count_kept(weights, positions);
  if (kernel_of_neighbours(conv, weights->in_stride) == NULL) {
    const int32_t runs_per_row = conv->dilation_w == 1 ? (conv->kernel_w + 1) / 2 : conv->kernel_w;
    entries = 2 * dtmm_min(entries, weights->out_channels * conv->kernel_h * runs_per_row);
  }
  return (size_t)(positions + weights->out_channels + entries) * sizeof(uint16_t);
}

dtmm_status dtmm_conv_fwcs_s8(const dtmm_conv_params *conv, const dtmm_conv_weights *weights,
                              const dtmm_tensor *in, const dtmm_tensor *out, void *scratch,
                              size_t scratch_size) {
  if (!dtmm_conv_is_valid(conv, weights, in, out) || weights->index == NULL ||
      !dtmm_conv_is_vectorisable(conv, weights, in)) {
    return DTMM_BAD_ARGUMENT;
  }
  const size_t positions = (size_t)(conv->kernel_h * conv->kernel_w);
  const size_t words = scratch_size / sizeof(uint16_t);
  if (words < positions) return DTMM_NO_SPACE;
  if (scratch == NULL || !dtmm_aligned4(scratch)) return DTMM_BAD_ARGUMENT;
  uint16_t *offsets = scratch;
  uint16_t *stream = offsets + positions;
  dtmm_window_offsets(conv, in, 1, offsets);
  const dtmm_tile_kernel neighbours = kernel_of_neighbours(conv, weights->in_stride);
  if (!expand_masks(weights, (int32_t)positions, offsets, neighbours == NULL, stream,
                    words - positions)) {
    return DTMM_NO_SPACE;
  }
  dtmm_tile_job job = {.weights = weights->weights,
                       .params = weights->params,
                       .stream = stream,
                       .out_channels = weights->out_channels,
                       .in_stride = weights->in_stride,
                       .output = conv->output};
  if (neighbours != NULL) {
    dtmm_walk_tiles(conv, in, out, &job, neighbours, tile_of_filterlets);
  } else {
    dtmm_walk_tiles(conv, in, out, &job, tile_of_runs, tile_of_runs);
  }
  dtmm_fill_halo(out, conv->output.zero_point);
  return DTMM_OK;
}
