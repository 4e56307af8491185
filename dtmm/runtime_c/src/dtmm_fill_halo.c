#include <string.h>

#include "dtmm_internal.h"

#if DTMM_USE_MVE
#include "dtmm_mve.h"

static void fill(int8_t *p, int32_t bytes, int32_t value) {
  const int8x16_t v = vdupq_n_s8((int8_t)value);
  for (; bytes > 0; bytes -= 16, p += 16) vstrbq_p_s8(p, v, vctp8q((uint32_t)bytes));
}
#else
static void fill(int8_t *p, int32_t bytes, int32_t value) { memset(p, value, (size_t)bytes); }
#endif

void dtmm_fill_halo(const dtmm_tensor *t, int32_t zero_point) {
  const int32_t halo = t->halo;
  if (halo == 0) return;
  const int32_t tail = t->pixel_stride - t->channels;
  const int32_t side = halo * t->pixel_stride - tail;
  const int32_t across = (t->width + 2 * halo) * t->pixel_stride - tail;
  /* Where rows share their halo columns, the right one of a row is the left one of the next. */
  const int shared = t->row_stride == (t->width + halo) * t->pixel_stride;
  for (int32_t y = -halo; y < 0; ++y) fill(dtmm_pixel(t, y, -halo), across, zero_point);
  for (int32_t y = 0; y < t->height; ++y) {
    if (!shared) fill(dtmm_pixel(t, y, -halo), side, zero_point);
    fill(dtmm_pixel(t, y, t->width), side, zero_point);
  }
  for (int32_t y = t->height; y < t->height + halo; ++y) {
    fill(dtmm_pixel(t, y, -halo), across, zero_point);
  }
}
