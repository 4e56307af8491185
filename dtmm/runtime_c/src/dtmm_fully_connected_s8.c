#include "dtmm/ops.h"
#include "dtmm_internal.h"

#if DTMM_USE_MVE
#include "dtmm_channel4.h"

/* Adds the products of four rows of weights with one run of the input. In assembler because the
 * compilers do not keep a load beside every multiplication. */
DTMM_INLINE void dot_rows(const int8_t *const w[4], const int8_t *x, int32_t count, int32_t sums[4]) {
  const int8_t *w0 = w[0], *w1 = w[1], *w2 = w[2], *w3 = w[3];
  int32_t s0 = sums[0], s1 = sums[1], s2 = sums[2], s3 = sums[3];
  __asm__ volatile(
      "wls lr, %[n], 2f\n"
      "1:\n"
      "vldrb.u8 q0, [%[x]], #16\n"
      "vldrb.u8 q1, [%[w0]], #16\n"
      "vmladava.s8 %[s0], q0, q1\n"
      "vldrb.u8 q2, [%[w1]], #16\n"
      "vmladava.s8 %[s1], q0, q2\n"
      "vldrb.u8 q1, [%[w2]], #16\n"
      "vmladava.s8 %[s2], q0, q1\n"
      "vldrb.u8 q2, [%[w3]], #16\n"
      "vmladava.s8 %[s3], q0, q2\n"
      "le lr, 1b\n"
      "2:\n"
      : [s0] "+Te"(s0), [s1] "+Te"(s1), [s2] "+Te"(s2), [s3] "+Te"(s3), [x] "+r"(x),
        [w0] "+r"(w0), [w1] "+r"(w1), [w2] "+r"(w2), [w3] "+r"(w3)
      : [n] "r"(count / DTMM_VECTOR_BYTES)
      : "lr", "q0", "q1", "q2", "memory");
  if (count % DTMM_VECTOR_BYTES != 0) {
    const mve_pred16_t part = vctp8q((uint32_t)(count % DTMM_VECTOR_BYTES));
    const int8x16_t v = vldrbq_z_s8(x, part);
    s0 = vmladavaq_p_s8(s0, v, vldrbq_z_s8(w0, part), part);
    s1 = vmladavaq_p_s8(s1, v, vldrbq_z_s8(w1, part), part);
    s2 = vmladavaq_p_s8(s2, v, vldrbq_z_s8(w2, part), part);
    s3 = vmladavaq_p_s8(s3, v, vldrbq_z_s8(w3, part), part);
  }
  sums[0] = s0, sums[1] = s1, sums[2] = s2, sums[3] = s3;
}

/* Four channels of the output from their sums, without the bias. */
DTMM_INLINE void finish_rows(const dtmm_output_params *output, const dtmm_channel_params *params,
                             const int32_t sums[4], int32_t channels, int8_t *out) {
  const dtmm_channel4 k = dtmm_load_channels(params, output, channels);
  const int32x4_t all = {sums[0], sums[1], sums[2], sums[3]};
  dtmm_store_channels(&k, 0, vaddq_s32(all, k.bias), out);
}

/* As many whole groups of four channels as there are from the first one on, where the input is one run
 * of bytes: nothing but the sums is set up for each group. Stops at a group that shifts to the left.
 * Returns the number of channels that are done. */
static int32_t finish_groups(const dtmm_output_params *output, const int8_t *weights,
                             int32_t weight_stride, const dtmm_channel_params *params,
                             const int8_t *x, int32_t count, const dtmm_tensor *out) {
  const uint32x4_t words = vmulq_n_u32(vidupq_n_u32(0, 1), 3); /* a channel's words */
  const int32x4_t low = vdupq_n_s32(output->activation_min);
  const int32x4_t high = vdupq_n_s32(output->activation_max);
  int32_t first = 0;
  DTMM_NO_UNROLL
  for (; first + 4 <= out->channels; first += 4, params += 4, weights += 4 * weight_stride) {
    const int32_t *p = &params->bias;
    const int32x4_t shift = vldrwq_gather_shifted_offset_s32(p + 2, words);
    if (DTMM_UNLIKELY(vcmpgeq_n_s32(shift, 0) != 0)) break;
    const int8_t *const w[4] = {weights, weights + weight_stride, weights + 2 * weight_stride,
                                weights + 3 * weight_stride};
    int32_t sums[4] = {0, 0, 0, 0};
    dot_rows(w, x, count, sums);
    int32x4_t v = {sums[0], sums[1], sums[2], sums[3]};
    v = vaddq_s32(v, vldrwq_gather_shifted_offset_s32(p, words));
    v = vqrdmulhq_s32(v, vldrwq_gather_shifted_offset_s32(p + 1, words));
    v = vrshlq_s32(vqaddq_s32(v, vshrq_n_s32(v, 31)), shift);
    vstrbq_s32(out->data + first, dtmm_vclamp(vaddq_n_s32(v, output->zero_point), low, high));
  }
  return first;
}

#else

static void dot_rows(const int8_t *const w[4], const int8_t *x, int32_t count, int32_t sums[4]) {
  for (int32_t row = 0; row < 4; ++row) {
    for (int32_t i = 0; i < count; ++i) sums[row] += w[row][i] * x[i];
  }
}

static void finish_rows(const dtmm_output_params *output, const dtmm_channel_params *params,
                        const int32_t sums[4], int32_t channels, int8_t *out) {
  for (int32_t i = 0; i < dtmm_min(channels, 4); ++i) {
    const int32_t sum = dtmm_add_wrapping(sums[i], params[i].bias);
    const int32_t v = dtmm_requantize(sum, params[i].multiplier, params[i].shift);
    out[i] = (int8_t)dtmm_clamp(v + output->zero_point, output);
  }
}

static int32_t finish_groups(const dtmm_output_params *output, const int8_t *weights,
                             int32_t weight_stride, const dtmm_channel_params *params,
                             const int8_t *x, int32_t count, const dtmm_tensor *out) {
  (void)output, (void)weights, (void)weight_stride, (void)params, (void)x, (void)count, (void)out;
  return 0;
}

#endif

/* The channels from `first` on. */
DTMM_NO_INLINE static void finish_others(const dtmm_output_params *output, const int8_t *weights,
                                         int32_t weight_stride, const dtmm_channel_params *params,
                                         const dtmm_tensor *in, const dtmm_tensor *out,
                                         int32_t first) {
  const int rows = dtmm_rows_are_dense(in);
  const int32_t runs = rows ? 1 : in->width;
  const int32_t count = rows ? in->width * in->channels : in->channels;
  for (; first < out->channels; first += 4) {
    const int8_t *w[4];
    int32_t sums[4] = {0, 0, 0, 0};
    for (int32_t i = 0; i < 4; ++i) {
      w[i] = weights + dtmm_min(first + i, out->channels - 1) * weight_stride;
    }
    for (int32_t y = 0; y < in->height; ++y) {
      for (int32_t x = 0; x < runs; ++x) {
        dot_rows(w, dtmm_pixel(in, y, x), count, sums);
        for (int32_t i = 0; i < 4; ++i) w[i] += count;
      }
    }
    finish_rows(output, params + first, sums, out->channels - first, out->data + first);
  }
}

dtmm_status dtmm_fully_connected_s8(const dtmm_output_params *output, const int8_t *weights,
                                    int32_t weight_stride, const dtmm_channel_params *params,
                                    const dtmm_tensor *in, const dtmm_tensor *out) {
  if (output == NULL || weights == NULL || params == NULL || !dtmm_output_is_valid(output) ||
      !dtmm_tensor_is_valid(in) || !dtmm_tensor_is_valid(out) || out->height != 1 ||
      out->width != 1 || weight_stride < in->height * in->width * in->channels) {
    return DTMM_BAD_ARGUMENT;
  }
  const int one_run = in->height == 1 && (in->width == 1 || dtmm_rows_are_dense(in));
  int32_t first = 0;
  if (one_run) {
    const int32_t count = in->width * in->channels;
    first = finish_groups(output, weights, weight_stride, params, in->data, count, out);
  }
  if (first < out->channels) {
    finish_others(output, weights, weight_stride, params, in, out, first);
  }
  dtmm_fill_halo(out, output->zero_point);
  return DTMM_OK;
}
