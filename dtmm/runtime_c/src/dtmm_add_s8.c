#include "dtmm/ops.h"
#include "dtmm_internal.h"

#if DTMM_USE_MVE
#include "dtmm_mve.h"

/* The call's constants in registers: stores to the output might alias the parameters otherwise. */
typedef struct {
  dtmm_add_params p;
  int32x4_t one, low, high; /* one: 2^left_shift */
  int32_t a_offset, b_offset;
} add_constants;

/* Four sums. `typical`: a's shift is 0 and the others are negative, as TFLite's quantizer makes them
 * (it halves the larger of the two scales). */
DTMM_INLINE int32x4_t add4(const add_constants *k, int32x4_t a, int32x4_t b, const int typical) {
  a = vmlasq_n_s32(a, k->one, k->a_offset);
  b = vmlasq_n_s32(b, k->one, k->b_offset);
  int32x4_t sum;
  if (typical) {
    a = vqrdmulhq_n_s32(a, k->p.a_multiplier);
    b = dtmm_vrequantize_right(b, k->p.b_multiplier, k->p.b_shift);
    sum = dtmm_vrequantize_right(vaddq_s32(a, b), k->p.out_multiplier, k->p.out_shift);
  } else {
    a = dtmm_vrequantize(a, k->p.a_multiplier, k->p.a_shift);
    b = dtmm_vrequantize(b, k->p.b_multiplier, k->p.b_shift);
    sum = dtmm_vrequantize(vaddq_s32(a, b), k->p.out_multiplier, k->p.out_shift);
  }
  return dtmm_vclamp(vaddq_n_s32(sum, k->p.output.zero_point), k->low, k->high);
}

/* Typically eight at a time, so that one vector's latencies hide behind the other's. */
DTMM_INLINE void add_values(const add_constants *k, const int8_t *a, const int8_t *b, int8_t *out,
                            int32_t count, const int typical) {
  DTMM_NO_UNROLL
  for (int32_t pairs = typical ? count / 8 : 0; pairs > 0; --pairs, a += 8, b += 8, out += 8) {
    const int32x4_t first = add4(k, vldrbq_s32(a), vldrbq_s32(b), typical);
    const int32x4_t second = add4(k, vldrbq_s32(a + 4), vldrbq_s32(b + 4), typical);
    vstrbq_s32(out, first);
    vstrbq_s32(out + 4, second);
  }
  DTMM_NO_UNROLL
  for (count = typical ? count % 8 : count; count > 0; count -= 4, a += 4, b += 4, out += 4) {
    const mve_pred16_t part = vctp32q((uint32_t)count);
    vstrbq_p_s32(out, add4(k, vldrbq_z_s32(a, part), vldrbq_z_s32(b, part), typical), part);
  }
}

static void add_run(const dtmm_add_params *add, const int8_t *a, const int8_t *b, int8_t *out,
                    int32_t count) {
  const int32_t one = 1 << add->left_shift;
  const add_constants k = {.p = *add,
                           .one = vdupq_n_s32(one),
                           .low = vdupq_n_s32(add->output.activation_min),
                           .high = vdupq_n_s32(add->output.activation_max),
                           .a_offset = -add->a_zero_point * one,
                           .b_offset = -add->b_zero_point * one};
  if (add->a_shift == 0 && add->b_shift < 0 && add->out_shift < 0) {
    add_values(&k, a, b, out, count, 1);
  } else {
    add_values(&k, a, b, out, count, 0);
  }
}

#else

static void add_run(const dtmm_add_params *add, const int8_t *a, const int8_t *b, int8_t *out,
                    int32_t count) {
  const int32_t one = 1 << add->left_shift;
  for (int32_t i = 0; i < count; ++i) {
    const int32_t x =
        dtmm_requantize((a[i] - add->a_zero_point) * one, add->a_multiplier, add->a_shift);
    const int32_t y =
        dtmm_requantize((b[i] - add->b_zero_point) * one, add->b_multiplier, add->b_shift);
    const int32_t sum = dtmm_requantize(x + y, add->out_multiplier, add->out_shift);
    out[i] = (int8_t)dtmm_clamp(sum + add->output.zero_point, &add->output);
  }
}

#endif

/* a and b exchanged where that puts the shift of 0 first. */
static void order_operands(dtmm_add_params *p, const dtmm_tensor **a, const dtmm_tensor **b) {
  if (p->b_shift != 0) return;
  const dtmm_add_params q = *p;
  p->a_zero_point = q.b_zero_point, p->b_zero_point = q.a_zero_point;
  p->a_multiplier = q.b_multiplier, p->b_multiplier = q.a_multiplier;
  p->a_shift = q.b_shift, p->b_shift = q.a_shift;
  const dtmm_tensor *t = *a;
  *a = *b, *b = t;
}

dtmm_status dtmm_add_s8(const dtmm_add_params *add, const dtmm_tensor *a, const dtmm_tensor *b,
                        const dtmm_tensor *out) {
  if (add == NULL || !dtmm_tensor_is_valid(a) || !dtmm_tensor_is_valid(b) ||
      !dtmm_tensor_is_valid(out) || !dtmm_same_shape(a, out) || !dtmm_same_shape(b, out) ||
      !dtmm_output_is_valid(&add->output) || add->left_shift < 0 || add->left_shift > 22) {
    return DTMM_BAD_ARGUMENT;
  }
  dtmm_add_params ordered = *add;
  order_operands(&ordered, &a, &b);
  const int rows = dtmm_rows_are_dense(a) && dtmm_rows_are_dense(b) && dtmm_rows_are_dense(out);
  const int32_t runs = rows ? 1 : out->width;
  const int32_t count = rows ? out->width * out->channels : out->channels;
  for (int32_t y = 0; y < out->height; ++y) {
    for (int32_t x = 0; x < runs; ++x) {
      add_run(&ordered, dtmm_pixel(a, y, x), dtmm_pixel(b, y, x), dtmm_pixel(out, y, x), count);
    }
  }
  dtmm_fill_halo(out, add->output.zero_point);
  return DTMM_OK;
}
