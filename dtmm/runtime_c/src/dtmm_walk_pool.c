#include "dtmm_pool_internal.h"

/* Every window must hold at least one pixel of the image. */
static int windows_fit(int32_t in, int32_t out, int32_t window, int32_t stride, int32_t pad) {
  return window > 0 && stride > 0 && pad >= 0 && pad < window && (out - 1) * stride - pad < in;
}

dtmm_status dtmm_walk_pool(const dtmm_pool_params *pool, const dtmm_tensor *in,
                           const dtmm_tensor *out, dtmm_pool_kernel kernel) {
  if (pool == NULL || !dtmm_tensor_is_valid(in) || !dtmm_tensor_is_valid(out) ||
      !dtmm_output_is_valid(&pool->output) || in->channels != out->channels ||
      !windows_fit(in->height, out->height, pool->window_h, pool->stride_h, pool->pad_top) ||
      !windows_fit(in->width, out->width, pool->window_w, pool->stride_w, pool->pad_left)) {
    return DTMM_BAD_ARGUMENT;
  }
  for (int32_t y = 0; y < out->height; ++y) {
    const int32_t top = y * pool->stride_h - pool->pad_top;
    const int32_t first_y = dtmm_max(top, 0);
    for (int32_t x = 0; x < out->width; ++x) {
      const int32_t left = x * pool->stride_w - pool->pad_left;
      const int32_t first_x = dtmm_max(left, 0);
      const dtmm_pool_window window = {
          .data = dtmm_pixel(in, first_y, first_x),
          .height = dtmm_min(top + pool->window_h, in->height) - first_y,
          .width = dtmm_min(left + pool->window_w, in->width) - first_x};
      kernel(pool, in, &window, dtmm_pixel(out, y, x));
    }
  }
  dtmm_fill_halo(out, pool->output.zero_point);
  return DTMM_OK;
}
