#include "dtmm/ops.h"
#include "dtmm_internal.h"

#if DTMM_USE_MVE
#include "dtmm_mve.h"

/* (x - zero_point) * 2^left_shift, requantized; `one` is 2^left_shift in every lane. */
DTMM_INLINE int32x4_t scale_input(int32x4_t x, int32x4_t one, int32_t minus_zero_point,
                                  int32_t multiplier, int32_t shift) {
  return dtmm_vrequantize(vmlasq_n_s32(x, one, minus_zero_point), multiplier, shift);
}

static void add_run(const dtmm_add_params *add, const int8_t *a, const int8_t *b, int8_t *out,
                    int32_t count) {
  const int32x4_t one = vdupq_n_s32(1 << add->left_shift);
  const int32x4_t low = vdupq_n_s32(add->output.activation_min);
  const int32x4_t high = vdupq_n_s32(add->output.activation_max);
  const int32_t a_offset = -add->a_zero_point * (1 << add->left_shift);
  const int32_t b_offset = -add->b_zero_point * (1 << add->left_shift);
  for (; count > 0; count -= 4, a += 4, b += 4, out += 4) {
    const mve_pred16_t part = vctp32q((uint32_t)count);
    const int32x4_t x =
        scale_input(vldrbq_z_s32(a, part), one, a_offset, add->a_multiplier, add->a_shift);
    const int32x4_t y =
        scale_input(vldrbq_z_s32(b, part), one, b_offset, add->b_multiplier, add->b_shift);
    int32x4_t sum = dtmm_vrequantize(vaddq_s32(x, y), add->out_multiplier, add->out_shift);
    sum = dtmm_vclamp(vaddq_n_s32(sum, add->output.zero_point), low, high);
    vstrbq_p_s32(out, sum, part);
  }
}

#else

static void add_run(const dtmm_add_params *add, const int8_t *a, const int8_t *b, int8_t *out,
                    int32_t count) {
  const int32_t one = 1 << add->left_shift;
  for (int32_t i = 0; i < count; ++i) {
    const int32_t x =
        dtmm_requantize((a[i] - add->a_zero_point) * one, add->a_multiplier, add->a_shift);
    const int32_t y =
        dtmm_requantize((b[i] - add->b_zero_point) * one, add->b_multiplier, add->b_shift);
    const int32_t sum = dtmm_requantize(x + y, add->out_multiplier, add->out_shift);
    out[i] = (int8_t)dtmm_clamp(sum + add->output.zero_point, &add->output);
  }
}

#endif

dtmm_status dtmm_add_s8(const dtmm_add_params *add, const dtmm_tensor *a, const dtmm_tensor *b,
                        const dtmm_tensor *out) {
  if (add == NULL || !dtmm_tensor_is_valid(a) || !dtmm_tensor_is_valid(b) ||
      !dtmm_tensor_is_valid(out) || !dtmm_same_shape(a, out) || !dtmm_same_shape(b, out) ||
      !dtmm_output_is_valid(&add->output) || add->left_shift < 0 || add->left_shift > 22) {
    return DTMM_BAD_ARGUMENT;
  }
  const int rows = dtmm_rows_are_dense(a) && dtmm_rows_are_dense(b) && dtmm_rows_are_dense(out);
  const int32_t runs = rows ? 1 : out->width;
  const int32_t count = rows ? out->width * out->channels : out->channels;
  for (int32_t y = 0; y < out->height; ++y) {
    for (int32_t x = 0; x < runs; ++x) {
      add_run(add, dtmm_pixel(a, y, x), dtmm_pixel(b, y, x), dtmm_pixel(out, y, x), count);
    }
  }
  dtmm_fill_halo(out, add->output.zero_point);
  return DTMM_OK;
}
