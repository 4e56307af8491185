/* PatDNN's pattern-pruned 3x3 convolution: one filter over four output pixels, four kernels (16
 * weights) at a time.
 *
 * For a tile of four pixels, each pattern's four taps of all channels are first packed side by side
 * into scratch memory: what a kernel of any filter needs is then one 32-bit word. One gathering load
 * of four words fetches the inputs of four kernels, whatever their patterns and channels, and
 * `vmladava` adds their 16 products. So a pattern costs code and time once for each tile, not for each
 * kernel, and what is left of it in the inner loop is a number.
 *
 * `stream` of the job is that of the weights. */
#include "dtmm_conv_kernels.h"

#define TAPS 4
#define MOST_PATTERNS 32

typedef struct {
  const uint8_t *positions; /* [patterns][TAPS] */
  const uint16_t *counts;   /* [out_channels] */
  const uint16_t *kernels;
  int32_t patterns;
} fkw_index;

DTMM_INLINE fkw_index read_index(const uint16_t *stream, int32_t filters) {
  const int32_t patterns = stream[0];
  const uint16_t *counts = stream + 1 + patterns * TAPS / 2;
  const fkw_index index = {(const uint8_t *)(stream + 1), counts, counts + filters, patterns};
  return index;
}

#if DTMM_USE_MVE

/* The words of a pattern, of all channels of a pixel: 16 cycles for 16 channels, all of them loads and
 * stores. In assembler because the compilers move what they have loaded to other registers first. */
DTMM_INLINE void pack_pattern(const int8_t *x0, const int8_t *x1, const int8_t *x2, const int8_t *x3,
                              int32_t channels, int8_t *words) {
  __asm__ volatile(
      "dls lr, %[vectors]\n"
      "1:\n"
      "vldrb.u8 q0, [%[x0]], #16\n"
      "vldrb.u8 q1, [%[x1]], #16\n"
      "vldrb.u8 q2, [%[x2]], #16\n"
      "vldrb.u8 q3, [%[x3]], #16\n"
      "vst40.8 {q0, q1, q2, q3}, [%[words]]\n"
      "vst41.8 {q0, q1, q2, q3}, [%[words]]\n"
      "vst42.8 {q0, q1, q2, q3}, [%[words]]\n"
      "vst43.8 {q0, q1, q2, q3}, [%[words]]!\n"
      "le lr, 1b\n"
      : [x0] "+r"(x0), [x1] "+r"(x1), [x2] "+r"(x2), [x3] "+r"(x3), [words] "+r"(words)
      : [vectors] "r"(channels / 16)
      : "lr", "q0", "q1", "q2", "q3", "memory");
}

/* Adds the products of `n` > 0 kernels to s0..s3, and moves w and `at` past them. In assembler
 * because the numbers of the next four kernels are loaded while these are multiplied: a gathering
 * load wants them early. 11 instructions, 13 cycles, of which the loads need 12. The last round is
 * predicated for as many kernels as are left; it has loaded too much, so both pointers go back. */
#define DTMM_ADD_FKW_KERNELS                                                                   \
  __asm__ volatile(                                                                            \
      "vldrh.u32 q7, [%[at]], #8\n"                                                            \
      "dlstp.32 lr, %[n]\n"                                                                    \
      "1:\n"                                                                                   \
      "vldrb.u8 q6, [%[w]], #16\n"                                                             \
      "vldrw.u32 q0, [%[b0], q7, uxtw #2]\n"                                                   \
      "vldrw.u32 q1, [%[b1], q7, uxtw #2]\n"                                                   \
      "vmladava.s8 %[s0], q0, q6\n"                                                            \
      "vldrw.u32 q2, [%[b2], q7, uxtw #2]\n"                                                   \
      "vmladava.s8 %[s1], q1, q6\n"                                                            \
      "vldrw.u32 q3, [%[b3], q7, uxtw #2]\n"                                                   \
      "vmladava.s8 %[s2], q2, q6\n"                                                            \
      "vldrh.u32 q7, [%[at]], #8\n"                                                            \
      "vmladava.s8 %[s3], q3, q6\n"                                                            \
      "letp lr, 1b\n"                                                                          \
      "rsb %[n], %[n], #0\n"                                                                   \
      "and %[n], %[n], #3\n"                                                                   \
      "sub %[w], %[w], %[n], lsl #2\n"                                                         \
      "sub %[at], %[at], %[n], lsl #1\n"                                                       \
      "sub %[at], #8\n"                                                                        \
      : [s0] "+Te"(s0), [s1] "+Te"(s1), [s2] "+Te"(s2), [s3] "+Te"(s3), [w] "+r"(w),           \
        [at] "+l"(at), [n] "+r"(n)                                                             \
      : [b0] "r"(b0), [b1] "r"(b1), [b2] "r"(b2), [b3] "r"(b3)                                 \
      : "lr", "cc", "q0", "q1", "q2", "q3", "q6", "q7", "memory")

static void add_kernels(const dtmm_tile_job *job, const fkw_index *index, const int8_t *packed,
                        int32_t pixel_bytes, int8_t *out) {
  const dtmm_tile_output to = dtmm_tile_output_of(job);
  const int8_t *b0 = packed, *b1 = b0 + pixel_bytes, *b2 = b1 + pixel_bytes, *b3 = b2 + pixel_bytes;
  const uint16_t *counts = index->counts, *at = index->kernels;
  const dtmm_channel_params *channel = job->params;
  const int8_t *w = job->weights;
  for (int32_t filter = job->out_channels; filter > 0; --filter, ++channel, ++out) {
    int32_t n = *counts++;
    int32_t s0 = channel->bias, s1 = s0, s2 = s0, s3 = s0;
    if (n > 0) DTMM_ADD_FKW_KERNELS;
    const int32x4_t sums = {s0, s1, s2, s3};
    dtmm_store_tile(to, channel, sums, out);
  }
}

#else

static void pack_pattern(const int8_t *x0, const int8_t *x1, const int8_t *x2, const int8_t *x3,
                         int32_t channels, int8_t *words) {
  for (int32_t c = 0; c < channels; ++c, words += TAPS) {
    words[0] = x0[c], words[1] = x1[c], words[2] = x2[c], words[3] = x3[c];
  }
}

static void add_kernels(const dtmm_tile_job *job, const fkw_index *index, const int8_t *packed,
                        int32_t pixel_bytes, int8_t *out) {
  const uint16_t *at = index->kernels;
  const int8_t *w = job->weights;
  for (int32_t filter = 0; filter < job->out_channels; ++filter) {
    const dtmm_channel_params *channel = job->params + filter;
    int32_t sums[DTMM_TILE] = {channel->bias, channel->bias, channel->bias, channel->bias};
    for (int32_t n = index->counts[filter]; n > 0; --n, w += TAPS) {
      const int8_t *word = packed + TAPS * *at++;
      for (int32_t i = 0; i < DTMM_TILE; ++i, word += pixel_bytes) {
        const int32_t products = w[0] * word[0] + w[1] * word[1] + w[2] * word[2] + w[3] * word[3];
        sums[i] = dtmm_add_wrapping(sums[i], products);
      }
    }
    for (int32_t i = 0; i < DTMM_TILE; ++i) {
      out[(int32_t)job->out_pixel[i] + filter] = dtmm_finish(job, channel, sums[i]);
    }
  }
}

#endif

/* A job of the walk over tiles, and what it does not know of. */
typedef struct {
  dtmm_tile_job tile; /* first, so that a pointer to it is one to this */
  fkw_index index;
  int32_t taps[MOST_PATTERNS * TAPS]; /* of every pattern, in bytes from the window's first pixel */
  int8_t *packed;                     /* [DTMM_TILE][patterns][in_stride][TAPS] */
} fkw_job;

static void tile_of_kernels(const dtmm_tile_job *tile, const int8_t *in, int8_t *out) {
  const fkw_job *job = (const fkw_job *)(const void *)tile;
  const int32_t channels = tile->in_stride;
  const int32_t pixel_bytes = TAPS * channels * job->index.patterns;
  int8_t *words = job->packed;
  DTMM_NO_UNROLL
  for (int32_t i = 0; i < DTMM_TILE; ++i) {
    const int8_t *x = in + tile->in_pixel[i], *end = words + pixel_bytes;
    const int32_t *tap = job->taps;
    for (; words != end; words += TAPS * channels, tap += TAPS) {
      pack_pattern(x + tap[0], x + tap[1], x + tap[2], x + tap[3], channels, words);
    }
  }
  add_kernels(tile, &job->index, job->packed, pixel_bytes, out);
}

static int stream_is_valid(const uint16_t *stream) {
  if (stream == NULL || stream[0] > MOST_PATTERNS) return 0;
  const uint8_t *positions = (const uint8_t *)(stream + 1);
  for (int32_t i = 0; i < stream[0] * TAPS; ++i) {
    if (positions[i] > 8) return 0;
  }
  return 1;
}

size_t dtmm_conv_fkw_s8_get_buffer_size(const dtmm_conv_params *conv,
                                        const dtmm_conv_weights *weights, const dtmm_tensor *in,
                                        const dtmm_tensor *out) {
  (void)conv, (void)in, (void)out;
  return (size_t)DTMM_TILE * TAPS * weights->stream[0] * (size_t)weights->in_stride;
}

dtmm_status dtmm_conv_fkw_s8(const dtmm_conv_params *conv, const dtmm_conv_weights *weights,
                             const dtmm_tensor *in, const dtmm_tensor *out, void *scratch,
                             size_t scratch_size) {
  if (!dtmm_conv_is_valid(conv, weights, in, out) ||
      !dtmm_conv_is_vectorisable(conv, weights, in) || !stream_is_valid(weights->stream)) {
    return DTMM_BAD_ARGUMENT;
  }
  if (conv->kernel_h != 3 || conv->kernel_w != 3) return DTMM_UNSUPPORTED;
  if (scratch_size < dtmm_conv_fkw_s8_get_buffer_size(conv, weights, in, out)) return DTMM_NO_SPACE;
  if (scratch_size > 0 && (scratch == NULL || !dtmm_aligned4(scratch))) return DTMM_BAD_ARGUMENT;
  fkw_job job = {.tile = {.weights = weights->weights,
                          .params = weights->params,
                          .stream = weights->stream,
                          .out_channels = weights->out_channels,
                          .in_stride = weights->in_stride,
                          .output = conv->output},
                 .index = read_index(weights->stream, weights->out_channels),
                 .packed = scratch};
  for (int32_t i = 0; i < job.index.patterns * TAPS; ++i) {
    const int32_t position = job.index.positions[i];
    job.taps[i] = dtmm_window_offset(conv, in, position / 3, position % 3);
  }
  dtmm_walk_tiles(conv, in, out, &job.tile, tile_of_kernels, tile_of_kernels);
  dtmm_fill_halo(out, conv->output.zero_point);
  return DTMM_OK;
}
