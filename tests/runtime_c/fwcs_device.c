/* Opens and prepares every blob of cases.h on the device, convolves its image, reports the result. */
#include <stdint.h>
#include <string.h>

#include "dtmm/fwcs.h"
#include "dtmm_firmware.h"

typedef struct {
  const uint8_t *blob;
  size_t size;
  const uint8_t *image;
  int32_t zero_point, pad_top, pad_left, halo;
  dtmm_output_params output;
} conv_case;

#include "cases.h"

static int8_t framed[32 * 1024], result[HEIGHT * WIDTH * 64];
static uint8_t expanded[48 * 1024], scratch[4096];

static dtmm_status run(const conv_case *c, dtmm_fwcs_layer *layer) {
  dtmm_status status = dtmm_fwcs_open(c->blob, c->size, layer);
  if (status != DTMM_OK) return status;
  status = dtmm_fwcs_prepare(layer, expanded, sizeof expanded);
  if (status != DTMM_OK) return status;
  const int32_t pixel = layer->weights.in_stride, row = (WIDTH + 2 * c->halo) * pixel;
  if ((size_t)((HEIGHT + 2 * c->halo) * row) > sizeof framed) return DTMM_NO_SPACE;
  memset(framed, c->zero_point, sizeof framed);
  const dtmm_tensor in = {framed + c->halo * (row + pixel), HEIGHT, WIDTH, layer->in_channels,
                          pixel, row, c->halo};
  for (int32_t i = 0; i < HEIGHT * WIDTH; ++i) {
    memcpy(in.data + i / WIDTH * row + i % WIDTH * pixel, c->image + i * layer->in_channels,
           (size_t)layer->in_channels);
  }
  const int32_t channels = layer->weights.out_channels;
  const dtmm_tensor out = {result, HEIGHT, WIDTH, channels, channels, WIDTH * channels, 0};
  const dtmm_conv_params conv = {layer->kernel_h, layer->kernel_w, 1, 1, 1, 1,
                                 c->pad_top, c->pad_left, c->output};
  return dtmm_conv_fwcs_s8(&conv, &layer->weights, &in, &out, scratch, sizeof scratch);
}

int main(void) {
  for (uint32_t n = 0; n < CASES; ++n) {
    dtmm_fwcs_layer layer = {.form = DTMM_FWCS_STORED};
    const uint32_t status = (uint32_t)-(int32_t)run(&cases[n], &layer);
    dtmm_report_u32("STATUS", &status, 1);
    dtmm_report_bytes("RESULT", n, result, (size_t)(HEIGHT * WIDTH * layer.weights.out_channels));
  }
  return 0;
}
