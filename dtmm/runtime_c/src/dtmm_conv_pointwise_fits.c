#include "dtmm_point.h"

int dtmm_conv_pointwise_fits(const dtmm_conv_params *conv, const dtmm_conv_weights *weights,
                         const dtmm_tensor *in, const dtmm_tensor *out) {
  const dtmm_conv_kernel *kernel = weights->kernel;
  if (kernel == NULL || kernel->rows * kernel->columns != DTMM_POINT_PIXELS) return 0;
  const int in_line = dtmm_points_in_line(conv, in, out);
  const int32_t pixels = in_line ? out->height * out->width : out->width;
  const int64_t tile_bytes = dtmm_max(DTMM_POINT_PIXELS * out->pixel_stride,
                                      in_line ? DTMM_POINT_PIXELS * out->row_stride : 0);
  return conv->kernel_h == 1 && conv->kernel_w == 1 && conv->pad_top == 0 && conv->pad_left == 0 &&
         kernel->in_stride == weights->in_stride && in->pixel_stride == weights->in_stride &&
         conv->stride_w == kernel->stride_w && weights->out_channels >= 2 &&
         pixels >= DTMM_POINT_PIXELS && tile_bytes < UINT16_MAX &&
         dtmm_shifts_are_negative(weights);
}
