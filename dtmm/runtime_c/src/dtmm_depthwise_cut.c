#include "dtmm_depthwise_internal.h"

#define TAPS 3
/* Cycles, roughly, of four outputs of all channels of a block, and of writing a column of taps. */
#define FOUR_OUTPUTS 28
#define COLUMN 1
#define FEWEST_OUTPUTS 8 /* of a line: what each one costs a channel is not earned back by fewer */

static dtmm_patch_lines cut(int32_t lines, int32_t outputs, int32_t stride, int is_upright) {
  const int32_t whole = (outputs + DTMM_PATCH_OUTPUTS - 1) / DTMM_PATCH_OUTPUTS * DTMM_PATCH_OUTPUTS;
  /* a patch is loaded as four columns, the last of which meets zeros */
  const dtmm_patch_lines made = {lines, outputs, (whole - 1) * stride + TAPS + 1, stride, is_upright};
  return made;
}

static int64_t cost(const dtmm_patch_lines *l) {
  const int64_t fours = (l->outputs + DTMM_PATCH_OUTPUTS - 1) / DTMM_PATCH_OUTPUTS;
  return l->lines * (FOUR_OUTPUTS * fours + COLUMN * l->columns);
}

dtmm_patch_lines dtmm_depthwise_cut(const dtmm_conv_params *conv, int32_t height, int32_t width) {
  const dtmm_patch_lines rows = cut(height, width, conv->stride_w, 0);
  const dtmm_patch_lines upright = cut(width, height, conv->stride_h, 1);
  dtmm_patch_lines best = cost(&upright) < cost(&rows) ? upright : rows;
  if (conv->kernel_h != TAPS || conv->kernel_w != TAPS || conv->dilation_h != 1 ||
      conv->dilation_w != 1 || conv->stride_h > 2 || conv->stride_w > 2 ||
      best.outputs < FEWEST_OUTPUTS) {
    best.columns = 0;
  }
  return best;
}
