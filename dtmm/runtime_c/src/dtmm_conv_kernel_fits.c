#include "dtmm_run.h"

int dtmm_conv_kernel_fits(const dtmm_conv_params *conv, const dtmm_conv_weights *weights,
                          const dtmm_tensor *in, const dtmm_tensor *out) {
  const dtmm_conv_kernel *kernel = weights->kernel;
  if (kernel == NULL) return 1;
  const int64_t tile_bytes = (int64_t)(kernel->rows - 1) * out->row_stride +
                             (int64_t)(kernel->columns - 1) * out->pixel_stride;
  const int64_t window_bytes = dtmm_window_offset(conv, in, conv->kernel_h - 1, conv->kernel_w - 1);
  return kernel->in_stride == weights->in_stride && in->pixel_stride == weights->in_stride &&
         kernel->rows * kernel->columns == DTMM_RUN_PIXELS && conv->stride_w == kernel->stride_w &&
         out->width >= kernel->columns && out->height >= kernel->rows &&
         in->row_stride % DTMM_VECTOR_BYTES == 0 && window_bytes <= DTMM_RUN_OFFSET_MAX &&
         tile_bytes <= UINT16_MAX && dtmm_shifts_are_negative(weights);
}
