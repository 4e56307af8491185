/* As differential.c, for depthwise and grouped convolutions and for the operators that scale, look up
 * or move values. */
#include "differential.h"

enum { MUL, MUL_BROADCAST, ADD_BROADCAST, LOOKUP, SOFTMAX, CONCAT, PAD, STRIDED_SLICE, GROUPED, DEPTHWISE, KINDS };

static dtmm_status multiply(uint32_t kind, const dtmm_tensor *a, const dtmm_tensor *b,
                            const dtmm_tensor *out) {
  const dtmm_mul_params mul = {pick(-128, 127), pick(-128, 127),
                               (1 << 30) + pick(0, (1 << 30) - 1), pick(-14, 2), output()};
  return (kind == MUL ? dtmm_mul_s8 : dtmm_mul_broadcast_s8)(&mul, a, b, out);
}

static dtmm_status add_pixel(const dtmm_tensor *a, const dtmm_tensor *b, const dtmm_tensor *out) {
  dtmm_add_params add = {pick(-128, 127), 1 << 30, 0, pick(-128, 127), 1 << 30, 0, 20,
                         (1 << 30) + pick(0, (1 << 30) - 1), pick(-20, -16), output()};
  add.b_multiplier += pick(0, (1 << 30) - 1);
  add.b_shift = pick(-7, 0);
  return dtmm_add_broadcast_s8(&add, a, b, out);
}

static dtmm_status softmax(const dtmm_tensor *in, const dtmm_tensor *out) {
  int32_t *table = (int32_t *)(void *)allocate(256 * sizeof(int32_t));
  const int32_t count = pick(1, 256);
  int32_t value = INT32_MAX;
  for (int32_t i = 0; i < count; ++i) {
    table[i] = value;
    value -= (int32_t)(((int64_t)value * pick(1, 99)) / 100);
  }
  const dtmm_softmax_params params = {table, count};
  return dtmm_softmax_s8(&params, in, out);
}

static dtmm_status concat(int32_t h, int32_t w) {
  dtmm_tensor in[4];
  const int32_t count = pick(1, 4);
  int32_t total = 0, first = 0;
  for (int32_t i = 0; i < count; ++i) {
    const int32_t c = channels(8); /* arguments are evaluated in no fixed order */
    in[i] = view(h, w, c, pick(0, 1), 0);
    total += in[i].channels;
  }
  const dtmm_tensor out = view(h, w, total, pick(0, 1), 0);
  for (int32_t i = 0; i < count; ++i) {
    const int32_t c = in[i].channels;
    if (pick(0, 1)) { /* made in place */
      in[i] = out;
      in[i].data += first;
      in[i].channels = c;
    }
    first += c;
  }
  return dtmm_concat_s8((int8_t)pick(-128, 127), in, count, &out);
}

static dtmm_status grouped(uint32_t kind) {
  static const int32_t kernels[][2] = {{3, 3}, {1, 1}, {3, 3}, {5, 5}, {2, 3}, {1, 7}};
  const int is_long = kind == DEPTHWISE && pick(0, 1); /* lines that are long enough for patches */
  const int32_t *k = kernels[is_long ? 0 : pick(0, 5)], halo = pick(0, 2);
  const int32_t short_side = pick(1, 5), side = is_long ? pick(8, 14) : pick(1, 9), flip = is_long && pick(0, 1);
  const int32_t h = flip ? side : short_side, w = flip ? short_side : side;
  const int32_t groups = kind == DEPTHWISE ? channels(13) : pick(1, 4);
  const int32_t inputs = kind == DEPTHWISE ? 1 : channels(7);
  const int32_t outputs = kind == DEPTHWISE ? 1 : pick(1, 3);
  const dtmm_conv_params conv = {k[0], k[1], pick(1, 2), pick(1, 2), 1, 1, pick(0, halo),
                                 pick(0, halo), output()};
  const int32_t in_h = (h - 1) * conv.stride_h + k[0] - conv.pad_top;
  const int32_t in_w = (w - 1) * conv.stride_w + k[1] - conv.pad_left;
  const dtmm_tensor in = view(in_h > 1 ? in_h : 1, in_w > 1 ? in_w : 1, groups * inputs, halo, 0);
  const dtmm_tensor out = view(h, w, groups * outputs, pick(0, 1), 0);
  const int32_t stride = (kind == DEPTHWISE ? groups : inputs) + pick(0, 5);
  const int32_t units = k[0] * k[1] * (kind == DEPTHWISE ? 1 : out.channels);
  dtmm_channel_params *params =
      (dtmm_channel_params *)(void *)allocate(sizeof *params * (size_t)out.channels);
  for (int32_t i = 0; i < out.channels; ++i) {
    params[i].bias = pick(-200000, 200000);
    params[i].multiplier = (1 << 30) + pick(0, (1 << 30) - 1);
    params[i].shift = pick(0, 20) ? pick(-16, -6) : pick(-1, 3);
  }
  const dtmm_conv_weights weights = {.out_channels = out.channels,
                                     .in_stride = stride,
                                     .weights = allocate((size_t)(units * stride)),
                                     .params = params};
  if (used > POOL) return DTMM_UNSUPPORTED;
  static int32_t scratch[1024]; /* what is left in it does not count */
  return kind == DEPTHWISE ? dtmm_depthwise_conv_s8(&conv, &weights, &in, &out, scratch, sizeof scratch)
                           : dtmm_conv_grouped_s8(&conv, &weights, groups, &in, &out, NULL, 0);
}

static dtmm_status run(uint32_t kind) {
  if (kind == GROUPED || kind == DEPTHWISE) return grouped(kind);
  const int32_t h = pick(1, 7), w = pick(1, 7), c = channels(13);
  if (kind == CONCAT) return concat(h, w);
  const dtmm_tensor in = view(h, w, c, pick(0, 1), 0);
  const int8_t zero_point = (int8_t)pick(-128, 127);
  if (kind == PAD) {
    const int32_t top = pick(0, 3), left = pick(0, 3), bottom = pick(0, 3), right = pick(0, 3);
    const dtmm_tensor out = view(h + top + bottom, w + left + right, c, pick(0, 1), 0);
    return dtmm_pad_s8(zero_point, top, left, &in, &out);
  }
  if (kind == STRIDED_SLICE) {
    const dtmm_strided_slice_params slice = {pick(0, h - 1), pick(0, w - 1), pick(1, 3),
                                             pick(1, 3)};
    const dtmm_tensor out = view((h - 1 - slice.begin_h) / slice.stride_h + 1,
                                 (w - 1 - slice.begin_w) / slice.stride_w + 1, c, pick(0, 1), 0);
    return dtmm_strided_slice_s8(&slice, zero_point, &in, &out);
  }
  const dtmm_tensor other = view(h, w, c, in.halo, 0);
  const dtmm_tensor *out = pick(0, 2) ? &other : &in;
  if (kind == LOOKUP) return dtmm_lookup_s8(allocate(256), zero_point, &in, out);
  if (kind == SOFTMAX) return softmax(&in, out);
  const dtmm_tensor pixel = view(1, 1, c, pick(0, 1), 0), like = view(h, w, c, pick(0, 1), 0);
  if (kind == ADD_BROADCAST) return add_pixel(&in, &pixel, out);
  return multiply(kind, &in, kind == MUL ? &like : &pixel, out);
}

int main(void) { return run_cases(KINDS, run); }
