#include <string.h>

#include "dtmm/ops.h"
#include "dtmm_internal.h"

/* Fills `count` pixels of a row from column x on. */
static void fill_pixels(const dtmm_tensor *t, int32_t y, int32_t x, int32_t count, int32_t value) {
  const int dense = dtmm_rows_are_dense(t);
  const size_t bytes = (size_t)(dense ? count * t->channels : t->channels);
  for (int32_t i = 0; i < (dense ? dtmm_min(count, 1) : count); ++i) {
    memset(dtmm_pixel(t, y, x + i), value, bytes);
  }
}

dtmm_status dtmm_pad_s8(int8_t zero_point, int32_t pad_top, int32_t pad_left, const dtmm_tensor *in,
                        const dtmm_tensor *out) {
  if (!dtmm_tensor_is_valid(in) || !dtmm_tensor_is_valid(out) || in->channels != out->channels ||
      pad_top < 0 || pad_left < 0 || in->height > out->height - pad_top ||
      in->width > out->width - pad_left) {
    return DTMM_BAD_ARGUMENT;
  }
  dtmm_tensor inner = *in; /* where the image goes */
  inner.data = dtmm_pixel(out, pad_top, pad_left);
  inner.pixel_stride = out->pixel_stride;
  inner.row_stride = out->row_stride;
  dtmm_copy_image(in, &inner);
  const int32_t right = pad_left + in->width;
  for (int32_t y = 0; y < out->height; ++y) {
    if (y < pad_top || y >= pad_top + in->height) {
      fill_pixels(out, y, 0, out->width, zero_point);
    } else {
      fill_pixels(out, y, 0, pad_left, zero_point);
      fill_pixels(out, y, right, out->width - right, zero_point);
    }
  }
  dtmm_fill_halo(out, zero_point);
  return DTMM_OK;
}
