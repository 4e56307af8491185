/* Convolution on CSR weights: one filter over four output pixels, 16 weights at a time.
 *
 * The 16 inputs that a vector of weights meets lie anywhere within 256 bytes: one gathering load for
 * each pixel fetches them, and `vmladava` adds their products. The pixels share the weights and the
 * offsets, so 6 loads for 4 multiply-accumulates. A vector's address is a step from the one before,
 * for all four pixels and over all filters, so nothing is multiplied or looked up.
 *
 * `stream` of the job: the filters' counts, then the listed entries. */
#include "dtmm_conv_kernels.h"
#include "dtmm_csr.h"

#if DTMM_USE_MVE

/* Adds `n` > 0 vectors of a filter to s0..s3. x0..x3 stand at its first vector's pixels and go on to
 * those of the next filter's, w and `at` likewise; `at` is an entry's offsets. In assembler because the
 * offsets of the next vector are loaded while this one is multiplied: a gathering load wants them
 * early. 15 instructions, 15 cycles, of which the loads need 12. */
#define DTMM_ADD_CSR_VECTORS                \
  __asm__ volatile(                         \
      "vldrb.u8 q7, [%[at]], #16\n"         \
      "dls lr, %[n]\n"                      \
      "1:\n"                                \
      "vldrb.u8 q0, [%[x0], q7]\n"          \
      "ldrsh %[n], [%[at]], #2\n"           \
      "vldrb.u8 q6, [%[w]], #16\n"          \
      "add %[x0], %[n]\n"                   \
      "vldrb.u8 q1, [%[x1], q7]\n"          \
      "vmladava.s8 %[s0], q0, q6\n"         \
      "vldrb.u8 q2, [%[x2], q7]\n"          \
      "vmladava.s8 %[s1], q1, q6\n"         \
      "vldrb.u8 q3, [%[x3], q7]\n"          \
      "vmladava.s8 %[s2], q2, q6\n"         \
      "vldrb.u8 q7, [%[at]], #16\n"         \
      "add %[x1], %[n]\n"                   \
      "vmladava.s8 %[s3], q3, q6\n"         \
      "add %[x2], %[n]\n"                   \
      "add %[x3], %[n]\n"                   \
      "le lr, 1b\n"                         \
      "sub %[at], #16\n"                    \
      : [s0] "+Te"(s0), [s1] "+Te"(s1), [s2] "+Te"(s2), [s3] "+Te"(s3), [x0] "+r"(x0), \
        [x1] "+r"(x1), [x2] "+r"(x2), [x3] "+r"(x3), [w] "+r"(w), [at] "+r"(at), [n] "+r"(n) \
      :                                     \
      : "lr", "q0", "q1", "q2", "q3", "q6", "q7", "memory")

static void tile_of_vectors(const dtmm_tile_job *job, const int8_t *in, int8_t *out) {
  const dtmm_tile_output to = dtmm_tile_output_of(job);
  const uint16_t *counts = job->stream, *at = counts + job->out_channels;
  const dtmm_channel_params *channel = job->params;
  const int8_t *w = job->weights;
  const int8_t *x0 = in + (int16_t)*at++;
  const int8_t *x1 = x0 + job->in_pixel[1], *x2 = x0 + job->in_pixel[2];
  const int8_t *x3 = x0 + job->in_pixel[3];
  for (int32_t filter = job->out_channels; filter > 0; --filter, ++channel, ++out) {
    int32_t n = *counts++;
    int32_t s0 = channel->bias, s1 = s0, s2 = s0, s3 = s0;
    if (n > 0) DTMM_ADD_CSR_VECTORS;
    const int32x4_t sums = {s0, s1, s2, s3};
    dtmm_store_tile(to, channel, sums, out);
  }
}

#else

static void tile_of_vectors(const dtmm_tile_job *job, const int8_t *in, int8_t *out) {
  const uint16_t *counts = job->stream, *at = counts + job->out_channels;
  const int8_t *w = job->weights, *x = in;
  for (int32_t filter = 0; filter < job->out_channels; ++filter) {
    const dtmm_channel_params *channel = job->params + filter;
    int32_t sums[DTMM_TILE] = {channel->bias, channel->bias, channel->bias, channel->bias};
    for (int32_t n = counts[filter]; n > 0; --n, at += DTMM_CSR_ENTRY, w += DTMM_CSR_LANES) {
      const uint8_t *offsets = (const uint8_t *)(at + 1);
      x += (int16_t)at[0];
      for (int32_t lane = 0; lane < DTMM_CSR_LANES; ++lane) {
        const int8_t *first = x + offsets[lane];
        for (int32_t i = 0; i < DTMM_TILE; ++i) {
          sums[i] = dtmm_add_wrapping(sums[i], w[lane] * first[job->in_pixel[i]]);
        }
      }
    }
    for (int32_t i = 0; i < DTMM_TILE; ++i) {
      out[(int32_t)job->out_pixel[i] + filter] = dtmm_finish(job, channel, sums[i]);
    }
  }
}

#endif

size_t dtmm_conv_csr_s8_get_buffer_size(const dtmm_conv_params *conv,
                                        const dtmm_conv_weights *weights, const dtmm_tensor *in,
                                        const dtmm_tensor *out) {
  (void)conv, (void)in, (void)out;
  if (weights->stream != NULL) return 0;
  const uint16_t *counts = (const uint16_t *)(const void *)weights->index;
  return dtmm_csr_entries(counts, weights->out_channels) * sizeof(uint16_t);
}

dtmm_status dtmm_conv_csr_s8(const dtmm_conv_params *conv, const dtmm_conv_weights *weights,
                             const dtmm_tensor *in, const dtmm_tensor *out, void *scratch,
                             size_t scratch_size) {
  if (!dtmm_conv_is_valid(conv, weights, in, out) ||
      !dtmm_conv_is_vectorisable(conv, weights, in) ||
      (weights->index == NULL && weights->stream == NULL) || ((uintptr_t)weights->index & 1u)) {
    return DTMM_BAD_ARGUMENT;
  }
  if (conv->dilation_w > 1 && conv->kernel_w > 1) return DTMM_UNSUPPORTED;
  if (scratch_size < dtmm_conv_csr_s8_get_buffer_size(conv, weights, in, out)) return DTMM_NO_SPACE;
  const uint16_t *stream = weights->stream;
  if (stream == NULL) {
    if (scratch == NULL || !dtmm_aligned4(scratch)) return DTMM_BAD_ARGUMENT;
    if (dtmm_conv_csr_list(conv, weights, in, scratch, scratch_size / sizeof *stream) == 0) {
      return DTMM_UNSUPPORTED;
    }
    stream = scratch;
  }
  dtmm_tile_job job = {.weights = weights->weights,
                       .params = weights->params,
                       .stream = stream,
                       .out_channels = weights->out_channels,
                       .in_stride = weights->in_stride,
                       .output = conv->output};
  dtmm_walk_tiles(conv, in, out, &job, tile_of_vectors, tile_of_vectors);
  dtmm_fill_halo(out, conv->output.zero_point);
  return DTMM_OK;
}
