#include "dtmm_mul_internal.h"

#if DTMM_USE_MVE

DTMM_INLINE void mul_values(const dtmm_mul_constants *k, const int8_t *a, const int8_t *b,
                            int8_t *out, int32_t count, const int typical) {
  DTMM_NO_UNROLL
  for (; count > 0; count -= 4, a += 4, b += 4, out += 4) {
    const mve_pred16_t part = vctp32q((uint32_t)count);
    const int32x4_t factor = vsubq_n_s32(vldrbq_z_s32(b, part), k->p.b_zero_point);
    vstrbq_p_s32(out, dtmm_mul4(k, vldrbq_z_s32(a, part), factor, typical), part);
  }
}

static void mul_run(const dtmm_mul_params *mul, const int8_t *a, const int8_t *b, int8_t *out,
                    int32_t count) {
  const dtmm_mul_constants k = dtmm_make_mul_constants(mul);
  if (mul->shift < 0) {
    mul_values(&k, a, b, out, count, 1);
  } else {
    mul_values(&k, a, b, out, count, 0);
  }
}

#else

static void mul_run(const dtmm_mul_params *mul, const int8_t *a, const int8_t *b, int8_t *out,
                    int32_t count) {
  for (int32_t i = 0; i < count; ++i) out[i] = dtmm_mul(mul, a[i], b[i]);
}

#endif

dtmm_status dtmm_mul_s8(const dtmm_mul_params *mul, const dtmm_tensor *a, const dtmm_tensor *b,
                        const dtmm_tensor *out) {
  if (!dtmm_mul_is_valid(mul) || !dtmm_tensor_is_valid(a) || !dtmm_tensor_is_valid(b) ||
      !dtmm_tensor_is_valid(out) || !dtmm_same_shape(a, out) || !dtmm_same_shape(b, out)) {
    return DTMM_BAD_ARGUMENT;
  }
  const int rows = dtmm_rows_are_dense(a) && dtmm_rows_are_dense(b) && dtmm_rows_are_dense(out);
  const int32_t runs = rows ? 1 : out->width;
  const int32_t count = rows ? out->width * out->channels : out->channels;
  for (int32_t y = 0; y < out->height; ++y) {
    for (int32_t x = 0; x < runs; ++x) {
      mul_run(mul, dtmm_pixel(a, y, x), dtmm_pixel(b, y, x), dtmm_pixel(out, y, x), count);
    }
  }
  dtmm_fill_halo(out, mul->output.zero_point);
  return DTMM_OK;
}
