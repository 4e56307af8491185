/* Runs single operators on generated data, each in a counted region, and reports a checksum of its
 * output. The same file runs on the host (host_report.c): equal checksums show that what was
 * measured computes what it should.
 *
 * The points come from the file "points.bin": little-endian int32, the fields of `point` each; the
 * index of pruned layers, as conv.h describes it for each kernel, from "index.bin". */
#include "dtmm/conv.h"
#include "dtmm/kernels.h"
#include "dtmm/ops.h"
#include "dtmm/point_kernels.h"
#include "dtmm_firmware.h"

enum {
  CONV_IM2COL,
  CONV_DENSE,
  CONV_FWCS,
  FULLY_CONNECTED,
  ADD,
  MAX_POOL,
  AVERAGE_POOL,
  MEAN,
  CONV_GROUPED,
  DEPTHWISE_CONV,
  ADD_BROADCAST,
  MUL,
  MUL_BROADCAST,
  LOOKUP,
  SOFTMAX,
  CONCAT,
  PAD,
  STRIDED_SLICE,
  CONV_POINTWISE,
  CONV_CSR,
  CONV_FKW
};

/* In the order of dtmm.storage.kernel_ids.VARIANTS; 0 is the looped kernel. */
static const dtmm_conv_kernel *const run_kernels[] = {0, RUN_KERNELS};

typedef struct {
  int32_t kernel, run_kernel, listed; /* listed: whether its runs are listed ahead */
  int32_t kernel_h, kernel_w, stride_h, stride_w, dilation_h, dilation_w;
  int32_t pad_top, pad_left, in_halo, out_halo;
  int32_t in_multiple; /* the input's pixel stride is in_channels rounded up to this */
  int32_t in_h, in_w, out_h, out_w, in_channels, out_channels, filterlets, groups;
  int32_t index, index_bytes; /* where its index lies in index.bin */
  int32_t seed;               /* of what is random in this point alone */
} point;

/* Sizes are measure.py's LIMITS. */
#define ALIGNED __attribute__((aligned(16)))
static ALIGNED int8_t in_data[IN_BYTES], in2_data[IN_BYTES], out_data[OUT_BYTES];
static ALIGNED int8_t weights[WEIGHT_BYTES], scratch[SCRATCH_BYTES];
static ALIGNED uint8_t index_data[INDEX_BYTES];
static ALIGNED dtmm_channel_params params[CHANNELS];

static uint32_t state;
static uint32_t random_word(void) {
  state ^= state << 13;
  state ^= state >> 17;
  state ^= state << 5;
  return state;
}

static int32_t round_up(int32_t value, int32_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

static dtmm_tensor view(int8_t *data, int h, int w, int c, int multiple, int halo) {
  const int32_t pixel = round_up(c, multiple), row = (w + halo) * pixel;
  const dtmm_tensor tensor = {data + halo * (row + pixel), h, w, c, pixel, row, halo};
  return tensor;
}

/* Multipliers that bring sums of `products` random products into the int8 range. */
static void make_params(int channels, int32_t products) {
  int bits = 0;
  while (1 << (2 * bits) < products) bits++;
  for (int c = 0; c < channels; c++) {
    params[c].bias = (int32_t)(random_word() % 20001u) - 10000;
    params[c].multiplier = (1 << 30) + (int32_t)(random_word() & 0x3fffffff);
    params[c].shift = -(6 + bits + (int32_t)(random_word() & 1));
  }
}

/* Units of `used` weights, `stride` bytes apart, zeros between: what the kernels rely on. */
static void make_weights(int32_t units, int32_t used, int32_t stride) {
  if (used == stride) return; /* the random bytes of before are as good */
  for (int32_t u = 0; u < units; u++)
    for (int32_t i = 0; i < stride; i++)
      weights[u * stride + i] = i < used ? (int8_t)(random_word() >> 11) : 0;
}

static void read_index(const point *p) {
  const size_t bytes = (size_t)p->index_bytes;
  if (dtmm_read_file("index.bin", (size_t)p->index, index_data, bytes) != p->index_bytes) {
    dtmm_fail("index.bin is missing or too short");
  }
}

#define MEASURED(call)      \
  do {                      \
    dtmm_region_begin(id);  \
    status = (call);        \
    dtmm_region_end();      \
  } while (0)

/* What scales, looks up or moves values. A concatenation copies all of its channels. */
static dtmm_status run_elementwise(uint32_t id, const point *p, const dtmm_tensor *in,
                                   const dtmm_tensor *in2, const dtmm_tensor *out) {
  const dtmm_output_params output = {-7, -128, 127};
  const dtmm_tensor pixel = {in2->data, 1, 1, p->in_channels, p->in_channels, p->in_channels, 0};
  dtmm_status status = DTMM_UNSUPPORTED;
  if (p->kernel == ADD_BROADCAST) {
    const dtmm_add_params add = {3, 1 << 30, 0, -5, 1782263831, -1, 20, 1610612736, -18, output};
    MEASURED(dtmm_add_broadcast_s8(&add, in, &pixel, out));
  } else if (p->kernel == MUL || p->kernel == MUL_BROADCAST) {
    const dtmm_mul_params mul = {3, -5, 1610612736, -7, output};
    if (p->kernel == MUL) MEASURED(dtmm_mul_s8(&mul, in, in2, out));
    if (p->kernel == MUL_BROADCAST) MEASURED(dtmm_mul_broadcast_s8(&mul, in, &pixel, out));
  } else if (p->kernel == LOOKUP) {
    MEASURED(dtmm_lookup_s8(weights, -7, in, out));
  } else if (p->kernel == SOFTMAX) {
    int32_t *exponentials = (int32_t *)(void *)scratch;
    for (int32_t i = 0; i < 256; i++) exponentials[i] = i ? exponentials[i - 1] / 9 * 8 : INT32_MAX;
    const dtmm_softmax_params softmax = {exponentials, 256};
    MEASURED(dtmm_softmax_s8(&softmax, in, out));
  } else if (p->kernel == CONCAT) {
    MEASURED(dtmm_concat_s8(-7, in, 1, out));
  } else if (p->kernel == PAD) {
    MEASURED(dtmm_pad_s8(-7, p->pad_top, p->pad_left, in, out));
  } else if (p->kernel == STRIDED_SLICE) {
    const dtmm_strided_slice_params slice = {0, 0, p->stride_h, p->stride_w};
    MEASURED(dtmm_strided_slice_s8(&slice, -7, in, out));
  }
  return status;
}

static dtmm_status run(uint32_t id, const point *p, dtmm_tensor *out, size_t *scratch_bytes) {
  const dtmm_output_params output = {-7, -128, 127};
  const dtmm_tensor in = view(in_data, p->in_h, p->in_w, p->in_channels, p->in_multiple, p->in_halo);
  const dtmm_tensor in2 = view(in2_data, p->in_h, p->in_w, p->in_channels, p->in_multiple, p->in_halo);
  dtmm_status status = DTMM_UNSUPPORTED;
  *out = view(out_data, p->out_h, p->out_w, p->out_channels, 16, p->out_halo);
  *scratch_bytes = 0;

#define CONV(name)                                                                     \
  do {                                                                                 \
    *scratch_bytes = name##_get_buffer_size(&conv, &stored, &in, out);                 \
    MEASURED(name(&conv, &stored, &in, out, scratch, sizeof scratch));                 \
  } while (0)

  if (p->kernel <= CONV_FWCS || p->kernel >= CONV_POINTWISE) {
    const dtmm_conv_params conv = {p->kernel_h,   p->kernel_w, p->stride_h, p->stride_w, p->dilation_h,
                                   p->dilation_w, p->pad_top,  p->pad_left, output};
    const int32_t window = p->kernel_h * p->kernel_w * p->in_channels;
    const int32_t stride = p->kernel == CONV_IM2COL ? round_up(window, 16) : in.pixel_stride;
    dtmm_conv_weights stored = {p->out_channels, stride, weights,
                                      p->index_bytes ? index_data : 0, params,
                                      run_kernels[p->run_kernel], 0};
    const int32_t positions = p->kernel_h * p->kernel_w;
    make_params(p->out_channels, window);
    if (p->kernel == CONV_IM2COL) make_weights(p->out_channels, window, stride);
    if (p->kernel == CONV_DENSE || p->kernel == CONV_POINTWISE)
      make_weights(p->out_channels * positions, p->in_channels, stride);
    if (p->kernel == CONV_FWCS) make_weights(p->filterlets, p->in_channels, stride);
    if (p->index_bytes) read_index(p);
    if (p->kernel == CONV_CSR || p->kernel == CONV_FKW) { /* as a deployment has them: in flash */
      uint16_t *stream = (uint16_t *)(void *)index_data;
      const size_t entries = sizeof index_data / 2;
      if (p->kernel == CONV_CSR && dtmm_conv_csr_list(&conv, &stored, &in, stream, entries) == 0) {
        return DTMM_UNSUPPORTED;
      }
      stored.index = 0;
      stored.stream = stream;
    }
    if (p->listed) { /* where the operator would list them, which does not write there then */
      uint16_t *stream = (uint16_t *)(void *)scratch;
      if (dtmm_conv_list_runs(&conv, &stored, &in, stream, sizeof scratch / 2) == 0) {
        return DTMM_NO_SPACE;
      }
      stored.index = 0;
      stored.stream = stream;
    }
    if (p->kernel == CONV_IM2COL) CONV(dtmm_conv_im2col_s8);
    if (p->kernel == CONV_DENSE) CONV(dtmm_conv_dense_s8);
    if (p->kernel == CONV_FWCS) CONV(dtmm_conv_fwcs_s8);
    if (p->kernel == CONV_POINTWISE) CONV(dtmm_conv_pointwise_s8);
    if (p->kernel == CONV_CSR) CONV(dtmm_conv_csr_s8);
    if (p->kernel == CONV_FKW) CONV(dtmm_conv_fkw_s8);
  } else if (p->kernel == FULLY_CONNECTED) {
    const int32_t inputs = p->in_h * p->in_w * p->in_channels;
    make_params(p->out_channels, inputs);
    MEASURED(dtmm_fully_connected_s8(&output, weights, inputs, params, &in, out));
  } else if (p->kernel == ADD) {
    /* Multipliers 0.5 and less than 0.5, as TFLite's quantizer makes them of unequal scales. */
    const dtmm_add_params add = {3, 1 << 30, 0, -5, 1782263831, -1, 20, 1610612736, -18, output};
    MEASURED(dtmm_add_s8(&add, &in, &in2, out));
  } else if (p->kernel == MAX_POOL || p->kernel == AVERAGE_POOL) {
    const dtmm_pool_params pool = {p->kernel_h, p->kernel_w, p->stride_h, p->stride_w,
                                   p->pad_top,  p->pad_left, output};
    if (p->kernel == MAX_POOL) MEASURED(dtmm_max_pool_s8(&pool, &in, out));
    if (p->kernel == AVERAGE_POOL) MEASURED(dtmm_average_pool_s8(&pool, &in, out));
  } else if (p->kernel == MEAN) {
    const dtmm_mean_params mean = {3, 1 << 30, -4, output};
    MEASURED(dtmm_mean_s8(&mean, &in, out));
  } else if (p->kernel == CONV_GROUPED || p->kernel == DEPTHWISE_CONV) {
    const dtmm_conv_params conv = {p->kernel_h,   p->kernel_w, p->stride_h, p->stride_w, p->dilation_h,
                                   p->dilation_w, p->pad_top,  p->pad_left, output};
    const int32_t inputs = p->kernel == DEPTHWISE_CONV ? 1 : p->in_channels / p->groups;
    const dtmm_conv_weights stored = {
        .out_channels = p->out_channels,
        .in_stride = p->kernel == DEPTHWISE_CONV ? round_up(p->in_channels, 16) : inputs,
        .weights = weights,
        .params = params};
    make_params(p->out_channels, p->kernel_h * p->kernel_w * inputs);
    if (p->kernel == DEPTHWISE_CONV) {
      CONV(dtmm_depthwise_conv_s8);
    } else {
      *scratch_bytes = dtmm_conv_grouped_s8_get_buffer_size(&conv, &stored, p->groups, &in, out);
      MEASURED(dtmm_conv_grouped_s8(&conv, &stored, p->groups, &in, out, scratch, sizeof scratch));
    }
  } else {
    status = run_elementwise(id, p, &in, &in2, out);
  }
  return status;
}

static uint32_t checksum(const dtmm_tensor *t) {
  uint32_t hash = 2166136261u;
  for (int32_t y = -t->halo; y < t->height + t->halo; y++)
    for (int32_t x = -t->halo; x < t->width + t->halo; x++)
      for (int32_t c = 0; c < t->channels; c++)
        hash = (hash ^ (uint8_t)t->data[y * t->row_stride + x * t->pixel_stride + c]) * 16777619u;
  return hash;
}

static void fill(int8_t *data, size_t size) {
  for (size_t i = 0; i < size; i++) data[i] = (int8_t)(random_word() >> 11);
}

int main(void) {
  uint32_t header[2]; /* number of points, seed */
  if (dtmm_read_file("run.bin", 0, header, sizeof header) != (int32_t)sizeof header) {
    dtmm_fail("run.bin is missing or too short");
  }
  const uint32_t count = header[0], seed = header[1];
  state = 2654435761u * seed | 1; /* never 0, where xorshift would stay */
  fill(in_data, sizeof in_data);
  fill(in2_data, sizeof in2_data);
  fill(weights, sizeof weights);
  for (uint32_t i = 0; i < count; i++) {
    point p;
    dtmm_tensor out;
    size_t scratch_bytes;
    if (dtmm_read_file("points.bin", i * sizeof p, &p, sizeof p) != (int32_t)sizeof p) {
      dtmm_fail("points.bin is missing or too short");
    }
    state = 2654435761u * (uint32_t)p.seed | 1;
    const dtmm_status status = run(i, &p, &out, &scratch_bytes);
    const uint32_t line[4] = {i, (uint32_t)-status, (uint32_t)scratch_bytes,
                              status == DTMM_OK ? checksum(&out) : 0};
    dtmm_report_u32("POINT", line, 4);
  }
  return 0;
}
