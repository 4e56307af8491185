/* Makes every step of a generated model a counted region. */
#include "dtmm_firmware.h"

void dtmm_harness_step_end(int step);

#define DTMM_STEP_BEGIN(step) dtmm_region_begin(step)
#define DTMM_STEP_END(step) \
  do {                      \
    dtmm_region_end();      \
    dtmm_harness_step_end(step); \
  } while (0)
