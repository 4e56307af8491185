/** @file
 *  Types shared by every operator of the DTMM runtime. */
#ifndef DTMM_TYPES_H
#define DTMM_TYPES_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum {
  DTMM_OK = 0,
  DTMM_BAD_ARGUMENT = -1, /**< shapes, strides, alignment or ranges do not fit together */
  DTMM_NO_SPACE = -2,     /**< the scratch buffer is smaller than _get_buffer_size says */
  DTMM_BAD_BLOB = -3,     /**< stored weights are malformed */
  DTMM_UNSUPPORTED = -4   /**< valid, but this build has no kernel for it */
} dtmm_status;

/** A view of an int8 NHWC activation (batch 1) inside a buffer.
 *
 * Pixel (y, x) begins at data + y * row_stride + x * pixel_stride, for y in [-halo, height + halo)
 * and x in [-halo, width + halo). The halo is memory of the buffer that holds the tensor's zero
 * point, so that a consumer that pads reads it like any pixel; whoever writes the tensor writes the
 * halo too. Rows may share halo columns: row_stride >= (width + halo) * pixel_stride suffices.
 * pixel_stride >= channels; the bytes between are never interpreted and may hold anything. Operators
 * do not write them, except between neighbouring halo pixels: so a view may be a range of a wider
 * tensor's channels, as long as both have the same zero point.
 * Where an operator uses 16-byte vectors (see its comment) pixel_stride is a multiple of 16. */
typedef struct {
  int8_t *data;
  int32_t height;
  int32_t width;
  int32_t channels;
  int32_t pixel_stride; /**< bytes */
  int32_t row_stride;   /**< bytes */
  int32_t halo;         /**< pixels on each side; 0 = none */
} dtmm_tensor;

/** Requantization of one output channel: TFLite's double-rounding
 * MultiplyByQuantizedMultiplier(acc, multiplier, shift), shift > 0 is a left shift. Operators rely on
 * multiplier >= 0 and -31 <= shift <= 30 without checking.
 * `bias` is folded: bias - input_zero_point * sum(weights of the filter). */
typedef struct {
  int32_t bias;
  int32_t multiplier;
  int32_t shift;
} dtmm_channel_params;

/** Clamp and zero points of an operator's output. */
typedef struct {
  int32_t zero_point;
  int32_t activation_min;
  int32_t activation_max;
} dtmm_output_params;

#ifdef __cplusplus
}
#endif
#endif
