/* Vectors of channels spend a multiplication and an addition on four products, because MVE multiplies
 * and accumulates vectors only into a scalar. So each channel's taps are brought together: for every
 * step along a line the three pixels across it are stored interleaved, a word of three taps and a gap
 * for each of 16 channels. An output of a channel is then the dot product of three neighbouring words
 * with its weights (and of a fourth, which meets zeros): one load and one multiplication. */
#include "dtmm_depthwise_internal.h"

#if DTMM_USE_MVE
#include "dtmm_mve.h"

#define TAPS 3

/* The words of `count` columns, `along` bytes apart; a column's pixels are `across` bytes apart. */
static void write_columns(const int8_t *from, int32_t along, int32_t across, int32_t count,
                          mve_pred16_t channels, int8_t *to) {
  DTMM_NO_UNROLL
  for (; count > 0; --count, from += along, to += DTMM_PATCH_COLUMN) {
    const int8x16x4_t column = {{vldrbq_z_s8(from, channels), vldrbq_z_s8(from + across, channels),
                                 vldrbq_z_s8(from + 2 * across, channels), vdupq_n_s8(0)}};
    vst4q_s8(to, column);
  }
}

/* A channel's outputs of a line. `words` are its first column's, `patch` the addresses of those of
 * the first output. */
DTMM_INLINE void channel_of_line(const dtmm_channel_params *channel, dtmm_output_params output,
                                 int8x16_t w, uint32x4_t patch, const int32_t stride, int32_t outputs,
                                 int8_t *to, int32_t out_along) {
  const int32_t bias = channel->bias, multiplier = channel->multiplier, shift = channel->shift;
  const uint32x4_t places = vmulq_n_u32(vidupq_n_u32(0, 1), (uint32_t)out_along);
  const int32x4_t low = vdupq_n_s32(output.activation_min);
  const int32x4_t high = vdupq_n_s32(output.activation_max);
#define DOT(n) \
  vmladavaq_s8(bias, w, vreinterpretq_s8_s32(vldrwq_gather_base_s32(patch, (n) * stride_bytes)))
#define FOUR_DOTS(stride)                                         \
  enum { stride_bytes = (stride) * DTMM_PATCH_COLUMN };           \
  const int32x4_t four = {DOT(0), DOT(1), DOT(2), DOT(3)};        \
  sums = four
  DTMM_NO_UNROLL
  for (; outputs > 0; outputs -= DTMM_PATCH_OUTPUTS, to += DTMM_PATCH_OUTPUTS * out_along) {
    int32x4_t sums;
    if (stride == 1) {
      FOUR_DOTS(1);
    } else {
      FOUR_DOTS(2);
    }
    patch = vaddq_n_u32(patch, (uint32_t)(DTMM_PATCH_OUTPUTS * stride * DTMM_PATCH_COLUMN));
    sums = vaddq_n_s32(dtmm_vrequantize_right(sums, multiplier, shift), output.zero_point);
    vstrbq_scatter_offset_p_s32(to, places, dtmm_vclamp(sums, low, high),
                                vctp32q((uint32_t)outputs));
  }
#undef FOUR_DOTS
#undef DOT
}

/* One line of up to 16 channels, of which the columns are written already. */
DTMM_INLINE void line_of_channels(const dtmm_patch_lines *lines, const int8_t *weights,
                                  const int8_t *columns, const dtmm_channel_params *channel,
                                  dtmm_output_params output, const int32_t stride,
                                  int32_t channels, int8_t *to, int32_t out_along) {
  const uint32x4_t words = vmulq_n_u32(vidupq_n_u32(0, 1), DTMM_PATCH_COLUMN);
  DTMM_NO_UNROLL
  for (; channels > 0; --channels, ++channel, ++to, weights += 4, columns += 4) {
    const int8x16_t w = vreinterpretq_s8_s32(
        vldrwq_gather_offset_s32((const int32_t *)(const void *)weights, words));
    const uint32x4_t patch = vaddq_n_u32(words, (uint32_t)(uintptr_t)columns);
    channel_of_line(channel, output, w, patch, stride, lines->outputs, to, out_along);
  }
}

void dtmm_depthwise_patches(const dtmm_conv_params *conv, const dtmm_conv_weights *weights,
                            const dtmm_tensor *in, const dtmm_tensor *out, void *scratch) {
  const dtmm_patch_lines lines = dtmm_depthwise_cut(conv, out->height, out->width);
  const int up = lines.is_upright;
  const int32_t along = up ? in->row_stride : in->pixel_stride;
  const int32_t across = up ? in->pixel_stride : in->row_stride;
  const int32_t next_in = across * (up ? conv->stride_w : conv->stride_h);
  const int32_t next_out = up ? out->pixel_stride : out->row_stride;
  const int32_t out_along = up ? out->row_stride : out->pixel_stride;
  const int32_t read = (lines.outputs - 1) * lines.stride + TAPS;
  const int32_t weight = weights->in_stride;
  int8_t *taps = scratch, *columns = taps + 4 * DTMM_PATCH_COLUMN;
  for (int32_t c = 0; c < out->channels; c += DTMM_PATCH_CHANNELS) {
    const int32_t channels = dtmm_min(out->channels - c, DTMM_PATCH_CHANNELS);
    const mve_pred16_t part = vctp8q((uint32_t)channels);
    write_columns(weights->weights + c, weight * (up ? TAPS : 1), weight * (up ? 1 : TAPS), TAPS, part,
                  taps);
    const int8x16_t none = vdupq_n_s8(0);
    for (int32_t i = 0; i < DTMM_PATCH_COLUMN; i += DTMM_VECTOR_BYTES) {
      vstrbq_s8(taps + TAPS * DTMM_PATCH_COLUMN + i, none);
    }
    const int8_t *from = dtmm_pixel(in, -conv->pad_top, -conv->pad_left) + c;
    int8_t *to = out->data + c;
    for (int32_t line = 0; line < lines.lines; ++line, from += next_in, to += next_out) {
      write_columns(from, along, across, read, part, columns);
      if (lines.stride == 1) {
        line_of_channels(&lines, taps, columns, weights->params + c, conv->output, 1, channels, to,
                         out_along);
      } else {
        line_of_channels(&lines, taps, columns, weights->params + c, conv->output, 2, channels, to,
                         out_along);
      }
    }
  }
}
#endif
