#include "dtmm/ops.h"
#include "dtmm_internal.h"

static int fits(int32_t in, int32_t out, int32_t begin, int32_t stride) {
  return begin >= 0 && begin < in && stride > 0 && (out - 1) <= (in - 1 - begin) / stride;
}

dtmm_status dtmm_strided_slice_s8(const dtmm_strided_slice_params *slice, int8_t zero_point,
                                  const dtmm_tensor *in, const dtmm_tensor *out) {
  if (slice == NULL || !dtmm_tensor_is_valid(in) || !dtmm_tensor_is_valid(out) ||
      in->channels != out->channels ||
      !fits(in->height, out->height, slice->begin_h, slice->stride_h) ||
      !fits(in->width, out->width, slice->begin_w, slice->stride_w)) {
    return DTMM_BAD_ARGUMENT;
  }
  dtmm_tensor seen = *out;
  seen.data = dtmm_pixel(in, slice->begin_h, slice->begin_w);
  seen.pixel_stride = in->pixel_stride * slice->stride_w;
  seen.row_stride = in->row_stride * slice->stride_h;
  dtmm_copy_image(&seen, out);
  dtmm_fill_halo(out, zero_point);
  return DTMM_OK;
}
