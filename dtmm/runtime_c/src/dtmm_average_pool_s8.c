/* TFLite AVERAGE_POOL_2D: the sum of the window's pixels inside the image over their number, rounded
 * with ties away from zero. */
#include "dtmm_pool_internal.h"

#if DTMM_USE_MVE
#include "dtmm_mve.h"

/* Division of |sum| + pixels / 2 by `pixels` is a multiplication by ceil(2^32 / pixels): exact while
 * 129 * pixels^2 < 2^32, that is up to 5000 pixels. */
#define MAX_PIXELS 5000

/* A sum of so many int8 fits in 16 bits. */
#define MAX_SHORT_PIXELS 255

/* What the division by a window's pixels needs. */
typedef struct {
  uint32_t pixels;
  uint32x4_t reciprocal; /* unused for 1 pixel */
  int32x4_t low, high;
} divisor;

DTMM_INLINE int32x4_t average(const divisor *d, int32x4_t sum) {
  if (d->pixels > 1) {
    const uint32x4_t size = vaddq_n_u32(vreinterpretq_u32_s32(vabsq_s32(sum)), d->pixels / 2);
    const int32x4_t mean = vreinterpretq_s32_u32(vmulhq_u32(size, d->reciprocal));
    sum = vnegq_m_s32(mean, mean, vcmpltq_n_s32(sum, 0));
  }
  return dtmm_vclamp(sum, d->low, d->high);
}

/* Eight channels at a time; even and odd ones are divided apart. */
static void average_of_few(const divisor *d, const dtmm_tensor *in, const dtmm_pool_window *window,
                           int8_t *out) {
  for (int32_t c = 0; c < in->channels; c += 8) {
    const mve_pred16_t part = vctp16q((uint32_t)(in->channels - c));
    int16x8_t sum = vdupq_n_s16(0);
    for (int32_t y = 0; y < window->height; ++y) {
      const int8_t *p = window->data + y * in->row_stride + c;
      DTMM_NO_UNROLL
      for (int32_t x = window->width; x > 0; --x, p += in->pixel_stride) {
        sum = vaddq_s16(sum, vldrbq_z_s16(p, part));
      }
    }
    const int32x4_t even = average(d, vmovlbq_s16(sum)), odd = average(d, vmovltq_s16(sum));
    vstrbq_p_s16(out + c, vmovntq_s32(vmovnbq_s32(sum, even), odd), part);
  }
}

static void average_of_many(const divisor *d, const dtmm_tensor *in, const dtmm_pool_window *window,
                            int8_t *out) {
  for (int32_t c = 0; c < in->channels; c += 4) {
    const mve_pred16_t part = vctp32q((uint32_t)(in->channels - c));
    int32x4_t sum = vdupq_n_s32(0);
    for (int32_t y = 0; y < window->height; ++y) {
      const int8_t *p = window->data + y * in->row_stride + c;
      for (int32_t x = window->width; x > 0; --x, p += in->pixel_stride) {
        sum = vaddq_s32(sum, vldrbq_z_s32(p, part));
      }
    }
    vstrbq_p_s32(out + c, average(d, sum), part);
  }
}

static void average_of_window(const dtmm_pool_params *pool, const dtmm_tensor *in,
                              const dtmm_pool_window *window, int8_t *out) {
  const uint32_t pixels = (uint32_t)(window->height * window->width);
  const divisor d = {.pixels = pixels,
                     .reciprocal = vdupq_n_u32(UINT32_MAX / pixels + 1),
                     .low = vdupq_n_s32(pool->output.activation_min),
                     .high = vdupq_n_s32(pool->output.activation_max)};
  if (pixels <= MAX_SHORT_PIXELS) {
    average_of_few(&d, in, window, out);
  } else {
    average_of_many(&d, in, window, out);
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
