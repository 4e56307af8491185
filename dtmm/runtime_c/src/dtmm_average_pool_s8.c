/* TFLite AVERAGE_POOL_2D: the sum of the window's pixels inside the image over their number, rounded
 * with ties away from zero. */
#include "dtmm_pool_internal.h"

#if DTMM_USE_MVE
#include "dtmm_mve.h"

/* Division of |sum| + pixels / 2 by `pixels` is a multiplication by ceil(2^32 / pixels): exact while
 * 129 * pixels^2 < 2^32, that is up to 5000 pixels. */
#define MAX_PIXELS 5000

static void average_of_window(const dtmm_pool_params *pool, const dtmm_tensor *in,
                              const dtmm_pool_window *window, int8_t *out) {
  const int32x4_t low = vdupq_n_s32(pool->output.activation_min);
  const int32x4_t high = vdupq_n_s32(pool->output.activation_max);
  const uint32_t pixels = (uint32_t)(window->height * window->width);
  const uint32x4_t reciprocal = vdupq_n_u32(UINT32_MAX / pixels + 1); /* unused for 1 pixel */
  for (int32_t c = 0; c < in->channels; c += 4) {
    const mve_pred16_t part = vctp32q((uint32_t)(in->channels - c));
    int32x4_t sum = vdupq_n_s32(0);
    for (int32_t y = 0; y < window->height; ++y) {
      const int8_t *p = window->data + y * in->row_stride + c;
      for (int32_t x = window->width; x > 0; --x, p += in->pixel_stride) {
        sum = vaddq_s32(sum, vldrbq_z_s32(p, part));
      }
    }
    if (pixels > 1) {
      const uint32x4_t size = vaddq_n_u32(vreinterpretq_u32_s32(vabsq_s32(sum)), pixels / 2);
      const int32x4_t mean = vreinterpretq_s32_u32(vmulhq_u32(size, reciprocal));
      sum = vnegq_m_s32(mean, mean, vcmpltq_n_s32(sum, 0));
    }
    vstrbq_p_s32(out + c, dtmm_vclamp(sum, low, high), part);
  }
}

#else

#define MAX_PIXELS INT32_MAX

static void average_of_window(const dtmm_pool_params *pool, const dtmm_tensor *in,
                              const dtmm_pool_window *window, int8_t *out) {
  const int32_t pixels = window->height * window->width;
  for (int32_t c = 0; c < in->channels; ++c) {
    int32_t sum = 0;
    for (int32_t y = 0; y < window->height; ++y) {
      const int8_t *p = window->data + y * in->row_stride + c;
      for (int32_t x = 0; x < window->width; ++x) sum += p[x * in->pixel_stride];
    }
    sum = (sum > 0 ? sum + pixels / 2 : sum - pixels / 2) / pixels;
    out[c] = (int8_t)dtmm_clamp(sum, &pool->output);
  }
}

#endif

dtmm_status dtmm_average_pool_s8(const dtmm_pool_params *pool, const dtmm_tensor *in,
                                 const dtmm_tensor *out) {
  if (pool != NULL && (int64_t)pool->window_h * pool->window_w > MAX_PIXELS) {
    return DTMM_UNSUPPORTED;
  }
  return dtmm_walk_pool(pool, in, out, average_of_window);
}
