#include "dtmm_point.h"

/* Where the bytes of a tile go: two filters' of each pixel, whose offsets from the first one these
 * are. */
static void set_offsets(dtmm_run_job *job, const int32_t pixels[DTMM_POINT_PIXELS]) {
  for (int32_t i = 0; i < DTMM_POINT_PIXELS; ++i) {
    job->offsets[2 * i] = (uint16_t)pixels[i];
    job->offsets[2 * i + 1] = (uint16_t)(pixels[i] + 1);
  }
}

/* Tiles beside each other, for all filters: of an odd number the last but one is computed twice. */
static void run_tiles(const dtmm_conv_weights *weights, const int8_t *in, int8_t *out,
                      int32_t tiles, dtmm_run_job *job) {
  const int32_t filters = weights->out_channels;
  job->in = in;
  job->out = out;
  job->weights = weights->weights;
  job->params = weights->params;
  job->rounds = filters / 2;
  job->tiles = tiles;
  job->kernel->run(job);
  if (filters % 2 == 0) return;
  job->out += filters - 2;
  job->weights += (filters - 2) * weights->in_stride;
  job->params += filters - 2;
  job->rounds = 1;
  job->kernel->run(job);
}

/* The pixels of a row, or of an image whose rows follow each other; the last tile may begin earlier
 * and compute pixels twice. */
static void run_line(const dtmm_conv_weights *weights, const int8_t *in, int8_t *out,
                     int32_t in_step, int32_t out_step, int32_t pixels, dtmm_run_job *job) {
  const int32_t pattern[DTMM_POINT_PIXELS] = {0, out_step, 2 * out_step, 3 * out_step};
  set_offsets(job, pattern);
  job->in_step = DTMM_POINT_PIXELS * in_step;
  job->out_step = DTMM_POINT_PIXELS * out_step;
  run_tiles(weights, in, out, pixels / DTMM_POINT_PIXELS, job);
  if (pixels % DTMM_POINT_PIXELS != 0) {
    const int32_t last = pixels - DTMM_POINT_PIXELS;
    run_tiles(weights, in + last * in_step, out + last * out_step, 1, job);
  }
}

/* An image whose rows follow each other in the input but not in the output: tiles go over the ends
 * of rows, so each has offsets of its own. */
static void run_broken_lines(const dtmm_conv_weights *weights, const dtmm_tensor *in,
                             const dtmm_tensor *out, dtmm_run_job *job) {
  const int32_t pixels = out->height * out->width;
  for (int32_t top = 0; top < pixels; top += DTMM_POINT_PIXELS) {
    const int32_t first = dtmm_min(top, pixels - DTMM_POINT_PIXELS);
    int32_t y = first / out->width, x = first % out->width, offsets[DTMM_POINT_PIXELS];
    int8_t *to = dtmm_pixel(out, y, x);
    for (int32_t i = 0; i < DTMM_POINT_PIXELS; ++i) {
      offsets[i] = (int32_t)(dtmm_pixel(out, y, x) - to);
      if (++x == out->width) x = 0, ++y;
    }
    set_offsets(job, offsets);
    run_tiles(weights, in->data + first * in->pixel_stride, to, 1, job);
  }
}

void dtmm_conv_points(const dtmm_conv_params *conv, const dtmm_conv_weights *weights,
                      const dtmm_tensor *in, const dtmm_tensor *out) {
  dtmm_run_job job;
  job.kernel = weights->kernel;
  dtmm_run_set_output(&job, &conv->output);
  const int32_t step = conv->stride_w * in->pixel_stride;
  const int in_line = dtmm_points_in_line(conv, in, out);
  if (in_line && dtmm_pixels_in_line(out)) {
    run_line(weights, in->data, out->data, step, out->pixel_stride, out->height * out->width, &job);
  } else if (in_line && out->width % DTMM_POINT_PIXELS != 0) {
    run_broken_lines(weights, in, out, &job);
  } else {
    for (int32_t y = 0; y < out->height; ++y) {
      run_line(weights, dtmm_pixel(in, y * conv->stride_h, 0), dtmm_pixel(out, y, 0), step,
               out->pixel_stride, out->width, &job);
    }
  }
}
