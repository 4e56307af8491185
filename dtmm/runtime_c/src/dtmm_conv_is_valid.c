#include "dtmm_conv_internal.h"

/* First and last window row (or column) against what exists in memory. */
static int window_fits(int32_t in, int32_t out, int32_t kernel, int32_t stride, int32_t dilation,
                       int32_t pad, int32_t halo) {
  const int32_t last = (out - 1) * stride - pad + (kernel - 1) * dilation;
  return kernel > 0 && stride > 0 && dilation > 0 && pad >= 0 && pad <= halo && last < in + halo;
}

int dtmm_conv_is_valid(const dtmm_conv_params *conv, const dtmm_conv_weights *weights,
                       const dtmm_tensor *in, const dtmm_tensor *out) {
  return conv != NULL && weights != NULL && dtmm_tensor_is_valid(in) &&
         dtmm_tensor_is_valid(out) && weights->weights != NULL && weights->params != NULL &&
         out->channels == weights->out_channels && dtmm_output_is_valid(&conv->output) &&
         window_fits(in->height, out->height, conv->kernel_h, conv->stride_h, conv->dilation_h,
                     conv->pad_top, in->halo) &&
         window_fits(in->width, out->width, conv->kernel_w, conv->stride_w, conv->dilation_w,
                     conv->pad_left, in->halo);
}
