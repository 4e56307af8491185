#include "dtmm/ops.h"
#include "dtmm_internal.h"

static int shapes_fit(const dtmm_tensor *in, int32_t count, const dtmm_tensor *out) {
  int32_t channels = 0;
  for (int32_t i = 0; i < count; ++i) {
    if (!dtmm_tensor_is_valid(&in[i]) || in[i].height != out->height ||
        in[i].width != out->width || in[i].channels > out->channels - channels) {
      return 0;
    }
    channels += in[i].channels;
  }
  return channels == out->channels;
}

dtmm_status dtmm_concat_s8(int8_t zero_point, const dtmm_tensor *in, int32_t count,
                           const dtmm_tensor *out) {
  if (in == NULL || count < 1 || !dtmm_tensor_is_valid(out) || !shapes_fit(in, count, out)) {
    return DTMM_BAD_ARGUMENT;
  }
  int32_t first = 0;
  for (int32_t i = 0; i < count; ++i) {
    const dtmm_tensor range = dtmm_channel_range(out, first, in[i].channels);
    const int in_place = in[i].data == range.data && in[i].pixel_stride == range.pixel_stride &&
                         in[i].row_stride == range.row_stride;
    if (!in_place) dtmm_copy_image(&in[i], &range);
    first += in[i].channels;
  }
  dtmm_fill_halo(out, zero_point);
  return DTMM_OK;
}
