/* Runs a generated model over images that the host holds in a file, and reports every output.
 *
 * HARNESS_IMAGES   images in the file "images.int8"
 * HARNESS_COUNTED  how many of them, from the first, are inside a counted region
 * HARNESS_PROFILE  defined: every step is a region (hooks.h) and reports a checksum of its tensor */
#include "dtmm_firmware.h"
#include "model.h"

__attribute__((aligned(16))) static int8_t arena[DTMM_MODEL_ARENA_BYTES];
static int8_t input[DTMM_MODEL_INPUT_BYTES];
static int8_t output[DTMM_MODEL_OUTPUT_BYTES];

#ifdef HARNESS_PROFILE
/* FNV-1a over the tensor's values, without halo and padding. */
void dtmm_harness_step_end(int step) {
  if (step >= DTMM_MODEL_STEPS - 1) return;
  const dtmm_tensor t = dtmm_model_step_output(arena, step);
  uint32_t hash = 2166136261u;
  for (int32_t y = 0; y < t.height; y++)
    for (int32_t x = 0; x < t.width; x++)
      for (int32_t c = 0; c < t.channels; c++)
        hash = (hash ^ (uint8_t)t.data[y * t.row_stride + x * t.pixel_stride + c]) * 16777619u;
  const uint32_t line[2] = {(uint32_t)step, hash};
  dtmm_report_u32("STEP", line, 2);
}
#endif

int main(void) {
  for (uint32_t i = 0; i < HARNESS_IMAGES; i++) {
    const int32_t got = dtmm_read_file("images.int8", i * sizeof input, input, sizeof input);
    if (got != (int32_t)sizeof input) dtmm_fail("images.int8 is missing or too short");
    dtmm_stack_paint();
#ifndef HARNESS_PROFILE
    if (i < HARNESS_COUNTED) dtmm_region_begin(i);
#endif
    const dtmm_status status = dtmm_model_run(arena, input, output);
#ifndef HARNESS_PROFILE
    if (i < HARNESS_COUNTED) dtmm_region_end();
#endif
    const uint32_t stack = dtmm_stack_peak();
    if (status != DTMM_OK) dtmm_fail("dtmm_model_run did not return DTMM_OK");
    dtmm_report_bytes("OUT", i, output, sizeof output);
    dtmm_report_u32("STACK", &stack, 1);
  }
  return 0;
}
