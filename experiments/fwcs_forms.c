/* Opens, prepares and runs the layer of layer.h: two counted regions, start-up and convolution. */
#include <string.h>

#include "dtmm/fwcs.h"
#include "dtmm_firmware.h"
#include "layer.h" /* blob, HEIGHT, WIDTH, KERNEL, EXPANDED_BYTES, ..., filled by fwcs_forms.py */

enum {
  HALO = KERNEL / 2,
  ROW = (WIDTH + HALO) * IN_STRIDE,
  IN_BYTES = (HEIGHT + 2 * HALO) * ROW + (2 * HALO + 1) * IN_STRIDE
};

static int8_t input[IN_BYTES] __attribute__((aligned(16)));
static int8_t output[HEIGHT * WIDTH * OUT_CHANNELS] __attribute__((aligned(16)));
static uint8_t scratch[SCRATCH_BYTES] __attribute__((aligned(16)));
static uint8_t expanded[EXPANDED_BYTES + 1] __attribute__((aligned(16)));

static void check(dtmm_status status) {
  if (status != DTMM_OK) dtmm_fail("a call was refused");
}

int main(void) {
  uint32_t noise = 1;
  for (size_t i = 0; i < sizeof input; ++i) {
    noise = noise * 1664525u + 1013904223u;
    input[i] = (int8_t)(noise >> 24);
  }
  const dtmm_tensor in = {input + HALO * (ROW + IN_STRIDE), HEIGHT, WIDTH, IN_CHANNELS,
                          IN_STRIDE, ROW, HALO};
  const dtmm_tensor out = {output, HEIGHT, WIDTH, OUT_CHANNELS, OUT_CHANNELS,
                           WIDTH * OUT_CHANNELS, 0};
  const dtmm_conv_params conv = {KERNEL, KERNEL, 1, 1, 1, 1, HALO, HALO, {0, -128, 127}};
  dtmm_fwcs_layer layer;
  dtmm_region_begin(0);
  dtmm_status status = dtmm_fwcs_open(blob, sizeof blob, &layer);
  if (status == DTMM_OK) status = dtmm_fwcs_prepare(&layer, expanded, EXPANDED_BYTES);
  dtmm_region_end();
  check(status);
  dtmm_region_begin(1);
  status = dtmm_conv_fwcs_s8(&conv, &layer.weights, &in, &out, scratch, sizeof scratch);
  dtmm_region_end();
  check(status);
  uint32_t sum = 0;
  for (size_t i = 0; i < sizeof output; ++i) sum = sum * 31u + (uint8_t)output[i];
  dtmm_report_u32("OUTPUT", &sum, 1);
  return 0;
}
