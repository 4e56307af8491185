#ifndef EXAMPLE_CONV_H
#define EXAMPLE_CONV_H

#include <stdint.h>

#include "dtmm/types.h"

enum { HEIGHT = 4, WIDTH = 5, IN_CHANNELS = 3, OUT_CHANNELS = 4, INPUT_ZERO_POINT = -7 };

/* A 3x3 convolution with SAME padding on pruned weights; NHWC, batch 1. */
dtmm_status example_conv(int8_t image[HEIGHT][WIDTH][IN_CHANNELS],
                         int8_t result[HEIGHT][WIDTH][OUT_CHANNELS]);

#endif
