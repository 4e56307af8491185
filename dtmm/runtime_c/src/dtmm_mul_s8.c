#include "dtmm/ops.h"
#include "dtmm_internal.h"

#if DTMM_USE_MVE
#include "dtmm_mve.h"

/* The call's constants in registers: stores to the output might alias the parameters otherwise. */
typedef struct {
  dtmm_mul_params p;
  int32x4_t low, high;
} mul_constants;

static mul_constants make_constants(const dtmm_mul_params *mul) {
  const mul_constants k = {.p = *mul,
                           .low = vdupq_n_s32(mul->output.activation_min),
                           .high = vdupq_n_s32(mul->output.activation_max)};
  return k;
}

/* Four products; `typical`: the shift is negative. b comes without its zero point. */
DTMM_INLINE int32x4_t mul4(const mul_constants *k, int32x4_t a, int32x4_t b, const int typical) {
  int32x4_t x = vmulq_s32(vsubq_n_s32(a, k->p.a_zero_point), b);
  x = typical ? dtmm_vrequantize_right(x, k->p.multiplier, k->p.shift)
              : dtmm_vrequantize(x, k->p.multiplier, k->p.shift);
  return dtmm_vclamp(vaddq_n_s32(x, k->p.output.zero_point), k->low, k->high);
}

DTMM_INLINE void mul_values(const mul_constants *k, const int8_t *a, const int8_t *b, int8_t *out,
                            int32_t count, const int typical) {
  DTMM_NO_UNROLL
  for (; count > 0; count -= 4, a += 4, b += 4, out += 4) {
    const mve_pred16_t part = vctp32q((uint32_t)count);
    const int32x4_t factor = vsubq_n_s32(vldrbq_z_s32(b, part), k->p.b_zero_point);
    vstrbq_p_s32(out, mul4(k, vldrbq_z_s32(a, part), factor, typical), part);
  }
}

static void mul_run(const dtmm_mul_params *mul, const int8_t *a, const int8_t *b, int8_t *out,
                    int32_t count) {
  const mul_constants k = make_constants(mul);
  if (mul->shift < 0) {
    mul_values(&k, a, b, out, count, 1);
  } else {
    mul_values(&k, a, b, out, count, 0);
  }
}

/* Four channels of all pixels at a time: their factors stay in a register. */
DTMM_INLINE void scale_channels(const mul_constants *k, const dtmm_tensor *a, int32x4_t factors,
                                const dtmm_tensor *out, int32_t c, const int typical) {
  const mve_pred16_t part = vctp32q((uint32_t)(out->channels - c));
  for (int32_t y = 0; y < out->height; ++y) {
    const int8_t *from = dtmm_pixel(a, y, 0) + c;
    int8_t *to = dtmm_pixel(out, y, 0) + c;
    DTMM_NO_UNROLL
    for (int32_t x = out->width; x > 0; --x, from += a->pixel_stride, to += out->pixel_stride) {
      vstrbq_p_s32(to, mul4(k, vldrbq_z_s32(from, part), factors, typical), part);
    }
  }
}

static void mul_by_pixel(const dtmm_mul_params *mul, const dtmm_tensor *a, const int8_t *b,
                         const dtmm_tensor *out) {
  const mul_constants k = make_constants(mul);
  for (int32_t c = 0; c < out->channels; c += 4) {
    const mve_pred16_t part = vctp32q((uint32_t)(out->channels - c));
    const int32x4_t factors = vsubq_n_s32(vldrbq_z_s32(b + c, part), mul->b_zero_point);
    if (mul->shift < 0) {
      scale_channels(&k, a, factors, out, c, 1);
    } else {
      scale_channels(&k, a, factors, out, c, 0);
    }
  }
}

#else

static void mul_run(const dtmm_mul_params *mul, const int8_t *a, const int8_t *b, int8_t *out,
                    int32_t count) {
  for (int32_t i = 0; i < count; ++i) {
    const int32_t product = (a[i] - mul->a_zero_point) * (b[i] - mul->b_zero_point);
    const int32_t scaled = dtmm_requantize(product, mul->multiplier, mul->shift);
    out[i] = (int8_t)dtmm_clamp(scaled + mul->output.zero_point, &mul->output);
  }
}

static void mul_by_pixel(const dtmm_mul_params *mul, const dtmm_tensor *a, const int8_t *b,
                         const dtmm_tensor *out) {
  for (int32_t y = 0; y < out->height; ++y) {
    for (int32_t x = 0; x < out->width; ++x) {
      mul_run(mul, dtmm_pixel(a, y, x), b, dtmm_pixel(out, y, x), out->channels);
    }
  }
}

#endif

static void mul_same_shape(const dtmm_mul_params *mul, const dtmm_tensor *a, const dtmm_tensor *b,
                           const dtmm_tensor *out) {
  const int rows = dtmm_rows_are_dense(a) && dtmm_rows_are_dense(b) && dtmm_rows_are_dense(out);
  const int32_t runs = rows ? 1 : out->width;
  const int32_t count = rows ? out->width * out->channels : out->channels;
  for (int32_t y = 0; y < out->height; ++y) {
    for (int32_t x = 0; x < runs; ++x) {
      mul_run(mul, dtmm_pixel(a, y, x), dtmm_pixel(b, y, x), dtmm_pixel(out, y, x), count);
    }
  }
}

dtmm_status dtmm_mul_s8(const dtmm_mul_params *mul, const dtmm_tensor *a, const dtmm_tensor *b,
                        const dtmm_tensor *out) {
  if (mul == NULL || !dtmm_tensor_is_valid(a) || !dtmm_tensor_is_valid(b) ||
      !dtmm_tensor_is_valid(out) || !dtmm_same_shape(a, out) ||
      !dtmm_output_is_valid(&mul->output) || !dtmm_is_int8(mul->a_zero_point) ||
      !dtmm_is_int8(mul->b_zero_point)) {
    return DTMM_BAD_ARGUMENT;
  }
  if (dtmm_same_shape(b, out)) {
    mul_same_shape(mul, a, b, out);
  } else if (b->height == 1 && b->width == 1 && b->channels == out->channels) {
    mul_by_pixel(mul, a, b->data, out);
  } else {
    return DTMM_BAD_ARGUMENT;
  }
  dtmm_fill_halo(out, mul->output.zero_point);
  return DTMM_OK;
}
