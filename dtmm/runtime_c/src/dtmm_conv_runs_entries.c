#include "dtmm_run.h"

size_t dtmm_conv_runs_entries(const dtmm_conv_params *conv, int32_t filters, const int32_t *kept) {
  const int32_t positions = conv->kernel_h * conv->kernel_w;
  const int32_t whole = conv->kernel_w / DTMM_RUN_LONGEST;
  const int32_t left = conv->kernel_w % DTMM_RUN_LONGEST;
  const int32_t rest = conv->stride_w == 1 ? left > 0 : left; /* runs of the last columns at most */
  const int joins = dtmm_runs_join(conv);
  if (kept == NULL) {
    const int32_t runs = joins ? conv->kernel_h * (whole + rest) : positions;
    return (size_t)(dtmm_min(filters, DTMM_RUN_DENSE_FILTERS) * runs) + 1;
  }
  /* A run takes an entry, and so does a filter without any: they are most where every filterlet is a
   * run of its own and as few filters as possible hold them. Of three neighbours two are such. */
  const int32_t most = joins ? conv->kernel_h * (2 * whole + rest) : positions;
  const int32_t entries = *kept + filters - (*kept + most - 1) / most;
  return (size_t)dtmm_min(entries, filters * most) + 1;
}
