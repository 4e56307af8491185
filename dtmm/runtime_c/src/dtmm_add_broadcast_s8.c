#include "dtmm/ops.h"
#include "dtmm_internal.h"

#if DTMM_USE_MVE
#include "dtmm_mve.h"

/* Four channels of all pixels at a time: their rescaled summands stay in a register. */
static void add_channels(const dtmm_add_params *add, const dtmm_tensor *a, int32x4_t summands,
                         const dtmm_tensor *out, int32_t c) {
  const dtmm_add_params p = *add; /* stores to the output might alias the parameters otherwise */
  const int32x4_t low = vdupq_n_s32(p.output.activation_min);
  const int32x4_t high = vdupq_n_s32(p.output.activation_max);
  const int32x4_t one = vdupq_n_s32(1 << p.left_shift);
  const int32_t offset = -p.a_zero_point * (1 << p.left_shift);
  const mve_pred16_t part = vctp32q((uint32_t)(out->channels - c));
  for (int32_t y = 0; y < out->height; ++y) {
    const int8_t *from = dtmm_pixel(a, y, 0) + c;
    int8_t *to = dtmm_pixel(out, y, 0) + c;
    DTMM_NO_UNROLL
    for (int32_t x = out->width; x > 0; --x, from += a->pixel_stride, to += out->pixel_stride) {
      int32x4_t sum = vmlasq_n_s32(vldrbq_z_s32(from, part), one, offset);
      sum = vaddq_s32(dtmm_vrequantize(sum, p.a_multiplier, p.a_shift), summands);
      sum = dtmm_vrequantize(sum, p.out_multiplier, p.out_shift);
      sum = dtmm_vclamp(vaddq_n_s32(sum, p.output.zero_point), low, high);
      vstrbq_p_s32(to, sum, part);
    }
  }
}

static void add_pixel(const dtmm_add_params *add, const dtmm_tensor *a, const int8_t *b,
                      const dtmm_tensor *out) {
  for (int32_t c = 0; c < out->channels; c += 4) {
    const mve_pred16_t part = vctp32q((uint32_t)(out->channels - c));
    int32x4_t summands = vsubq_n_s32(vldrbq_z_s32(b + c, part), add->b_zero_point);
    summands = vmulq_n_s32(summands, 1 << add->left_shift);
    add_channels(add, a, dtmm_vrequantize(summands, add->b_multiplier, add->b_shift), out, c);
  }
}

#else

static void add_pixel(const dtmm_add_params *add, const dtmm_tensor *a, const int8_t *b,
                      const dtmm_tensor *out) {
  const int32_t one = 1 << add->left_shift;
  for (int32_t c = 0; c < out->channels; ++c) {
    const int32_t summand =
        dtmm_requantize((b[c] - add->b_zero_point) * one, add->b_multiplier, add->b_shift);
    for (int32_t y = 0; y < out->height; ++y) {
      for (int32_t x = 0; x < out->width; ++x) {
        const int32_t value = (dtmm_pixel(a, y, x)[c] - add->a_zero_point) * one;
        const int32_t sum = dtmm_requantize(value, add->a_multiplier, add->a_shift) + summand;
        const int32_t scaled = dtmm_requantize(sum, add->out_multiplier, add->out_shift);
        dtmm_pixel(out, y, x)[c] =
            (int8_t)dtmm_clamp(scaled + add->output.zero_point, &add->output);
      }
    }
  }
}

#endif

dtmm_status dtmm_add_broadcast_s8(const dtmm_add_params *add, const dtmm_tensor *a,
                                  const dtmm_tensor *b, const dtmm_tensor *out) {
  if (add == NULL || !dtmm_tensor_is_valid(a) || !dtmm_tensor_is_valid(b) ||
      !dtmm_tensor_is_valid(out) || !dtmm_same_shape(a, out) || b->height != 1 || b->width != 1 ||
      b->channels != out->channels || !dtmm_output_is_valid(&add->output) ||
      add->left_shift < 0 || add->left_shift > 22) {
    return DTMM_BAD_ARGUMENT;
  }
  add_pixel(add, a, b->data, out);
  dtmm_fill_halo(out, add->output.zero_point);
  return DTMM_OK;
}
