#include "dtmm/ops.h"
#include "dtmm_internal.h"

#if DTMM_USE_MVE
#include "dtmm_mve.h"

static void mean_channels(const dtmm_mean_params *mean, const dtmm_tensor *in, int32_t start,
                          int8_t *out) {
  const int32x4_t low = vdupq_n_s32(mean->output.activation_min);
  const int32x4_t high = vdupq_n_s32(mean->output.activation_max);
  for (int32_t c = 0; c < in->channels; c += 4) {
    const mve_pred16_t part = vctp32q((uint32_t)(in->channels - c));
    int32x4_t sum = vdupq_n_s32(start);
    for (int32_t y = 0; y < in->height; ++y) {
      const int8_t *p = dtmm_pixel(in, y, 0) + c;
      for (int32_t x = in->width; x > 0; --x, p += in->pixel_stride) {
        sum = vaddq_s32(sum, vldrbq_z_s32(p, part));
      }
    }
    sum = dtmm_vrequantize(sum, mean->multiplier, mean->shift);
    sum = dtmm_vclamp(vaddq_n_s32(sum, mean->output.zero_point), low, high);
    vstrbq_p_s32(out + c, sum, part);
  }
}

#else

static void mean_channels(const dtmm_mean_params *mean, const dtmm_tensor *in, int32_t start,
                          int8_t *out) {
  for (int32_t c = 0; c < in->channels; ++c) {
    int32_t sum = start;
    for (int32_t y = 0; y < in->height; ++y) {
      for (int32_t x = 0; x < in->width; ++x) sum += dtmm_pixel(in, y, x)[c];
    }
    sum = dtmm_requantize(sum, mean->multiplier, mean->shift) + mean->output.zero_point;
    out[c] = (int8_t)dtmm_clamp(sum, &mean->output);
  }
}

#endif

dtmm_status dtmm_mean_s8(const dtmm_mean_params *mean, const dtmm_tensor *in,
                         const dtmm_tensor *out) {
  if (mean == NULL || !dtmm_tensor_is_valid(in) || !dtmm_tensor_is_valid(out) ||
      !dtmm_output_is_valid(&mean->output) || out->height != 1 || out->width != 1 ||
      out->channels != in->channels) {
    return DTMM_BAD_ARGUMENT;
  }
  mean_channels(mean, in, -mean->in_zero_point * in->height * in->width, out->data);
  dtmm_fill_halo(out, mean->output.zero_point);
  return DTMM_OK;
}
