/* Vector helpers; included only where DTMM_USE_MVE holds. */
#ifndef DTMM_MVE_H
#define DTMM_MVE_H

#include <arm_mve.h>

#include "dtmm_internal.h"

#if defined(__clang__)
#define DTMM_UNROLL _Pragma("clang loop unroll(full)")
#else
#define DTMM_UNROLL _Pragma("GCC unroll 16")
#endif

/* dtmm_requantize() of four values with a negative shift. The vector rounding shift rounds ties up,
 * so one is subtracted from negative values first. */
DTMM_INLINE int32x4_t dtmm_vrequantize_right(int32x4_t x, int32_t multiplier, int32_t shift) {
  x = vqrdmulhq_n_s32(x, multiplier);
  x = vqaddq_s32(x, vshrq_n_s32(x, 31));
  return vrshlq_n_s32(x, shift);
}

/* dtmm_requantize() of four values. */
DTMM_INLINE int32x4_t dtmm_vrequantize(int32x4_t x, int32_t multiplier, int32_t shift) {
  if (DTMM_UNLIKELY(shift >= 0)) {
    return vqrdmulhq_n_s32(vshlq_r_s32(x, shift), multiplier);
  }
  return dtmm_vrequantize_right(x, multiplier, shift);
}

DTMM_INLINE int32x4_t dtmm_vclamp(int32x4_t x, int32x4_t low, int32x4_t high) {
  return vminq_s32(vmaxq_s32(x, low), high);
}

#endif
