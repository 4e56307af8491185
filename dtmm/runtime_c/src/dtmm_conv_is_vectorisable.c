#include "dtmm_conv_internal.h"

int dtmm_conv_is_vectorisable(const dtmm_conv_params *conv, const dtmm_conv_weights *weights,
                              const dtmm_tensor *in) {
  const int64_t window_bytes = (int64_t)conv->kernel_h * conv->kernel_w * in->pixel_stride;
  return weights->in_stride == in->pixel_stride && in->pixel_stride % DTMM_VECTOR_BYTES == 0 &&
         in->row_stride % DTMM_OFFSET_UNIT == 0 && dtmm_aligned4(in->data) &&
         dtmm_aligned4(weights->weights) &&
         dtmm_window_offset(conv, in, conv->kernel_h - 1, conv->kernel_w - 1) <= DTMM_OFFSET_MAX &&
         window_bytes <= 65535 * DTMM_VECTOR_BYTES;
}
