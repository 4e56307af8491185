/* The inner loops of the convolutions: one filter x 4 pixels, and 2 filters x 4 pixels.
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

#else

DTMM_INLINE int32_t dtmm_dot(const int8_t *a, const int8_t *b, int32_t bytes) {
  int32_t sum = 0;
  for (int32_t i = 0; i < bytes; ++i) sum += a[i] * b[i];
  return sum;
}

DTMM_INLINE int8_t dtmm_finish(const dtmm_tile_job *job, const dtmm_channel_params *channel,
                               int32_t sum) {
  const int32_t v = dtmm_requantize(sum, channel->multiplier, channel->shift);
  return (int8_t)dtmm_clamp(v + job->output.zero_point, &job->output);
}

#endif
#endif
