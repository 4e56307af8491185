#include "dtmm/ops.h"
#include "dtmm_internal.h"

dtmm_status dtmm_copy_s8(int8_t zero_point, const dtmm_tensor *in, const dtmm_tensor *out) {
  if (!dtmm_tensor_is_valid(in) || !dtmm_tensor_is_valid(out) || !dtmm_same_shape(in, out)) {
    return DTMM_BAD_ARGUMENT;
  }
  dtmm_copy_image(in, out);
  dtmm_fill_halo(out, zero_point);
  return DTMM_OK;
}
