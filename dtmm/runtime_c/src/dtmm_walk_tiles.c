#include "dtmm_conv_internal.h"

typedef struct {
  int32_t y, x;
} position;

static void row_tiles(const dtmm_tensor *out, int32_t columns, const int8_t *in, int32_t in_row,
                      int32_t in_step, dtmm_tile_job *job, dtmm_tile_kernel kernel) {
  for (int32_t i = 0; i < DTMM_TILE; ++i) {
    job->in_pixel[i] = i * in_step;
    job->out_pixel[i] = (uint32_t)(i * out->pixel_stride);
  }
  for (int32_t y = 0; y < out->height; ++y, in += in_row) {
    for (int32_t x = 0; x < columns; x += DTMM_TILE) {
      kernel(job, in + x * in_step, dtmm_pixel(out, y, x));
    }
  }
}

/* The columns from `first` on, 4 pixels at a time in row-major order; the last tile repeats its last
 * pixel. */
static void column_tiles(const dtmm_tensor *out, int32_t first, const int8_t *in, int32_t in_row,
                         int32_t in_step, dtmm_tile_job *job, dtmm_tile_kernel kernel) {
  position at = {0, first};
  for (int32_t left = out->height * (out->width - first); left > 0; left -= DTMM_TILE) {
    const int8_t *window = in + at.y * in_row + at.x * in_step;
    int8_t *pixel = dtmm_pixel(out, at.y, at.x);
    job->in_pixel[0] = 0;
    job->out_pixel[0] = 0;
    const position start = at;
    for (int32_t i = 1; i < DTMM_TILE; ++i) {
      if (i < left && ++at.x == out->width) {
        at.x = first;
        ++at.y;
      }
      job->in_pixel[i] = (at.y - start.y) * in_row + (at.x - start.x) * in_step;
      job->out_pixel[i] =
          (uint32_t)((at.y - start.y) * out->row_stride + (at.x - start.x) * out->pixel_stride);
    }
    kernel(job, window, pixel);
    if (++at.x == out->width) {
      at.x = first;
      ++at.y;
    }
  }
}

void dtmm_walk_tiles(const dtmm_conv_params *conv, const dtmm_tensor *in, const dtmm_tensor *out,
                     dtmm_tile_job *job, dtmm_tile_kernel in_row, dtmm_tile_kernel anywhere) {
  const int8_t *first = dtmm_pixel(in, -conv->pad_top, -conv->pad_left);
  const int32_t row = conv->stride_h * in->row_stride;
  const int32_t step = conv->stride_w * in->pixel_stride;
  const int32_t whole = out->width / DTMM_TILE * DTMM_TILE;
  if (whole > 0) row_tiles(out, whole, first, row, step, job, in_row);
  if (whole < out->width) column_tiles(out, whole, first, row, step, job, anywhere);
}
