/* What the two multiplications share. */
#ifndef DTMM_MUL_INTERNAL_H
#define DTMM_MUL_INTERNAL_H

#include "dtmm/ops.h"
#include "dtmm_internal.h"

DTMM_INLINE int dtmm_mul_is_valid(const dtmm_mul_params *mul) {
  return mul != NULL && dtmm_output_is_valid(&mul->output) && dtmm_is_int8(mul->a_zero_point) &&
         dtmm_is_int8(mul->b_zero_point);
}

#if DTMM_USE_MVE
#include "dtmm_mve.h"

/* The call's constants in registers: stores to the output might alias the parameters otherwise. */
typedef struct {
  dtmm_mul_params p;
  int32x4_t low, high;
} dtmm_mul_constants;

DTMM_INLINE dtmm_mul_constants dtmm_make_mul_constants(const dtmm_mul_params *mul) {
  const dtmm_mul_constants k = {.p = *mul,
                                .low = vdupq_n_s32(mul->output.activation_min),
                                .high = vdupq_n_s32(mul->output.activation_max)};
  return k;
}

/* Four products; b comes without its zero point. `typical`: the shift is negative. */
DTMM_INLINE int32x4_t dtmm_mul4(const dtmm_mul_constants *k, int32x4_t a, int32x4_t b,
                                const int typical) {
  int32x4_t x = vmulq_s32(vsubq_n_s32(a, k->p.a_zero_point), b);
  x = typical ? dtmm_vrequantize_right(x, k->p.multiplier, k->p.shift)
              : dtmm_vrequantize(x, k->p.multiplier, k->p.shift);
  return dtmm_vclamp(vaddq_n_s32(x, k->p.output.zero_point), k->low, k->high);
}
#else
DTMM_INLINE int8_t dtmm_mul(const dtmm_mul_params *mul, int8_t a, int8_t b) {
  const int32_t product = (a - mul->a_zero_point) * (b - mul->b_zero_point);
  const int32_t scaled = dtmm_requantize(product, mul->multiplier, mul->shift);
  return (int8_t)dtmm_clamp(scaled + mul->output.zero_point, &mul->output);
}
#endif

#endif
