/* Runs CASES random cases of every operator and reports a checksum of each case's whole memory, so
 * that two builds (vector and portable, device and host) can be compared. Cases depend on the seed
 * alone. */
#include "differential.h"

static dtmm_channel_params *channel_params(int32_t count) {
  dtmm_channel_params *p = (dtmm_channel_params *)(void *)allocate(sizeof *p * (size_t)count);
  for (int32_t i = 0; i < count; ++i) {
    p[i].bias = pick(-200000, 200000);
    p[i].multiplier = (1 << 30) + pick(0, (1 << 30) - 1);
    p[i].shift = pick(0, 20) ? pick(-16, -6) : pick(-1, 3);
  }
  return p;
}

/* Mostly a run kernel that fits, if there is one, sometimes with its index listed ahead. */
static void choose_kernel(const dtmm_conv_params *conv, const dtmm_tensor *in,
                          const dtmm_tensor *out, uint32_t kind, dtmm_conv_weights *weights) {
  static const dtmm_conv_kernel *const kernels[] = {RUN_KERNELS};
  static uint16_t stream[16 * 1024];
  enum { COUNT = sizeof kernels / sizeof *kernels };
  const int32_t first = pick(0, COUNT - 1), wanted = pick(0, 4), listed = pick(0, 1);
  for (int32_t i = 0; i < COUNT && wanted && weights->kernel == NULL; ++i) {
    weights->kernel = kernels[(first + i) % COUNT];
    if (!dtmm_conv_kernel_fits(conv, weights, in, out)) weights->kernel = NULL;
  }
  if (weights->kernel == NULL || kind != 1 || !listed) return;
  const size_t entries = sizeof stream / sizeof *stream;
  if (dtmm_conv_list_runs(conv, weights, in, stream, entries) != 0) weights->stream = stream;
}

/* A pointwise kernel that fits, NULL if none does. */
static const dtmm_conv_kernel *point_kernel(const dtmm_conv_params *conv, const dtmm_tensor *in,
                                            const dtmm_tensor *out, dtmm_conv_weights weights) {
  static const dtmm_conv_kernel *const kernels[] = {RUN_KERNELS};
  for (size_t i = 0; i < sizeof kernels / sizeof *kernels; ++i) {
    weights.kernel = kernels[i];
    if (dtmm_conv_pointwise_fits(conv, &weights, in, out)) return weights.kernel;
  }
  return NULL;
}

static dtmm_status pointwise(void) {
  const int32_t stride = pick(1, 2), h = pick(1, 5), w = pick(4, 13), c_in = channels(13);
  const int32_t halo = pick(0, 1), out_halo = pick(0, 1), c_out = 1 + channels(11);
  const dtmm_conv_params conv = {1, 1, stride, stride, 1, 1, 0, 0, output()};
  const dtmm_tensor in = view((h - 1) * stride + 1, (w - 1) * stride + 1, c_in, halo, 1);
  const dtmm_tensor out = view(h, w, c_out, out_halo, pick(0, 2));
  dtmm_channel_params *params = channel_params(c_out);
  for (int32_t i = 0; i < c_out; ++i) params[i].shift = -1 - (params[i].shift & 15);
  dtmm_conv_weights weights = {.out_channels = c_out, .in_stride = in.pixel_stride,
                               .weights = allocate((size_t)(c_out * in.pixel_stride)),
                               .params = params};
  if (used > POOL) return DTMM_UNSUPPORTED;
  weights.kernel = point_kernel(&conv, &in, &out, weights);
  return dtmm_conv_pointwise_s8(&conv, &weights, &in, &out, NULL, 0);
}

static dtmm_status convolution(uint32_t kind) {
  static const int32_t kernels[][2] = {{3, 3}, {1, 1}, {3, 3}, {5, 5}, {2, 3}, {1, 7}};
  const int32_t *k = kernels[pick(0, kind == 2 ? 1 : 5)];
  int32_t c_in = channels(k[0] * k[1] > 9 ? 8 : 15);
  if (kind == 2) c_in = pick(1, 32 / (k[0] * k[1]));
  const int32_t c_out = channels(k[0] * k[1] * c_in > 1000 ? 6 : 11);
  const int32_t halo = pick(0, 2), out_h = pick(1, 5), out_w = pick(1, 13);
  dtmm_conv_params conv = {k[0], k[1], pick(1, 2), pick(1, 2), 1, 1, pick(0, halo), pick(0, halo),
                           output()};
  if (pick(0, 1)) conv.stride_w = conv.stride_h = 1;
  if (pick(0, 4) == 0) conv.dilation_h = conv.dilation_w = 2;
  const int32_t need_h =
      (out_h - 1) * conv.stride_h + (k[0] - 1) * conv.dilation_h + 1 - conv.pad_top;
  const int32_t need_w =
      (out_w - 1) * conv.stride_w + (k[1] - 1) * conv.dilation_w + 1 - conv.pad_left;
  const int32_t in_h = need_h > halo + 1 ? need_h - pick(0, halo) : 1;
  const int32_t in_w = need_w > halo + 1 ? need_w - pick(0, halo) : 1;
  const dtmm_tensor in = view(in_h, in_w, c_in, halo, kind != 2);
  const int32_t out_halo = pick(0, 1), vectors = pick(0, 2); /* in this order on every compiler */
  const dtmm_tensor out = view(out_h, out_w, c_out, out_halo, vectors);
  const int32_t positions = k[0] * k[1], mask_bytes = (positions + 7) / 8;
  dtmm_conv_weights weights = {c_out, in.pixel_stride, NULL, NULL, channel_params(c_out), NULL,
                               NULL};
  dtmm_channel_params *params = (dtmm_channel_params *)(uintptr_t)weights.params;
  if (pick(0, 3)) { /* as nearly all networks have them */
    for (int32_t i = 0; i < c_out; ++i) params[i].shift = -1 - (params[i].shift & 15);
  }
  if (kind == 2) weights.in_stride = (positions * c_in + 15) / 16 * 16;
  uint8_t *index = (uint8_t *)allocate((size_t)(c_out * mask_bytes));
  memset(index, 0, (size_t)(c_out * mask_bytes));
  const int32_t density = pick(0, 10);
  for (int32_t filter = 0; filter < c_out; ++filter) {
    for (int32_t p = 0; p < positions; ++p) {
      if (pick(1, 10) <= density) index[filter * mask_bytes + p / 8] |= (uint8_t)(1u << (p % 8));
    }
  }
  weights.index = index;
  weights.weights =
      allocate((size_t)(c_out * weights.in_stride * (kind == 2 ? 1 : positions)));
  if (kind != 2) choose_kernel(&conv, &in, &out, kind, &weights);
  if (kind == 2) {
    const dtmm_conv_params product = {1, 1, 1, 1, 1, 1, 0, 0, conv.output};
    const dtmm_tensor windows = {.height = 1, .width = out_w, .channels = weights.in_stride,
                                 .pixel_stride = weights.in_stride,
                                 .row_stride = out_w * weights.in_stride};
    dtmm_tensor row = out;
    row.height = 1;
    weights.kernel = point_kernel(&product, &windows, &row, weights);
  }
  if (kind == 2) { /* bytes beyond the window are zero by contract */
    int8_t *w = (int8_t *)(uintptr_t)weights.weights;
    for (int32_t filter = 0; filter < c_out; ++filter, w += weights.in_stride) {
      memset(w + positions * c_in, 0, (size_t)(weights.in_stride - positions * c_in));
    }
  }
  static dtmm_status (*const call[])(const dtmm_conv_params *, const dtmm_conv_weights *,
                                     const dtmm_tensor *, const dtmm_tensor *, void *, size_t) = {
      dtmm_conv_dense_s8, dtmm_conv_fwcs_s8, dtmm_conv_im2col_s8};
  static size_t (*const size[])(const dtmm_conv_params *, const dtmm_conv_weights *,
                                const dtmm_tensor *, const dtmm_tensor *) = {
      dtmm_conv_dense_s8_get_buffer_size, dtmm_conv_fwcs_s8_get_buffer_size,
      dtmm_conv_im2col_s8_get_buffer_size};
  static int32_t scratch[16 * 1024];
  const size_t bytes = size[kind](&conv, &weights, &in, &out);
  if (used > POOL || bytes > sizeof scratch) return DTMM_UNSUPPORTED;
  int8_t *canary = (int8_t *)scratch + bytes;
  *canary = 77;
  const dtmm_status status = call[kind](&conv, &weights, &in, &out, scratch, bytes);
  return *canary == 77 ? status : DTMM_BAD_BLOB;
}

/* The index of CSR weights: some vectors in each kernel row of each filter. */
static int32_t csr_index(const dtmm_conv_params *conv, int32_t filters, int32_t row, uint16_t *index) {
  const int32_t gap = pick(1, 2 * row);
  uint16_t *at = index + filters;
  int32_t vectors = 0;
  for (int32_t filter = 0; filter < filters; ++filter) {
    const int32_t before = vectors;
    for (int32_t ky = 0; ky < conv->kernel_h; ++ky) {
      for (int32_t first = pick(0, gap); first < row; first += pick(1, gap)) {
        uint8_t *offsets = (uint8_t *)(at + 1);
        *at = (uint16_t)(ky * row + first);
        for (int32_t i = 0; i < 16; ++i) {
          offsets[i] = (uint8_t)pick(0, row - first > 256 ? 255 : row - first - 1);
        }
        at += 9;
        if (++vectors > 400) return vectors;
      }
    }
    index[filter] = (uint16_t)(vectors - before);
  }
  memset(at, 0, 18);
  return vectors;
}

/* The stream of FKW weights: some patterns, and kernels of them. */
static int32_t fkw_stream(int32_t filters, int32_t in_stride, uint16_t *stream) {
  const int32_t patterns = pick(1, 8), most = pick(0, 12);
  *stream++ = (uint16_t)patterns;
  for (int32_t i = 0; i < 2 * patterns; ++i) *stream++ = (uint16_t)(pick(0, 8) | pick(0, 8) << 8);
  uint16_t *at = stream + filters;
  int32_t kernels = 0;
  for (int32_t filter = 0; filter < filters; ++filter) {
    stream[filter] = (uint16_t)pick(0, most);
    kernels += stream[filter];
    for (int32_t i = stream[filter]; i > 0; --i) *at++ = (uint16_t)pick(0, patterns * in_stride - 1);
  }
  memset(at, 0, 8);
  return kernels;
}

/* CSR (kind 10) and FKW (11) weights. */
static dtmm_status rival(uint32_t kind) {
  static uint16_t stream[8 * 1024];
  static int32_t scratch[16 * 1024];
  const int32_t k = kind == 11 ? 3 : pick(1, 5), halo = pick(k / 2, 2), stride = pick(1, 2);
  const int32_t h = pick(1, 5), w = pick(1, 9), c_in = channels(k > 3 ? 11 : 15);
  const int32_t c_out = channels(11), out_halo = pick(0, 1), vectors = pick(0, 2);
  const dtmm_conv_params conv = {k, k, stride, stride, 1, 1, k / 2, k / 2, output()};
  const dtmm_tensor in = view((h - 1) * stride + 1, (w - 1) * stride + 1, c_in, halo, 1);
  const dtmm_tensor out = view(h, w, c_out, out_halo, vectors);
  dtmm_conv_weights weights = {.out_channels = c_out, .in_stride = in.pixel_stride,
                               .params = channel_params(c_out)};
  const int32_t row = k * in.pixel_stride;
  const int32_t units = kind == 11 ? fkw_stream(c_out, in.pixel_stride, stream)
                                   : csr_index(&conv, c_out, row, stream);
  weights.weights = allocate((size_t)(16 * units + 16));
  if (used > POOL || units > 400) return DTMM_UNSUPPORTED;
  const int listed = pick(0, 1);
  if (kind == 11) weights.stream = stream;
  if (kind == 10) weights.index = (const uint8_t *)stream;
  if (kind == 10 && listed) {
    const size_t entries = sizeof stream / sizeof *stream;
    if (dtmm_conv_csr_list(&conv, &weights, &in, stream, entries) == 0) return DTMM_UNSUPPORTED;
    weights.index = NULL;
    weights.stream = stream;
  }
  const size_t bytes = (kind == 11 ? dtmm_conv_fkw_s8_get_buffer_size
                                   : dtmm_conv_csr_s8_get_buffer_size)(&conv, &weights, &in, &out);
  if (bytes >= sizeof scratch) return DTMM_UNSUPPORTED;
  int8_t *canary = (int8_t *)scratch + bytes;
  *canary = 77;
  const dtmm_status status =
      (kind == 11 ? dtmm_conv_fkw_s8 : dtmm_conv_csr_s8)(&conv, &weights, &in, &out, scratch, bytes);
  return *canary == 77 ? status : DTMM_BAD_BLOB;
}

static dtmm_status other(uint32_t kind) {
  const int flat = kind == 7 && pick(0, 1); /* a fully connected layer on a vector */
  const int32_t h = flat ? 1 : pick(1, 9), w = flat ? 1 : pick(1, 9), c = channels(13);
  const dtmm_tensor in = view(h, w, c, pick(0, 1), 0);
  const dtmm_output_params out_params = output();
  if (kind == 3) {
    const dtmm_tensor b = view(h, w, c, pick(0, 1), 0), out = view(h, w, c, pick(0, 1), 0);
    dtmm_add_params add = {pick(-128, 127), 1 << 30, 0, pick(-128, 127), 1 << 30, 0, 20,
                           (1 << 30) + pick(0, (1 << 30) - 1), pick(-20, -16), out_params};
    add.a_multiplier += pick(0, (1 << 30) - 1);
    add.a_shift = pick(-7, 0);
    return dtmm_add_s8(&add, &in, &b, pick(0, 2) ? &out : pick(0, 1) ? &in : &b);
  }
  if (kind == 4 || kind == 5) {
    dtmm_pool_params pool = {pick(1, 4), pick(1, 9), pick(1, 3), pick(1, 3), 0, 0, out_params};
    pool.pad_top = pick(0, pool.window_h - 1);
    pool.pad_left = pick(0, pool.window_w - 1);
    const dtmm_tensor out = view((h + pool.pad_top - 1) / pool.stride_h + 1,
                                 (w + pool.pad_left - 1) / pool.stride_w + 1, c, pick(0, 1), 0);
    return (kind == 4 ? dtmm_max_pool_s8 : dtmm_average_pool_s8)(&pool, &in, &out);
  }
  if (kind == 6) {
    const dtmm_tensor out = view(1, 1, c, pick(0, 1), 0);
    const dtmm_mean_params mean = {pick(-128, 127), (1 << 30) + pick(0, (1 << 30) - 1),
                                   pick(-8, 1), out_params};
    return dtmm_mean_s8(&mean, &in, &out);
  }
  if (kind == 7) {
    const int32_t c_out = pick(1, 13), stride = h * w * c + pick(0, 3);
    const dtmm_tensor out = view(1, 1, c_out, pick(0, 1), 0);
    const dtmm_channel_params *params = channel_params(c_out);
    const int8_t *weights = allocate((size_t)(c_out * stride));
    if (used > POOL) return DTMM_UNSUPPORTED;
    return dtmm_fully_connected_s8(&out_params, weights, stride, params, &in, &out);
  }
  const dtmm_tensor out = view(h, w, c, pick(0, 2), 0);
  return dtmm_copy_s8((int8_t)pick(-128, 127), &in, &out);
}

static dtmm_status run(uint32_t kind) {
  if (kind == 9) return pointwise();
  if (kind > 9) return rival(kind);
  return kind < 3 ? convolution(kind) : other(kind);
}

int main(void) { return run_cases(12, run); }
