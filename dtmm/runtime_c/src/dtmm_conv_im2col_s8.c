/* Convolution of few input channels: each output row's windows are gathered into the scratch buffer,
 * one of in_stride bytes per output pixel, and multiplied as a 1x1 convolution. */
#include <string.h>

#include "dtmm_conv_kernels.h"
#include "dtmm_point.h"

#if DTMM_USE_MVE

static void tile_of_windows(const dtmm_tile_job *job, const int8_t *in, int8_t *out) {
  const int32_t bytes = job->in_stride;
  const dtmm_tile_output to = dtmm_tile_output_of(job);
  const int8_t *x0 = in, *x1 = in + job->in_pixel[1];
  const int8_t *x2 = in + job->in_pixel[2], *x3 = in + job->in_pixel[3];
  const int8_t *w = job->weights;
  const dtmm_channel_params *channel = job->params;
  for (int32_t filter = job->out_channels; filter > 0; --filter, ++channel, ++out) {
    const int32_t bias = channel->bias;
    int32_t a0 = bias, a1 = bias, a2 = bias, a3 = bias;
    DTMM_NO_UNROLL
    for (int32_t c = 0; c < bytes; c += 16, w += 16) {
      const int8x16_t v = vldrbq_s8(w);
      a0 = vmladavaq_s8(a0, v, vldrbq_s8(x0 + c));
      a1 = vmladavaq_s8(a1, v, vldrbq_s8(x1 + c));
      a2 = vmladavaq_s8(a2, v, vldrbq_s8(x2 + c));
      a3 = vmladavaq_s8(a3, v, vldrbq_s8(x3 + c));
    }
    const int32x4_t sums = {a0, a1, a2, a3};
    dtmm_store_tile(to, channel, sums, out);
  }
}

/* `count` pieces of `bytes`, from step to step. */
static void gather(int8_t *to, int32_t to_step, const int8_t *from, int32_t from_step,
                   int32_t bytes, int32_t count) {
  for (; bytes > 0; bytes -= 16, to += 16, from += 16) {
    const mve_pred16_t part = vctp8q((uint32_t)bytes);
    int8_t *t = to;
    const int8_t *f = from;
    for (int32_t i = count; i > 0; --i, t += to_step, f += from_step) {
      vstrbq_p_s8(t, vldrbq_z_s8(f, part), part);
    }
  }
}

#else

static void tile_of_windows(const dtmm_tile_job *job, const int8_t *in, int8_t *out) {
  const int32_t bytes = job->in_stride;
  const int8_t *w = job->weights;
  for (int32_t filter = 0; filter < job->out_channels; ++filter, w += bytes) {
    const dtmm_channel_params *channel = job->params + filter;
    int32_t sums[DTMM_TILE] = {channel->bias, channel->bias, channel->bias, channel->bias};
    dtmm_add_products(job, w, in, bytes, sums);
    for (int32_t i = 0; i < DTMM_TILE; ++i) {
      out[(int32_t)job->out_pixel[i] + filter] = dtmm_finish(job, channel, sums[i]);
    }
  }
}

static void gather(int8_t *to, int32_t to_step, const int8_t *from, int32_t from_step,
                   int32_t bytes, int32_t count) {
  for (; count > 0; --count, to += to_step, from += from_step) memcpy(to, from, (size_t)bytes);
}

#endif

/* The windows of an output row. Where the dilation is 1 a kernel row is one piece. */
static void gather_row(const dtmm_conv_params *conv, const dtmm_tensor *in, int32_t out_width,
                       const int8_t *window, int32_t in_stride, int8_t *rows) {
  const int32_t step = conv->stride_w * in->pixel_stride;
  const int whole_rows = conv->dilation_w == 1 && in->pixel_stride == in->channels;
  const int32_t pieces = whole_rows ? 1 : conv->kernel_w;
  const int32_t bytes = whole_rows ? conv->kernel_w * in->channels : in->channels;
  for (int32_t ky = 0; ky < conv->kernel_h; ++ky) {
    for (int32_t kx = 0; kx < pieces; ++kx, rows += bytes) {
      gather(rows, in_stride, window + dtmm_window_offset(conv, in, ky, kx), step, bytes,
             out_width);
    }
  }
}

size_t dtmm_conv_im2col_s8_get_buffer_size(const dtmm_conv_params *conv,
                                           const dtmm_conv_weights *weights, const dtmm_tensor *in,
                                           const dtmm_tensor *out) {
  (void)conv, (void)in;
  return (size_t)out->width * (size_t)weights->in_stride;
}

dtmm_status dtmm_conv_im2col_s8(const dtmm_conv_params *conv, const dtmm_conv_weights *weights,
                                const dtmm_tensor *in, const dtmm_tensor *out, void *scratch,
                                size_t scratch_size) {
  if (!dtmm_conv_is_valid(conv, weights, in, out)) return DTMM_BAD_ARGUMENT;
  const int32_t in_stride = weights->in_stride;
  const int32_t window_bytes = conv->kernel_h * conv->kernel_w * in->channels;
  if (in_stride != (window_bytes + DTMM_VECTOR_BYTES - 1) / DTMM_VECTOR_BYTES * DTMM_VECTOR_BYTES) {
    return DTMM_BAD_ARGUMENT;
  }
  if (scratch_size < dtmm_conv_im2col_s8_get_buffer_size(conv, weights, in, out)) {
    return DTMM_NO_SPACE;
  }
  if (scratch == NULL) return DTMM_BAD_ARGUMENT;
  dtmm_tile_job job = {.weights = weights->weights,
                       .params = weights->params,
                       .out_channels = weights->out_channels,
                       .in_stride = in_stride,
                       .output = conv->output};
  const dtmm_conv_params product = {
      .kernel_h = 1, .kernel_w = 1, .stride_h = 1, .stride_w = 1, .output = conv->output};
  const dtmm_tensor windows = {.data = scratch,
                               .height = 1,
                               .width = out->width,
                               .channels = in_stride,
                               .pixel_stride = in_stride,
                               .row_stride = out->width * in_stride};
  dtmm_tensor row = *out;
  row.height = 1;
  const int8_t *window = dtmm_pixel(in, -conv->pad_top, -conv->pad_left);
  if (weights->kernel != NULL) {
    if (!dtmm_conv_is_vectorisable(&product, weights, &windows)) return DTMM_BAD_ARGUMENT;
    if (!dtmm_conv_pointwise_fits(&product, weights, &windows, &row)) return DTMM_UNSUPPORTED;
  }
  for (int32_t y = 0; y < out->height; ++y) {
    gather_row(conv, in, out->width, window, in_stride, scratch);
    if (weights->kernel != NULL) {
      dtmm_conv_points(&product, weights, &windows, &row);
    } else {
      dtmm_walk_tiles(&product, &windows, &row, &job, tile_of_windows, tile_of_windows);
    }
    window += conv->stride_h * in->row_stride;
    row.data += row.row_stride;
  }
  dtmm_fill_halo(out, conv->output.zero_point);
  return DTMM_OK;
}
