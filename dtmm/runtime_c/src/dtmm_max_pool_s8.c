#include "dtmm_pool_internal.h"

#if DTMM_USE_MVE
#include "dtmm_mve.h"

/* Of the usual windows the size is known when this is compiled: no loops, no predicates. */
DTMM_INLINE int8x16_t max_of_pixels(const int8_t *first, int32_t row_stride, int32_t pixel_stride,
                                    const int32_t height, const int32_t width, int8x16_t best) {
  DTMM_UNROLL
  for (int32_t y = 0; y < height; ++y) {
    DTMM_UNROLL
    for (int32_t x = 0; x < width; ++x) {
      best = vmaxq_s8(best, vldrbq_s8(first + y * row_stride + x * pixel_stride));
    }
  }
  return best;
}

static int32_t max_of_two_by_two(const dtmm_tensor *in, const int8_t *first, int8x16_t low,
                                 int8x16_t high, int8_t *out) {
  int32_t c = 0;
  DTMM_NO_UNROLL
  for (; c + DTMM_VECTOR_BYTES <= in->channels; c += DTMM_VECTOR_BYTES) {
    const int8x16_t best = max_of_pixels(first + c, in->row_stride, in->pixel_stride, 2, 2, low);
    vstrbq_s8(out + c, vminq_s8(best, high));
  }
  return c;
}

static void max_of_window(const dtmm_pool_params *pool, const dtmm_tensor *in,
                          const dtmm_pool_window *window, int8_t *out) {
  const int8x16_t low = vdupq_n_s8((int8_t)pool->output.activation_min);
  const int8x16_t high = vdupq_n_s8((int8_t)pool->output.activation_max);
  int32_t c = 0;
  if (window->height == 2 && window->width == 2) {
    c = max_of_two_by_two(in, window->data, low, high, out);
  }
  for (; c < in->channels; c += DTMM_VECTOR_BYTES) {
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
