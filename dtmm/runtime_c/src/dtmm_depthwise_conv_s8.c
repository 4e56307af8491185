#include "dtmm_conv_internal.h"

#if DTMM_USE_MVE
#include "dtmm_mve.h"

/* Four channels' parameters. */
typedef struct {
  int32x4_t bias, multiplier, left, right; /* right is negative or 0 */
  int32x4_t low, high;
  int32_t zero_point;
} channel4;

static channel4 load_channels(const dtmm_channel_params *params, const dtmm_output_params *output,
                              mve_pred16_t part) {
  const int32_t *p = &params->bias;
  const uint32x4_t words = vmulq_n_u32(vidupq_n_u32(0, 1), 3); /* a channel's words */
  const int32x4_t shift = vldrwq_gather_shifted_offset_z_s32(p + 2, words, part);
  const channel4 k = {.bias = vldrwq_gather_shifted_offset_z_s32(p, words, part),
                      .multiplier = vldrwq_gather_shifted_offset_z_s32(p + 1, words, part),
                      .left = vmaxq_s32(shift, vdupq_n_s32(0)),
                      .right = vminq_s32(shift, vdupq_n_s32(0)),
                      .low = vdupq_n_s32(output->activation_min),
                      .high = vdupq_n_s32(output->activation_max),
                      .zero_point = output->zero_point};
  return k;
}

/* dtmm_requantize() of four channels. */
DTMM_INLINE int32x4_t requantize_channels(const channel4 *k, int32x4_t x) {
  x = vqrdmulhq_s32(vshlq_s32(x, k->left), k->multiplier);
  /* The vector rounding shift rounds ties up; -1 before a right shift of negative values. */
  const int32x4_t sign = vandq_s32(vshrq_n_s32(x, 31), vshrq_n_s32(k->right, 31));
  return vrshlq_s32(vqaddq_s32(x, sign), k->right);
}

DTMM_INLINE int32x4_t window_sums(const dtmm_conv_params *conv, const dtmm_tensor *in,
                                  const int8_t *pixel, const int8_t *w, int32_t w_step,
                                  int32x4_t sums, mve_pred16_t part) {
  const int32_t row = conv->dilation_h * in->row_stride;
  const int32_t column = conv->dilation_w * in->pixel_stride;
  for (int32_t ky = conv->kernel_h; ky > 0; --ky, pixel += row) {
    const int8_t *x = pixel;
    DTMM_NO_UNROLL
    for (int32_t kx = conv->kernel_w; kx > 0; --kx, x += column, w += w_step) {
      sums = vaddq_s32(sums, vmulq_s32(vldrbq_z_s32(x, part), vldrbq_z_s32(w, part)));
    }
  }
  return sums;
}

static void convolve(const dtmm_conv_params *conv, const dtmm_conv_weights *weights,
                     const dtmm_tensor *in, const dtmm_tensor *out) {
  for (int32_t c = 0; c < out->channels; c += 4) {
    const mve_pred16_t part = vctp32q((uint32_t)(out->channels - c));
    const channel4 k = load_channels(weights->params + c, &conv->output, part);
    for (int32_t y = 0; y < out->height; ++y) {
      const int8_t *window = dtmm_pixel(in, y * conv->stride_h - conv->pad_top, -conv->pad_left);
      int8_t *to = dtmm_pixel(out, y, 0) + c;
      window += c;
      for (int32_t x = out->width; x > 0; --x, to += out->pixel_stride) {
        int32x4_t sums = window_sums(conv, in, window, weights->weights + c, weights->in_stride,
                                     k.bias, part);
        sums = vaddq_n_s32(requantize_channels(&k, sums), k.zero_point);
        vstrbq_p_s32(to, dtmm_vclamp(sums, k.low, k.high), part);
        window += conv->stride_w * in->pixel_stride;
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
  (void)scratch;
  (void)scratch_size;
  if (!dtmm_conv_is_valid(conv, weights, in, out) || in->channels != out->channels ||
      weights->in_stride < out->channels) {
    return DTMM_BAD_ARGUMENT;
  }
  convolve(conv, weights, in, out);
  dtmm_fill_halo(out, conv->output.zero_point);
  return DTMM_OK;
}

size_t dtmm_depthwise_conv_s8_get_buffer_size(const dtmm_conv_params *conv,
                                              const dtmm_conv_weights *weights,
                                              const dtmm_tensor *in, const dtmm_tensor *out) {
  (void)conv, (void)weights, (void)in, (void)out;
  return 0;
}
