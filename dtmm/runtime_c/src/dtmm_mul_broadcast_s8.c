#include "dtmm_mul_internal.h"

#if DTMM_USE_MVE

/* Four channels of all pixels at a time: their factors stay in a register. */
DTMM_INLINE void scale_channels(const dtmm_mul_constants *k, const dtmm_tensor *a,
                                int32x4_t factors, const dtmm_tensor *out, int32_t c,
                                const int typical) {
  const mve_pred16_t part = vctp32q((uint32_t)(out->channels - c));
  for (int32_t y = 0; y < out->height; ++y) {
    const int8_t *from = dtmm_pixel(a, y, 0) + c;
    int8_t *to = dtmm_pixel(out, y, 0) + c;
    DTMM_NO_UNROLL
    for (int32_t x = out->width; x > 0; --x, from += a->pixel_stride, to += out->pixel_stride) {
      vstrbq_p_s32(to, dtmm_mul4(k, vldrbq_z_s32(from, part), factors, typical), part);
    }
  }
}

static void mul_by_pixel(const dtmm_mul_params *mul, const dtmm_tensor *a, const int8_t *b,
                         const dtmm_tensor *out) {
  const dtmm_mul_constants k = dtmm_make_mul_constants(mul);
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

static void mul_by_pixel(const dtmm_mul_params *mul, const dtmm_tensor *a, const int8_t *b,
                         const dtmm_tensor *out) {
  for (int32_t y = 0; y < out->height; ++y) {
    for (int32_t x = 0; x < out->width; ++x) {
      const int8_t *from = dtmm_pixel(a, y, x);
      int8_t *to = dtmm_pixel(out, y, x);
      for (int32_t c = 0; c < out->channels; ++c) to[c] = dtmm_mul(mul, from[c], b[c]);
    }
  }
}

#endif

dtmm_status dtmm_mul_broadcast_s8(const dtmm_mul_params *mul, const dtmm_tensor *a,
                                  const dtmm_tensor *b, const dtmm_tensor *out) {
  if (!dtmm_mul_is_valid(mul) || !dtmm_tensor_is_valid(a) || !dtmm_tensor_is_valid(b) ||
      !dtmm_tensor_is_valid(out) || !dtmm_same_shape(a, out) || b->height != 1 || b->width != 1 ||
      b->channels != out->channels) {
    return DTMM_BAD_ARGUMENT;
  }
  mul_by_pixel(mul, a, b->data, out);
  dtmm_fill_halo(out, mul->output.zero_point);
  return DTMM_OK;
}
