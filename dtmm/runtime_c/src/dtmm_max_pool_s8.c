#include "dtmm_pool_internal.h"

#if DTMM_USE_MVE
#include "dtmm_mve.h"

static void max_of_window(const dtmm_pool_params *pool, const dtmm_tensor *in,
                          const dtmm_pool_window *window, int8_t *out) {
  const int8x16_t low = vdupq_n_s8((int8_t)pool->output.activation_min);
  const int8x16_t high = vdupq_n_s8((int8_t)pool->output.activation_max);
  for (int32_t c = 0; c < in->channels; c += 16) {
    const mve_pred16_t part = vctp8q((uint32_t)(in->channels - c));
    int8x16_t best = low;
    for (int32_t y = 0; y < window->height; ++y) {
      const int8_t *p = window->data + y * in->row_stride + c;
      for (int32_t x = window->width; x > 0; --x, p += in->pixel_stride) {
        best = vmaxq_s8(best, vldrbq_z_s8(p, part));
      }
    }
    vstrbq_p_s8(out + c, vminq_s8(best, high), part);
  }
}

#else

static void max_of_window(const dtmm_pool_params *pool, const dtmm_tensor *in,
                          const dtmm_pool_window *window, int8_t *out) {
  for (int32_t c = 0; c < in->channels; ++c) {
    int32_t best = INT8_MIN;
    for (int32_t y = 0; y < window->height; ++y) {
      const int8_t *p = window->data + y * in->row_stride + c;
      for (int32_t x = 0; x < window->width; ++x) best = dtmm_max(best, p[x * in->pixel_stride]);
    }
    out[c] = (int8_t)dtmm_clamp(best, &pool->output);
  }
}

#endif

dtmm_status dtmm_max_pool_s8(const dtmm_pool_params *pool, const dtmm_tensor *in,
                             const dtmm_tensor *out) {
  return dtmm_walk_pool(pool, in, out, max_of_window);
}
