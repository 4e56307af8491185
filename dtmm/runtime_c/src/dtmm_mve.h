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

/* Stops the compiler from recomputing a running pointer from loop counters after the loop. */
#define DTMM_KEEP_IN_REGISTER(pointer) __asm__("" : "+r"(pointer))

/* Four values of one output channel; equal to dtmm_requantize() lane by lane. The vector rounding
 * shift rounds ties up, so one is subtracted from negative values first. */
DTMM_INLINE int32x4_t dtmm_vrequantize(int32x4_t x, int32_t multiplier, int32_t shift) {
  if (DTMM_UNLIKELY(shift >= 0)) {
    return vqrdmulhq_n_s32(vshlq_r_s32(x, shift), multiplier);
  }
  x = vqrdmulhq_n_s32(x, multiplier);
  x = vqaddq_s32(x, vshrq_n_s32(x, 31));
  return vrshlq_n_s32(x, shift);
}

DTMM_INLINE int32x4_t dtmm_vclamp(int32x4_t x, int32x4_t low, int32x4_t high) {
  return vminq_s32(vmaxq_s32(x, low), high);
}

/* 16 bytes from a 4-byte aligned address: the word load reaches further than the byte load's
 * immediate (508 against 127 bytes). */
DTMM_INLINE int8x16_t dtmm_vload_aligned(const int8_t *p) {
  return vreinterpretq_s8_s32(vldrwq_s32((const int32_t *)(const void *)p));
}

#endif
