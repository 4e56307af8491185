#include "dtmm_depthwise_internal.h"
#include "dtmm_run.h"

#if DTMM_USE_MVE
#include "dtmm_channel4.h"

#define OUTPUTS 3 /* with three taps and a pixel all eight vectors are in use */

/* From a tap to the next one, to the next row of taps and to the next output, in bytes. */
typedef struct {
  int32_t height, width, column, row, output, weight;
} steps;

/* Predicates, and what only a shift to the left needs, cost a third of the time. */
DTMM_INLINE int32x4_t load(const int8_t *x, int usual, const dtmm_channel4 *k) {
  return usual ? vldrbq_s32(x) : vldrbq_z_s32(x, k->part);
}

/* Adds the products of a row of taps with the outputs' windows. */
DTMM_INLINE const int8_t *add_row(const steps *s, const dtmm_channel4 *k, int usual, const int8_t *x,
                                  const int8_t *w, int32x4_t sums[OUTPUTS]) {
  const int8_t *x0 = x, *x1 = x + s->output, *x2 = x1 + s->output;
  DTMM_NO_UNROLL
  for (int32_t tap = s->width; tap > 0; --tap, w += s->weight) {
    const int32x4_t v = load(w, usual, k);
    sums[0] = vaddq_s32(sums[0], vmulq_s32(load(x0, usual, k), v));
    sums[1] = vaddq_s32(sums[1], vmulq_s32(load(x1, usual, k), v));
    sums[2] = vaddq_s32(sums[2], vmulq_s32(load(x2, usual, k), v));
    x0 += s->column, x1 += s->column, x2 += s->column;
  }
  return w;
}

/* The same for three taps of which neighbouring outputs share pixels (`step` pixels apart: 1 or 2);
 * each is loaded once. */
DTMM_INLINE const int8_t *add_three(const steps *s, const dtmm_channel4 *k, int usual, const int32_t step,
                                    const int8_t *x, const int8_t *w, int32x4_t sums[OUTPUTS]) {
  const int32x4_t taps[3] = {load(w, usual, k), load(w + s->weight, usual, k),
                             load(w + 2 * s->weight, usual, k)};
  DTMM_UNROLL
  for (int32_t column = 0; column < step * (OUTPUTS - 1) + 3; ++column, x += s->column) {
    const int32x4_t v = load(x, usual, k);
    DTMM_UNROLL
    for (int32_t i = 0; i < OUTPUTS; ++i) {
      const int32_t tap = column - step * i;
      if (tap >= 0 && tap < 3) sums[i] = vaddq_s32(sums[i], vmulq_s32(v, taps[tap]));
    }
  }
  return w + 3 * s->weight;
}

/* Three neighbouring outputs of four channels; `step` is 0 where outputs share no pixels. */
DTMM_INLINE void four_outputs(const steps *s, const dtmm_channel4 *k, int usual, const int32_t step,
                              const int8_t *window, const int8_t *w, int8_t *out,
                              int32_t out_step) {
  int32x4_t sums[OUTPUTS] = {k->bias, k->bias, k->bias};
  DTMM_NO_UNROLL
  for (int32_t ky = s->height; ky > 0; --ky, window += s->row) {
    w = step ? add_three(s, k, usual, step, window, w, sums) : add_row(s, k, usual, window, w, sums);
  }
  dtmm_store_channels(k, usual, sums[0], out);
  dtmm_store_channels(k, usual, sums[1], out + out_step);
  dtmm_store_channels(k, usual, sums[2], out + 2 * out_step);
}

static void one_output(const steps *s, const dtmm_channel4 *k, const int8_t *window, const int8_t *w,
                       int8_t *out) {
  int32x4_t sums = k->bias;
  for (int32_t ky = s->height; ky > 0; --ky, window += s->row) {
    const int8_t *x = window;
    for (int32_t kx = s->width; kx > 0; --kx, x += s->column, w += s->weight) {
      sums = vaddq_s32(sums, vmulq_s32(load(x, 0, k), load(w, 0, k)));
    }
  }
  dtmm_store_channels(k, 0, sums, out);
}

/* A row of outputs of four channels; where it is no multiple of three wide, the last outputs are
 * computed twice. */
DTMM_INLINE void wide_row(const steps *s, const dtmm_channel4 *k, int usual, const int32_t step,
                          const int8_t *window, const int8_t *w, int32_t width, int8_t *out,
                          int32_t out_step) {
  DTMM_NO_UNROLL
  for (int32_t x = 0; x < width; x += OUTPUTS) {
    const int32_t at = dtmm_min(x, width - OUTPUTS);
    four_outputs(s, k, usual, step, window + at * s->output, w, out + at * out_step, out_step);
  }
}

/* The number of pixels from an output to the next one, where that is all that is particular. */
static int32_t known_step(const dtmm_conv_params *conv, const dtmm_channel4 *k) {
  const int known = k->usual && conv->kernel_w == 3 && conv->dilation_w == 1;
  return known && conv->stride_w <= 2 ? conv->stride_w : 0;
}

static void convolve(const dtmm_conv_params *conv, const dtmm_conv_weights *weights,
                     const dtmm_tensor *in, const dtmm_tensor *out) {
  const steps s = {.height = conv->kernel_h,
                   .width = conv->kernel_w,
                   .column = conv->dilation_w * in->pixel_stride,
                   .row = conv->dilation_h * in->row_stride,
                   .output = conv->stride_w * in->pixel_stride,
                   .weight = weights->in_stride};
  const int32_t width = out->width, out_step = out->pixel_stride;
  for (int32_t c = 0; c < out->channels; c += 4) {
    const dtmm_channel4 k = dtmm_load_channels(weights->params + c, &conv->output, out->channels - c);
    const int8_t *w = weights->weights + c;
    const int32_t step = known_step(conv, &k);
    for (int32_t y = 0; y < out->height; ++y) {
      const int8_t *window = dtmm_pixel(in, y * conv->stride_h - conv->pad_top, -conv->pad_left) + c;
      int8_t *to = dtmm_pixel(out, y, 0) + c;
      if (width < OUTPUTS) {
        for (int32_t x = 0; x < width; ++x) {
          one_output(&s, &k, window + x * s.output, w, to + x * out_step);
        }
      } else if (step == 1) {
        wide_row(&s, &k, 1, 1, window, w, width, to, out_step);
      } else if (step == 2) {
        wide_row(&s, &k, 1, 2, window, w, width, to, out_step);
      } else {
        wide_row(&s, &k, 0, 0, window, w, width, to, out_step);
      }
    }
  }
}

#else

static int32_t window_sum(const dtmm_conv_params *conv, const dtmm_tensor *in, const int8_t *window,
                          const int8_t *w, int32_t w_step, int32_t sum) {
  for (int32_t ky = 0; ky < conv->kernel_h; ++ky) {
    for (int32_t kx = 0; kx < conv->kernel_w; ++kx, w += w_step) {
      sum = dtmm_add_wrapping(sum, *w * window[dtmm_window_offset(conv, in, ky, kx)]);
    }
  }
  return sum;
}

static void convolve(const dtmm_conv_params *conv, const dtmm_conv_weights *weights,
                     const dtmm_tensor *in, const dtmm_tensor *out) {
  for (int32_t y = 0; y < out->height; ++y) {
    for (int32_t x = 0; x < out->width; ++x) {
      const int8_t *window = dtmm_pixel(in, y * conv->stride_h - conv->pad_top,
                                        x * conv->stride_w - conv->pad_left);
      int8_t *to = dtmm_pixel(out, y, x);
      for (int32_t c = 0; c < out->channels; ++c) {
        const dtmm_channel_params *p = weights->params + c;
        const int32_t sum = window_sum(conv, in, window + c, weights->weights + c,
                                       weights->in_stride, p->bias);
        const int32_t v = dtmm_requantize(sum, p->multiplier, p->shift) + conv->output.zero_point;
        to[c] = (int8_t)dtmm_clamp(v, &conv->output);
      }
    }
  }
}

#endif

dtmm_status dtmm_depthwise_conv_s8(const dtmm_conv_params *conv, const dtmm_conv_weights *weights,
                                   const dtmm_tensor *in, const dtmm_tensor *out, void *scratch,
                                   size_t scratch_size) {
  if (!dtmm_conv_is_valid(conv, weights, in, out) || in->channels != out->channels ||
      weights->in_stride < out->channels) {
    return DTMM_BAD_ARGUMENT;
  }
  const size_t needed = dtmm_depthwise_conv_s8_get_buffer_size(conv, weights, in, out);
  if (scratch_size < needed) return DTMM_NO_SPACE;
  if (needed > 0 && (scratch == NULL || !dtmm_aligned4(scratch))) return DTMM_BAD_ARGUMENT;
#if DTMM_USE_MVE
  if (needed > 0 && dtmm_shifts_are_negative(weights)) {
    dtmm_depthwise_patches(conv, weights, in, out, scratch);
  } else {
    convolve(conv, weights, in, out);
  }
#else
  convolve(conv, weights, in, out);
#endif
  dtmm_fill_halo(out, conv->output.zero_point);
  return DTMM_OK;
}

size_t dtmm_depthwise_conv_s8_get_buffer_size(const dtmm_conv_params *conv,
                                              const dtmm_conv_weights *weights,
                                              const dtmm_tensor *in, const dtmm_tensor *out) {
  (void)weights, (void)in;
  const dtmm_patch_lines lines = dtmm_depthwise_cut(conv, out->height, out->width);
  return lines.columns == 0 ? 0 : (size_t)(4 + lines.columns) * DTMM_PATCH_COLUMN;
}
