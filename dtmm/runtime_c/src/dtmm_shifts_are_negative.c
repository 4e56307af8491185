#include "dtmm_run.h"

int dtmm_shifts_are_negative(const dtmm_conv_weights *weights) {
  int32_t all = -1; /* its sign says it */
  for (int32_t i = 0; i < weights->out_channels; ++i) all &= weights->params[i].shift;
  return all < 0;
}
