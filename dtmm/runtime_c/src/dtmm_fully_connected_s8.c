#include "dtmm/ops.h"
#include "dtmm_internal.h"

#if DTMM_USE_MVE
#include <stddef.h>

#include "dtmm_mve.h"

/* What the assembly below reads from memory, in its order of offsets.
 *   next  from where four rows' pointers end to the next four rows
 *   last  output of the last four filters */
typedef struct {
  const int8_t *in;
  int32_t next, zero_point, count;
  int8_t *last;
  int32_t low[4], high[4], stride;
} rows_job;

/* All filters, four at a time, on one run of inputs; two if there are no more, but not one or three.
 * Returns whether all shifts are negative: the outputs are right only then.
 *
 * A vector of inputs is loaded once for four filters: 5 loads and 4 multiply-accumulates, 10 cycles
 * (bound: 8). The loop end predicates the last round (LETP), so any number of inputs ends in the same
 * loop and nothing is read past a row. A group takes about 35 cycles besides: its requantization, in
 * an order by generate/schedule.py, hides the pointers' way to the next group. One or two filters
 * that are left over run as third and fourth of a group, three begin a filter earlier.
 *
 *   r0 r2 r4 r6   sums, which start as biases      q3  words of four channels' parameters: 0 3 6 9
 *   r1 r3 r5 r11  rows of weights                  q4  largest shifts
 *   r7 r8 r9      output, inputs, job              r10 multiplier of the first of four channels
 *
 * In one block and not a function of its own, which would save and restore the registers again. P0
 * cannot be named as overwritten: no predicate may be alive where this is inlined. */
DTMM_INLINE int multiply_rows(const rows_job *constants, const int8_t *weights,
                              const dtmm_channel_params *params, int8_t *out) {
  register const rows_job *job __asm__("r9") = constants;
  register const int8_t *w0 __asm__("r1") = weights;
  register const int32_t *param __asm__("r10") = &params->multiplier;
  register int8_t *to __asm__("r7") = out;
  register int32_t largest __asm__("r0");
  __asm__ volatile(
      "mvn r12, #0\n"
      "vmsr p0, r12\n"
      "ldr r2, [r9, #52]\n"
      "vmov.i8 q4, #0xff\n"
      "mov r0, #0\n"
      "vidup.u32 q3, r0, #1\n"
      "add r3, r1, r2\n"
      "mov r0, #3\n"
      "add r5, r3, r2\n"
      "vmul.i32 q3, q3, r0\n"
      "ldr r12, [r9, #16]\n"
      "add r11, r5, r2\n"
      "ldr r8, [r9]\n"
      "cmp r7, r12\n"
      "bhi 4f\n"

      "1:\n" /* four filters */
      "ldr r12, [r9, #12]\n"
      "ldr r0, [r10, #-4]\n"
      "ldr r2, [r10, #8]\n"
      "ldr r4, [r10, #20]\n"
      "ldr r6, [r10, #32]\n"
      "dlstp.8 lr, r12\n"
      "2:\n"
      "vldrb.u8 q0, [r8], #16\n"
      "vldrb.u8 q1, [r1], #16\n"
      "vmladava.s8 r0, q0, q1\n"
      "vldrb.u8 q2, [r3], #16\n"
      "vmladava.s8 r2, q0, q2\n"
      "vldrb.u8 q1, [r5], #16\n"
      "vmladava.s8 r4, q0, q1\n"
      "vldrb.u8 q2, [r11], #16\n"
      "vmladava.s8 r6, q0, q2\n"
      "letp lr, 2b\n"

      "3:\n" /* requantization, with negative shifts */
      "vldrw.u32 q1, [r10, q3, uxtw #2]\n"
      "vmov q0[2], q0[0], r0, r4\n"
      "vmov q0[3], q0[1], r2, r6\n"
      "vqrdmulh.s32 q1, q0, q1\n"
      "add r12, r10, #4\n"
      "add r10, r10, #48\n"
      "vshr.s32 q0, q0, #31\n"
      "vldrw.u32 q2, [r12, q3, uxtw #2]\n"
      "vmax.s32 q4, q4, q2\n"
      "ldrd r8, r12, [r9]\n"
      "vqadd.s32 q0, q0, q1\n"
      "add r1, r1, r12\n"
      "add r3, r3, r12\n"
      "add r5, r5, r12\n"
      "add r11, r11, r12\n"
      "vrshl.s32 q0, q0, q2\n"
      "ldr r12, [r9, #8]\n"
      "vldrw.u32 q1, [r9, #20]\n"
      "vadd.i32 q0, q0, r12\n"
      "ldr r12, [r9, #16]\n"
      "vmax.s32 q0, q0, q1\n"
      "vldrw.u32 q2, [r9, #36]\n"
      "vmin.s32 q0, q0, q2\n"
      "vpst\n"
      "vstrbt.32 q0, [r7], #4\n"
      "cmp r7, r12\n"
      "bls 1b\n"

      "4:\n" /* the next group would be 1 to 4 filters too far: back by as many */
      "sub r0, r7, r12\n"
      "cmp r0, #4\n"
      "beq 6f\n"
      "mov r7, r12\n"
      "ldr r2, [r9, #52]\n"
      "mul r2, r2, r0\n"
      "add r4, r0, r0, lsl #1\n"
      "sub r10, r10, r4, lsl #2\n"
      "sub r5, r5, r2\n"
      "sub r11, r11, r2\n"
      "sub r1, r1, r2\n"
      "sub r3, r3, r2\n"
      "cmp r0, #1\n"
      "beq 1b\n"
      "mov r12, #0xff00\n" /* the last two: they alone are stored, and no others' parameters read */
      "vmsr p0, r12\n"
      "mov r0, #6\n"
      "mov r2, #9\n"
      "vmov q3[2], q3[0], r0, r0\n"
      "vmov q3[3], q3[1], r2, r2\n"
      "ldr r12, [r9, #12]\n"
      "ldr r4, [r10, #20]\n"
      "ldr r6, [r10, #32]\n"
      "dlstp.8 lr, r12\n"
      "5:\n"
      "vldrb.u8 q0, [r8], #16\n"
      "vldrb.u8 q1, [r5], #16\n"
      "vmladava.s8 r4, q0, q1\n"
      "vldrb.u8 q2, [r11], #16\n"
      "vmladava.s8 r6, q0, q2\n"
      "letp lr, 5b\n"
      "b 3b\n"

      "6:\n"
      "mvn r0, #0\n"
      "vmaxv.s32 r0, q4\n"
      : "=r"(largest), "+r"(w0), "+r"(param), "+r"(to)
      : "r"(job)
      : "r2", "r3", "r4", "r5", "r6", "r8", "r11", "r12", "lr", "q0", "q1", "q2", "q3", "q4", "cc",
        "memory");
  return largest < 0;
}
_Static_assert(offsetof(rows_job, low) == 20 && offsetof(rows_job, stride) == 52, "read above");

/* All filters if the layer is a usual one: inputs without a gap, negative shifts; whether it was. */
DTMM_INLINE int finish_usual(const dtmm_output_params *output, const int8_t *weights, int32_t stride,
                             const dtmm_channel_params *params, const int8_t *in, int32_t count,
                             const dtmm_tensor *out) {
  const int32_t filters = out->channels;
  if (filters < 4 && filters != 2) return 0;
  rows_job job;
  job.in = in;
  job.next = 4 * stride - ((count + DTMM_VECTOR_BYTES - 1) & -DTMM_VECTOR_BYTES);
  job.zero_point = output->zero_point;
  job.count = count;
  job.last = out->data + filters - 4;
  job.stride = stride;
  vst1q_s32(job.low, vdupq_n_s32(output->activation_min));
  vst1q_s32(job.high, vdupq_n_s32(output->activation_max));
  return multiply_rows(&job, weights, params, out->data);
}

/* Adds the products of two rows of weights with one run of the input. */
DTMM_INLINE void dot_rows(const int8_t *w0, const int8_t *w1, const int8_t *x, int32_t count,
                          int32_t sums[2]) {
  for (; count > 0; count -= DTMM_VECTOR_BYTES, w0 += 16, w1 += 16, x += 16) {
    const mve_pred16_t part = vctp8q((uint32_t)count);
    const int8x16_t v = vldrbq_z_s8(x, part);
    sums[0] = vmladavaq_s8(sums[0], v, vldrbq_z_s8(w0, part));
    sums[1] = vmladavaq_s8(sums[1], v, vldrbq_z_s8(w1, part));
  }
}

#else

static int finish_usual(const dtmm_output_params *output, const int8_t *weights, int32_t stride,
                        const dtmm_channel_params *params, const int8_t *in, int32_t count,
                        const dtmm_tensor *out) {
  (void)output, (void)weights, (void)stride, (void)params, (void)in, (void)count, (void)out;
  return 0;
}

static void dot_rows(const int8_t *w0, const int8_t *w1, const int8_t *x, int32_t count,
                     int32_t sums[2]) {
  for (int32_t i = 0; i < count; ++i) {
    sums[0] += w0[i] * x[i];
    sums[1] += w1[i] * x[i];
  }
}

#endif

/* All filters of any layer, two at a time. */
DTMM_NO_INLINE static void finish_any(const dtmm_output_params *output, const int8_t *weights,
                                      int32_t stride, const dtmm_channel_params *params,
                                      const dtmm_tensor *in, const dtmm_tensor *out) {
  const int rows = dtmm_rows_are_dense(in);
  const int32_t runs = rows ? 1 : in->width;
  const int32_t count = rows ? in->width * in->channels : in->channels;
  int8_t *to = out->data;
  for (int32_t left = out->channels; left > 0; left -= 2, to += 2, params += 2) {
    const int8_t *w0 = weights, *w1 = left > 1 ? weights + stride : weights;
    int32_t sums[2] = {0, 0};
    for (int32_t y = 0; y < in->height; ++y) {
      DTMM_NO_UNROLL
      for (int32_t x = 0; x < runs; ++x, w0 += count, w1 += count) {
        dot_rows(w0, w1, dtmm_pixel(in, y, x), count, sums);
      }
    }
    DTMM_NO_UNROLL
    for (int32_t i = 0; i < dtmm_min(left, 2); ++i) {
      const int32_t sum = dtmm_add_wrapping(sums[i], params[i].bias);
      const int32_t v = dtmm_requantize(sum, params[i].multiplier, params[i].shift);
      to[i] = (int8_t)dtmm_clamp(dtmm_add_wrapping(v, output->zero_point), output);
    }
    weights += 2 * stride;
  }
}

/* Whether a view's pixels follow each other without a gap. */
DTMM_INLINE int is_one_run(const dtmm_tensor *t) {
  return t->height * t->width == 1 ||
         (dtmm_rows_are_dense(t) &&
          (t->height == 1 || t->row_stride == t->width * t->pixel_stride));
}

dtmm_status dtmm_fully_connected_s8(const dtmm_output_params *output, const int8_t *weights,
                                    int32_t weight_stride, const dtmm_channel_params *params,
                                    const dtmm_tensor *in, const dtmm_tensor *out) {
  if (output == NULL || weights == NULL || params == NULL || out == NULL || out->height != 1 ||
      out->width != 1 || !dtmm_tensor_is_valid(out) || !dtmm_tensor_is_valid(in) ||
      !dtmm_output_is_valid(output)) {
    return DTMM_BAD_ARGUMENT;
  }
  const int32_t count = in->height * in->width * in->channels;
  if (weight_stride < count) return DTMM_BAD_ARGUMENT;
  if (!is_one_run(in) ||
      !finish_usual(output, weights, weight_stride, params, in->data, count, out)) {
    finish_any(output, weights, weight_stride, params, in, out);
  }
  if (out->halo != 0) dtmm_fill_halo(out, output->zero_point);
  return DTMM_OK;
}
