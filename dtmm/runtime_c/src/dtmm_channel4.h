/* Requantization of four neighbouring output channels, a lane each; included only where DTMM_USE_MVE
 * holds. */
#ifndef DTMM_CHANNEL4_H
#define DTMM_CHANNEL4_H

#include "dtmm_mve.h"

/* Four channels' parameters, and which of the four there are: all but in the last vector. */
typedef struct {
  int32x4_t bias, multiplier, left, right; /* right is negative or 0 */
  int32x4_t low, high;
  int32_t zero_point;
  int usual; /* all four are there and shift to the right: no predicates, no shift to the left */
  mve_pred16_t part;
} dtmm_channel4;

DTMM_INLINE dtmm_channel4 dtmm_load_channels(const dtmm_channel_params *params, const dtmm_output_params *output,
                              int32_t channels) {
  const mve_pred16_t part = vctp32q((uint32_t)channels);
  const int32_t *p = &params->bias;
  const uint32x4_t words = vmulq_n_u32(vidupq_n_u32(0, 1), 3); /* a channel's words */
  const int32x4_t shift = vldrwq_gather_shifted_offset_z_s32(p + 2, words, part);
  const dtmm_channel4 k = {.bias = vldrwq_gather_shifted_offset_z_s32(p, words, part),
                      .multiplier = vldrwq_gather_shifted_offset_z_s32(p + 1, words, part),
                      .left = vmaxq_s32(shift, vdupq_n_s32(0)),
                      .right = vminq_s32(shift, vdupq_n_s32(0)),
                      .low = vdupq_n_s32(output->activation_min),
                      .high = vdupq_n_s32(output->activation_max),
                      .zero_point = output->zero_point,
                      .usual = channels >= 4 && vcmpgeq_n_s32(shift, 0) == 0,
                      .part = part};
  return k;
}

/* dtmm_requantize() of four channels. */
DTMM_INLINE int32x4_t dtmm_requantize_channels(const dtmm_channel4 *k, int32x4_t x) {
  x = vqrdmulhq_s32(vshlq_s32(x, k->left), k->multiplier);
  /* The vector rounding shift rounds ties up; -1 before a right shift of negative values. */
  const int32x4_t sign = vandq_s32(vshrq_n_s32(x, 31), vshrq_n_s32(k->right, 31));
  return vrshlq_s32(vqaddq_s32(x, sign), k->right);
}

/* Four channels of an output pixel from their sums, which hold the bias. `usual`: see `usual` of
 * dtmm_channel4. */
DTMM_INLINE void dtmm_store_channels(const dtmm_channel4 *k, int usual, int32x4_t sums,
                                     int8_t *out) {
  if (usual) {
    int32x4_t v = vqrdmulhq_s32(sums, k->multiplier);
    v = vrshlq_s32(vqaddq_s32(v, vshrq_n_s32(v, 31)), k->right);
    vstrbq_s32(out, dtmm_vclamp(vaddq_n_s32(v, k->zero_point), k->low, k->high));
  } else {
    const int32x4_t v = vaddq_n_s32(dtmm_requantize_channels(k, sums), k->zero_point);
    vstrbq_p_s32(out, dtmm_vclamp(v, k->low, k->high), k->part);
  }
}

#endif
