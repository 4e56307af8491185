/* Convolution on dense weights: 2 filters x 4 pixels, as two passes of 2 x 2.
 *
 * A kernel row is one run of weights and, where the dilation is 1, one run of the input, so the
 * innermost loop is the same for every number of channels. `stream` holds the runs of a window: their
 * number, their length in vectors, then the window offset of each. */
#include "dtmm_conv_kernels.h"
#include "dtmm_run.h"

#if DTMM_USE_MVE

typedef struct {
  int32_t s00, s01, s10, s11; /* filter, window */
} sums2x2;

/* Adds to `s` the products of 16 * vectors bytes of two filters and two windows; returns through w0
 * and w1 where the filters go on. In assembler because neither clang 19 nor gcc 12 keeps a load
 * beside every multiplication: 8 cycles per step against 10. Loads run one step ahead, so the last
 * step stands by itself and nothing is read past the end. */
DTMM_INLINE void dot2x2(sums2x2 *s, const int8_t **w0, const int8_t **w1, const int8_t *x0,
                        const int8_t *x1, int32_t vectors) {
  __asm__ volatile(
      "vldrb.u8 q0, [%[w0]], #16\n"
      "vldrb.u8 q2, [%[x0]], #16\n"
      "wls lr, %[steps], 2f\n"
      "1:\n"
      "vldrb.u8 q3, [%[x1]], #16\n"
      "vmladava.s8 %[s00], q0, q2\n"
      "vldrb.u8 q1, [%[w1]], #16\n"
      "vmladava.s8 %[s01], q0, q3\n"
      "vldrb.u8 q0, [%[w0]], #16\n"
      "vmladava.s8 %[s10], q1, q2\n"
      "vldrb.u8 q2, [%[x0]], #16\n"
      "vmladava.s8 %[s11], q1, q3\n"
      "le lr, 1b\n"
      "2:\n"
      "vldrb.u8 q3, [%[x1]], #16\n"
      "vmladava.s8 %[s00], q0, q2\n"
      "vldrb.u8 q1, [%[w1]], #16\n"
      "vmladava.s8 %[s01], q0, q3\n"
      "vmladava.s8 %[s10], q1, q2\n"
      "vmladava.s8 %[s11], q1, q3\n"
      : [s00] "+Te"(s->s00), [s01] "+Te"(s->s01), [s10] "+Te"(s->s10), [s11] "+Te"(s->s11),
        [w0] "+r"(*w0), [w1] "+r"(*w1), [x0] "+r"(x0), [x1] "+r"(x1)
      : [steps] "r"(vectors - 1)
      : "lr", "q0", "q1", "q2", "q3", "memory");
}

/* Two filters over two windows. */
DTMM_INLINE sums2x2 windows2x2(const uint16_t *stream, const int8_t *w0, const int8_t *w1,
                               const int8_t *in0, const int8_t *in1, sums2x2 s) {
  const int32_t vectors = stream[1];
  for (int32_t n = stream[0]; n > 0; --n, ++stream) {
    const int32_t offset = DTMM_OFFSET_UNIT * stream[2];
    dot2x2(&s, &w0, &w1, in0 + offset, in1 + offset, vectors);
  }
  return s;
}

static void tile_dense(const dtmm_tile_job *job, const int8_t *in, int8_t *out) {
  const dtmm_tile_output to = dtmm_tile_output_of(job);
  const int32_t filter_bytes = job->stream[0] * job->stream[1] * DTMM_VECTOR_BYTES;
  const int32_t next = job->out_channels > 1; /* distance to a pair's second filter */
  const int8_t *w = job->weights;
  const dtmm_channel_params *channel = job->params;
  for (int32_t left = job->out_channels; left > 0; left -= 2) {
    if (DTMM_UNLIKELY(left == 1 && next)) { /* the last of an odd number: its pair again */
      w -= filter_bytes, channel -= 1, out -= 1;
    }
    const int8_t *w1 = w + next * filter_bytes;
    const int32_t b0 = channel[0].bias, b1 = channel[next].bias;
    const sums2x2 start = {b0, b0, b1, b1};
    const sums2x2 s = windows2x2(job->stream, w, w1, in, in + job->in_pixel[1], start);
    const sums2x2 t =
        windows2x2(job->stream, w, w1, in + job->in_pixel[2], in + job->in_pixel[3], start);
    const int32x4_t sums0 = {s.s00, s.s01, t.s00, t.s01};
    const int32x4_t sums1 = {s.s10, s.s11, t.s10, t.s11};
    dtmm_store_tile(to, channel, sums0, out);
    dtmm_store_tile(to, channel + next, sums1, out + next);
    w += 2 * filter_bytes, channel += 2, out += 2;
  }
}

#else

static void tile_dense(const dtmm_tile_job *job, const int8_t *in, int8_t *out) {
  const int32_t runs = job->stream[0], bytes = job->stream[1] * DTMM_VECTOR_BYTES;
  const uint16_t *offsets = job->stream + 2;
  const int8_t *w = job->weights;
  for (int32_t filter = 0; filter < job->out_channels; ++filter) {
    const dtmm_channel_params *channel = job->params + filter;
    int32_t sums[DTMM_TILE] = {channel->bias, channel->bias, channel->bias, channel->bias};
    for (int32_t run = 0; run < runs; ++run, w += bytes) {
      const int8_t *x = in + DTMM_OFFSET_UNIT * offsets[run];
      dtmm_add_products(job, w, x, bytes, sums);
    }
    for (int32_t i = 0; i < DTMM_TILE; ++i) {
      out[(int32_t)job->out_pixel[i] + filter] = dtmm_finish(job, channel, sums[i]);
    }
  }
}

#endif

/* The stream of one window. */
DTMM_NO_INLINE static void list_window(const dtmm_conv_params *conv, const dtmm_tensor *in,
                                       uint16_t *stream) {
  const int32_t positions_per_run = conv->dilation_w == 1 ? conv->kernel_w : 1;
  *stream++ = (uint16_t)(conv->kernel_h * conv->kernel_w / positions_per_run);
  *stream++ = (uint16_t)(positions_per_run * (in->pixel_stride / DTMM_VECTOR_BYTES));
  dtmm_window_offsets(conv, in, positions_per_run, stream);
}

size_t dtmm_conv_dense_s8_get_buffer_size(const dtmm_conv_params *conv,
                                          const dtmm_conv_weights *weights, const dtmm_tensor *in,
                                          const dtmm_tensor *out) {
  (void)in, (void)out;
  const size_t words = weights->kernel != NULL
                           ? dtmm_conv_runs_entries(conv, weights->out_channels, NULL)
                           : (size_t)(2 + conv->kernel_h * conv->kernel_w);
  return words * sizeof(uint16_t);
}

dtmm_status dtmm_conv_dense_s8(const dtmm_conv_params *conv, const dtmm_conv_weights *weights,
                               const dtmm_tensor *in, const dtmm_tensor *out, void *scratch,
                               size_t scratch_size) {
  if (!dtmm_conv_is_valid(conv, weights, in, out) ||
      !dtmm_conv_is_vectorisable(conv, weights, in)) {
    return DTMM_BAD_ARGUMENT;
  }
  if (scratch_size < dtmm_conv_dense_s8_get_buffer_size(conv, weights, in, out)) {
    return DTMM_NO_SPACE;
  }
  if (scratch == NULL || !dtmm_aligned4(scratch)) return DTMM_BAD_ARGUMENT;
  if (weights->kernel != NULL) {
    dtmm_conv_weights dense = *weights;
    dense.index = NULL;
    dense.stream = NULL;
    return dtmm_conv_runs(conv, &dense, in, out, scratch, scratch_size / sizeof(uint16_t));
  }
  dtmm_tile_job job = {.weights = weights->weights,
                       .params = weights->params,
                       .stream = scratch,
                       .out_channels = weights->out_channels,
                       .in_stride = weights->in_stride,
                       .output = conv->output};
  list_window(conv, in, scratch);
  dtmm_walk_tiles(conv, in, out, &job, tile_dense, tile_dense);
  dtmm_fill_halo(out, conv->output.zero_point);
  return DTMM_OK;
}
