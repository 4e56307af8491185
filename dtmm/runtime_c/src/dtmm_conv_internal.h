/* What the convolutions share: their checks, and the walk over the output in tiles of 4 pixels. */
#ifndef DTMM_CONV_INTERNAL_H
#define DTMM_CONV_INTERNAL_H

#include "dtmm/conv.h"
#include "dtmm_internal.h"

#define DTMM_TILE 4

/* One call's constants, and the four pixels of the tile at hand.
 *   stream    what the kernel walks through; each kernel says what it holds
 *   in_pixel  bytes from the tile's first window to each pixel's window
 *   out_pixel bytes from the tile's first output pixel to each */
typedef struct {
  const int8_t *weights;
  const dtmm_channel_params *params;
  const uint16_t *stream;
  int32_t out_channels;
  int32_t in_stride;
  dtmm_output_params output;
  int32_t in_pixel[DTMM_TILE];
  uint32_t out_pixel[DTMM_TILE];
} dtmm_tile_job;

/* Computes every output channel of the tile's pixels: `in` is the first pixel's window, `out` its
 * output. */
typedef void (*dtmm_tile_kernel)(const dtmm_tile_job *job, const int8_t *in, int8_t *out);

/* Runs `in_row` on the tiles of 4 neighbours of a row and `anywhere` on the columns left over, whose
 * tiles span rows. The halo is left to the caller. */
void dtmm_walk_tiles(const dtmm_conv_params *conv, const dtmm_tensor *in, const dtmm_tensor *out,
                     dtmm_tile_job *job, dtmm_tile_kernel in_row, dtmm_tile_kernel anywhere);

/* Shapes, ranges, and that every window pixel lies inside the input's halo. */
int dtmm_conv_is_valid(const dtmm_conv_params *conv, const dtmm_conv_weights *weights,
                       const dtmm_tensor *in, const dtmm_tensor *out);

/* Besides, what the vector kernels that read the input in place need of strides and alignment. */
int dtmm_conv_is_vectorisable(const dtmm_conv_params *conv, const dtmm_conv_weights *weights,
                              const dtmm_tensor *in);

/* Window offsets are kept as 16-bit counts of 4 bytes. */
#define DTMM_OFFSET_UNIT 4
#define DTMM_OFFSET_MAX (65535 * DTMM_OFFSET_UNIT)

/* Bytes from a window's first pixel to the one at kernel position (ky, kx). */
DTMM_INLINE int32_t dtmm_window_offset(const dtmm_conv_params *conv, const dtmm_tensor *in,
                                       int32_t ky, int32_t kx) {
  return ky * conv->dilation_h * in->row_stride + kx * conv->dilation_w * in->pixel_stride;
}

/* The window offsets of every kernel row's positions 0, step, 2 * step, ... */
DTMM_INLINE void dtmm_window_offsets(const dtmm_conv_params *conv, const dtmm_tensor *in,
                                     int32_t step, uint16_t *offsets) {
  for (int32_t ky = 0; ky < conv->kernel_h; ++ky) {
    DTMM_NO_UNROLL
    for (int32_t kx = 0; kx < conv->kernel_w; kx += step) {
      *offsets++ = (uint16_t)(dtmm_window_offset(conv, in, ky, kx) / DTMM_OFFSET_UNIT);
    }
  }
}

#endif
