#include "dtmm_conv_internal.h"

#if DTMM_USE_MVE
#include "dtmm_mve.h"

static int32_t dot(const int8_t *w, const int8_t *x, int32_t count, int32_t sum) {
  for (; count > 0; count -= 16, w += 16, x += 16) {
    const mve_pred16_t part = vctp8q((uint32_t)count);
    sum = vmladavaq_p_s8(sum, vldrbq_z_s8(x, part), vldrbq_z_s8(w, part), part);
  }
  return sum;
}
#else
static int32_t dot(const int8_t *w, const int8_t *x, int32_t count, int32_t sum) {
  for (int32_t i = 0; i < count; ++i) sum = dtmm_add_wrapping(sum, w[i] * x[i]);
  return sum;
}
#endif

/* One filter on the channels of its group: `window` is the first of them at the first position. */
static int32_t filter_sum(const dtmm_conv_params *conv, const dtmm_conv_weights *weights,
                          const dtmm_tensor *in, const int8_t *window, int32_t filter,
                          int32_t channels) {
  const int32_t positions = conv->kernel_h * conv->kernel_w;
  const int8_t *w = weights->weights + filter * positions * weights->in_stride;
  int32_t sum = weights->params[filter].bias;
  for (int32_t ky = 0; ky < conv->kernel_h; ++ky) {
    for (int32_t kx = 0; kx < conv->kernel_w; ++kx, w += weights->in_stride) {
      sum = dot(w, window + dtmm_window_offset(conv, in, ky, kx), channels, sum);
    }
  }
  return sum;
}

static void convolve_pixel(const dtmm_conv_params *conv, const dtmm_conv_weights *weights,
                           int32_t groups, const dtmm_tensor *in, const int8_t *window,
                           int8_t *out) {
  const int32_t inputs = in->channels / groups, outputs = weights->out_channels / groups;
  for (int32_t group = 0; group < groups; ++group, window += inputs) {
    for (int32_t filter = group * outputs; filter < (group + 1) * outputs; ++filter) {
      const dtmm_channel_params *p = weights->params + filter;
      const int32_t sum = filter_sum(conv, weights, in, window, filter, inputs);
      const int32_t v = dtmm_requantize(sum, p->multiplier, p->shift) + conv->output.zero_point;
      out[filter] = (int8_t)dtmm_clamp(v, &conv->output);
    }
  }
}

dtmm_status dtmm_conv_grouped_s8(const dtmm_conv_params *conv, const dtmm_conv_weights *weights,
                                 int32_t groups, const dtmm_tensor *in, const dtmm_tensor *out,
                                 void *scratch, size_t scratch_size) {
  (void)scratch;
  (void)scratch_size;
  if (!dtmm_conv_is_valid(conv, weights, in, out) || groups < 1 || in->channels % groups ||
      out->channels % groups || weights->in_stride < in->channels / groups) {
    return DTMM_BAD_ARGUMENT;
  }
  for (int32_t y = 0; y < out->height; ++y) {
    for (int32_t x = 0; x < out->width; ++x) {
      const int8_t *window = dtmm_pixel(in, y * conv->stride_h - conv->pad_top,
                                        x * conv->stride_w - conv->pad_left);
      convolve_pixel(conv, weights, groups, in, window, dtmm_pixel(out, y, x));
    }
  }
  dtmm_fill_halo(out, conv->output.zero_point);
  return DTMM_OK;
}

size_t dtmm_conv_grouped_s8_get_buffer_size(const dtmm_conv_params *conv,
                                            const dtmm_conv_weights *weights, int32_t groups,
                                            const dtmm_tensor *in, const dtmm_tensor *out) {
  (void)conv, (void)weights, (void)groups, (void)in, (void)out;
  return 0;
}
