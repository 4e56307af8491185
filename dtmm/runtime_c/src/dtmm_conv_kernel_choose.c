#include "dtmm_run.h"

static int32_t tiles(const dtmm_conv_kernel *kernel, const dtmm_tensor *out) {
  return ((out->height + kernel->rows - 1) / kernel->rows) *
         ((out->width + kernel->columns - 1) / kernel->columns);
}

const dtmm_conv_kernel *dtmm_conv_kernel_choose(const dtmm_conv_params *conv,
                                                const dtmm_conv_weights *weights,
                                                const dtmm_tensor *in, const dtmm_tensor *out,
                                                const dtmm_conv_kernel *const *kernels,
                                                size_t count) {
  const dtmm_conv_kernel *best = NULL;
  for (size_t i = 0; i < count; ++i) {
    dtmm_conv_weights with = *weights;
    with.kernel = kernels[i];
    if (with.kernel == NULL || !dtmm_conv_kernel_fits(conv, &with, in, out)) continue;
    if (best == NULL || tiles(with.kernel, out) < tiles(best, out)) best = with.kernel;
  }
  return best;
}
