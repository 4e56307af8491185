#include "dtmm_point.h"

size_t dtmm_conv_pointwise_s8_get_buffer_size(const dtmm_conv_params *conv,
                                              const dtmm_conv_weights *weights,
                                              const dtmm_tensor *in, const dtmm_tensor *out) {
  (void)conv, (void)weights, (void)in, (void)out;
  return 0;
}

dtmm_status dtmm_conv_pointwise_s8(const dtmm_conv_params *conv, const dtmm_conv_weights *weights,
                                   const dtmm_tensor *in, const dtmm_tensor *out, void *scratch,
                                   size_t scratch_size) {
  (void)scratch, (void)scratch_size;
  if (!dtmm_conv_is_valid(conv, weights, in, out) ||
      !dtmm_conv_is_vectorisable(conv, weights, in)) {
    return DTMM_BAD_ARGUMENT;
  }
  if (!dtmm_conv_pointwise_fits(conv, weights, in, out)) return DTMM_UNSUPPORTED;
  dtmm_conv_points(conv, weights, in, out);
  dtmm_fill_halo(out, conv->output.zero_point);
  return DTMM_OK;
}
