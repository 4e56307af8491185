/* Convolves a ramp and prints the result: a line per pixel, a number per channel. */
#include <stdio.h>

#include "conv.h"

int main(void) {
  int8_t image[HEIGHT][WIDTH][IN_CHANNELS], result[HEIGHT][WIDTH][OUT_CHANNELS];
  for (int i = 0; i < HEIGHT * WIDTH * IN_CHANNELS; ++i) {
    (&image[0][0][0])[i] = (int8_t)(4 * i - 120);
  }
  const dtmm_status status = example_conv(image, result);
  if (status != DTMM_OK) {
    fprintf(stderr, "status %d\n", (int)status);
    return 1;
  }
  for (int y = 0; y < HEIGHT; ++y) {
    for (int x = 0; x < WIDTH; ++x) {
      const int8_t *pixel = result[y][x];
      printf("%d %d %d %d\n", pixel[0], pixel[1], pixel[2], pixel[3]);
    }
  }
  return 0;
}
