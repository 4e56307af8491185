#include "conv.h"

#include <string.h>

#include "dtmm/fwcs.h"

/* The layer in stored form, as dtmm.storage.write_fwcs wrote it (docs/fwcs.md): 13 of 36 filterlets
 * of 3 weights. */
static const _Alignas(8) uint8_t blob[] = {
    0x46, 0x57, 0x43, 0x53, 0x2c, 0x27, 0x2f, 0xdc, 0x68, 0x00, 0x00, 0x00, 0x01, 0x00,
    0x03, 0x03, 0x04, 0x00, 0x03, 0x00, 0x10, 0x00, 0x03, 0x00, 0x50, 0x23, 0x97, 0xb6,
    0x61, 0xe0, 0xbf, 0xb8, 0xcf, 0x64, 0xbb, 0x1f, 0x25, 0xd3, 0x6a, 0x7e, 0x88, 0x6c,
    0x9a, 0x94, 0x63, 0xa7, 0x94, 0xc6, 0xae, 0x44, 0x62, 0xec, 0xab, 0xa8, 0xb5, 0x6e,
    0x38, 0x16, 0x9c, 0x11, 0x7a, 0x9a, 0x74, 0xe6, 0x03, 0x00, 0x00, 0xb8, 0xfe, 0xff,
    0xff, 0x44, 0xfc, 0xff, 0xff, 0xc8, 0xff, 0xff, 0xff, 0xf3, 0xe5, 0x0e, 0x45, 0x15,
    0x30, 0x46, 0x54, 0x40, 0x6d, 0xb1, 0x4f, 0x4a, 0x94, 0xed, 0x68, 0xf7, 0xf8, 0xf8,
    0xf7, 0xa8, 0x69, 0x24, 0x34, 0x04,
};

enum { HALO = 1, PIXEL = 16, ROW = (WIDTH + 2 * HALO) * PIXEL, ROWS = HEIGHT + 2 * HALO };

dtmm_status example_conv(int8_t image[HEIGHT][WIDTH][IN_CHANNELS],
                         int8_t result[HEIGHT][WIDTH][OUT_CHANNELS]) {
  /* Weights: checked, then expanded into memory of ours. */
  _Alignas(8) uint8_t expanded[512];
  dtmm_fwcs_layer layer;
  dtmm_status status = dtmm_fwcs_open(blob, sizeof blob, &layer);
  if (status != DTMM_OK) return status;
  status = dtmm_fwcs_prepare(&layer, expanded, sizeof expanded);
  if (status != DTMM_OK) return status;

  /* The input in a frame of one pixel that holds the zero point, a pixel every 16 bytes. */
  _Alignas(8) int8_t framed[ROWS * ROW];
  memset(framed, INPUT_ZERO_POINT, sizeof framed);
  const dtmm_tensor in = {framed + HALO * (ROW + PIXEL), HEIGHT, WIDTH, IN_CHANNELS, PIXEL, ROW, HALO};
  for (int y = 0; y < HEIGHT; ++y) {
    for (int x = 0; x < WIDTH; ++x) {
      memcpy(in.data + y * ROW + x * PIXEL, image[y][x], IN_CHANNELS);
    }
  }

  /* The output goes where the caller wants it, without a frame. */
  const dtmm_tensor out = {&result[0][0][0], HEIGHT, WIDTH, OUT_CHANNELS, OUT_CHANNELS,
                           WIDTH * OUT_CHANNELS, 0};
  const dtmm_conv_params conv = {.kernel_h = layer.kernel_h,
                                 .kernel_w = layer.kernel_w,
                                 .stride_h = 1,
                                 .stride_w = 1,
                                 .dilation_h = 1,
                                 .dilation_w = 1,
                                 .pad_top = HALO,
                                 .pad_left = HALO,
                                 .output = {3, -128, 127}};
  _Alignas(8) uint8_t scratch[128];
  if (dtmm_conv_fwcs_s8_get_buffer_size(&conv, &layer.weights, &in, &out) > sizeof scratch) {
    return DTMM_NO_SPACE;
  }
  return dtmm_conv_fwcs_s8(&conv, &layer.weights, &in, &out, scratch, sizeof scratch);
}
