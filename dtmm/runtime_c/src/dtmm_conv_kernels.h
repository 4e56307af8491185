/* Inner loops that several convolutions use.
 *
 * A Cortex-M55 issues a vector load and a vector multiply-accumulate in parallel, each for two
 * cycles, so loads per multiply-accumulate decide: 5/4 for one filter, 1 for 2 filters x 2 pixels. */
#ifndef DTMM_CONV_KERNELS_H
#define DTMM_CONV_KERNELS_H

#include "dtmm_conv_internal.h"

#if DTMM_USE_MVE

#include "dtmm_mve.h"

/* What every store of a tile needs, in registers: stores to `out` might alias the job otherwise. */
typedef struct {
  uint32x4_t pixel;
  int32x4_t low, high;
  int32_t zero_point;
} dtmm_tile_output;

DTMM_INLINE dtmm_tile_output dtmm_tile_output_of(const dtmm_tile_job *job) {
  const dtmm_tile_output o = {vldrwq_u32(job->out_pixel), vdupq_n_s32(job->output.activation_min),
                              vdupq_n_s32(job->output.activation_max), job->output.zero_point};
  return o;
}

/* Requantizes the tile's four sums of one output channel and stores a byte each. */
DTMM_INLINE void dtmm_store_tile(dtmm_tile_output to, const dtmm_channel_params *channel,
                                 int32x4_t sums, int8_t *out) {
  int32x4_t v = dtmm_vrequantize(sums, channel->multiplier, channel->shift);
  v = dtmm_vclamp(vaddq_n_s32(v, to.zero_point), to.low, to.high);
  vstrbq_scatter_offset_s32(out, to.pixel, v);
}

/* Adds the products of a filter's `n` filterlets to s0..s3 and moves w and stream past them. The
 * number of channels is known at compile time and the pixels are neighbours, so every address is an
 * immediate off one pointer. In assembler because the compilers keep neither the order that pairs
 * loads with multiplications nor the running pointers: 5 to 15 % of the operator. */
#define DTMM_ADD_FILTERLETS(CHANNELS, EACH_VECTOR)                                               \
  __asm__ volatile(                                                                              \
      "wls lr, %[n], 2f\n"                                                                       \
      "1:\n"                                                                                     \
      "ldrh %[x], [%[stream]], #2\n"                                                             \
      "add %[x], %[in], %[x], lsl #2\n"                                                          \
      ".irp at, " EACH_VECTOR "\n"                                                               \
      "vldrw.u32 q0, [%[w]], #16\n"                                                              \
      "vldrw.u32 q1, [%[x], #\\at]\n"                                                            \
      "vmladava.s8 %[s0], q0, q1\n"                                                              \
      "vldrw.u32 q2, [%[x], #\\at + " #CHANNELS "]\n"                                            \
      "vmladava.s8 %[s1], q0, q2\n"                                                              \
      "vldrw.u32 q1, [%[x], #\\at + 2 * " #CHANNELS "]\n"                                        \
      "vmladava.s8 %[s2], q0, q1\n"                                                              \
      "vldrw.u32 q2, [%[x], #\\at + 3 * " #CHANNELS "]\n"                                        \
      "vmladava.s8 %[s3], q0, q2\n"                                                              \
      ".endr\n"                                                                                  \
      "le lr, 1b\n"                                                                              \
      "2:\n"                                                                                     \
      : [s0] "+Te"(s0), [s1] "+Te"(s1), [s2] "+Te"(s2), [s3] "+Te"(s3),                          \
        [w] "+r"(w), [stream] "+r"(stream), [x] "=&r"(x)                                         \
      : [n] "r"(n), [in] "r"(in)                                                                 \
      : "lr", "q0", "q1", "q2", "memory")

/* A tile kernel on it. `stream`: per filter the number of filterlets, then their window offsets; or
 * those of one filter for all, where SAME_STREAM. */
#define DTMM_TILE_OF_NEIGHBOURS(NAME, CHANNELS, EACH_VECTOR, SAME_STREAM)                        \
  static void NAME(const dtmm_tile_job *job, const int8_t *in, int8_t *out) {                    \
    const dtmm_tile_output to = dtmm_tile_output_of(job);                                        \
    const int8_t *w = job->weights, *x;                                                          \
    const uint16_t *stream = job->stream;                                                        \
    const dtmm_channel_params *channel = job->params;                                            \
    for (int32_t filter = job->out_channels; filter > 0; --filter, ++channel, ++out) {           \
      int32_t s0 = channel->bias, s1 = s0, s2 = s0, s3 = s0;                                     \
      if (SAME_STREAM) stream = job->stream;                                                     \
      const int32_t n = *stream++;                                                               \
      DTMM_ADD_FILTERLETS(CHANNELS, EACH_VECTOR);                                                \
      const int32x4_t sums = {s0, s1, s2, s3};                                                   \
      dtmm_store_tile(to, channel, sums, out);                                                   \
    }                                                                                            \
  }

#else

/* x86's VNNI multiplies signed by unsigned bytes alone: there inputs are read 128 too large. */
#if defined(__AVXVNNI__) || defined(__AVX512VNNI__)
#define DTMM_INPUT_OFFSET 128
#define DTMM_INPUT(x) (uint8_t)((x) ^ 128)
#else
#define DTMM_INPUT_OFFSET 0
#define DTMM_INPUT(x) (x)
#endif

/* Adds the products of `bytes` weights with the windows of the tile's pixels, `x` the first one's. */
DTMM_INLINE void dtmm_add_products(const dtmm_tile_job *job, const int8_t *w, const int8_t *x,
                                   int32_t bytes, int32_t sums[DTMM_TILE]) {
  const int8_t *x0 = x + job->in_pixel[0], *x1 = x + job->in_pixel[1];
  const int8_t *x2 = x + job->in_pixel[2], *x3 = x + job->in_pixel[3];
  int32_t s0 = 0, s1 = 0, s2 = 0, s3 = 0, weights = 0;
  for (int32_t i = 0; i < bytes; ++i) {
    s0 += w[i] * DTMM_INPUT(x0[i]);
    s1 += w[i] * DTMM_INPUT(x1[i]);
    s2 += w[i] * DTMM_INPUT(x2[i]);
    s3 += w[i] * DTMM_INPUT(x3[i]);
    weights += w[i];
  }
  sums[0] = dtmm_add_wrapping(sums[0], s0 - DTMM_INPUT_OFFSET * weights);
  sums[1] = dtmm_add_wrapping(sums[1], s1 - DTMM_INPUT_OFFSET * weights);
  sums[2] = dtmm_add_wrapping(sums[2], s2 - DTMM_INPUT_OFFSET * weights);
  sums[3] = dtmm_add_wrapping(sums[3], s3 - DTMM_INPUT_OFFSET * weights);
}

DTMM_INLINE int8_t dtmm_finish(const dtmm_tile_job *job, const dtmm_channel_params *channel,
                               int32_t sum) {
  const int32_t v = dtmm_requantize(sum, channel->multiplier, channel->shift);
  return (int8_t)dtmm_clamp(dtmm_add_wrapping(v, job->output.zero_point), &job->output);
}

#endif
#endif
