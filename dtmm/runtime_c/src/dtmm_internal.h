/* Arithmetic and checks shared by the operators; not part of the public interface. */
#ifndef DTMM_INTERNAL_H
#define DTMM_INTERNAL_H

#include "dtmm/types.h"

#define DTMM_VECTOR_BYTES 16

#if defined(__ARM_FEATURE_MVE) && (__ARM_FEATURE_MVE & 1)
#define DTMM_USE_MVE 1
#else
#define DTMM_USE_MVE 0
#endif

#if defined(__clang__)
#define DTMM_NO_UNROLL _Pragma("clang loop unroll(disable) vectorize(disable)")
#elif defined(__GNUC__)
#define DTMM_NO_UNROLL _Pragma("GCC unroll 1")
#else
#define DTMM_NO_UNROLL
#endif

#if defined(__GNUC__)
#define DTMM_NO_INLINE __attribute__((noinline))
#define DTMM_INLINE static inline __attribute__((always_inline))
#define DTMM_UNLIKELY(condition) __builtin_expect(!!(condition), 0)
#else
#define DTMM_NO_INLINE
#define DTMM_INLINE static inline
#define DTMM_UNLIKELY(condition) (condition)
#endif

DTMM_INLINE int32_t dtmm_min(int32_t a, int32_t b) { return a < b ? a : b; }
DTMM_INLINE int32_t dtmm_max(int32_t a, int32_t b) { return a > b ? a : b; }

DTMM_INLINE int32_t dtmm_clamp(int32_t value, const dtmm_output_params *output) {
  return dtmm_min(dtmm_max(value, output->activation_min), output->activation_max);
}

/* Sums near the ends of int32 wrap, as MVE's do and TFLM's on two's complement machines: parameters
 * may hold any bias. */
DTMM_INLINE int32_t dtmm_add_wrapping(int32_t a, int32_t b) {
  return (int32_t)((uint32_t)a + (uint32_t)b);
}

/* gemmlowp's SaturatingRoundingDoublingHighMul: round(a * b / 2^31), ties towards +infinity. */
DTMM_INLINE int32_t dtmm_doubling_high_mul(int32_t a, int32_t b) {
  if (a == b && a == INT32_MIN) return INT32_MAX;
  return (int32_t)(((int64_t)a * b + ((int64_t)1 << 30)) >> 31);
}

/* gemmlowp's RoundingDivideByPOT: round(x / 2^exponent), ties away from zero; 0 <= exponent <= 31. */
DTMM_INLINE int32_t dtmm_divide_by_pot(int32_t x, int32_t exponent) {
  const int64_t half = exponent > 0 ? (int64_t)1 << (exponent - 1) : 0;
  return (int32_t)(((int64_t)x + half - (x < 0 && exponent > 0)) >> exponent);
}

/* TFLite's MultiplyByQuantizedMultiplier with double rounding; -31 <= shift <= 30. A left shift that
 * overflows wraps, as it does in TFLM on two's complement machines. */
DTMM_INLINE int32_t dtmm_requantize(int32_t x, int32_t multiplier, int32_t shift) {
  if (shift > 0) {
    return dtmm_doubling_high_mul((int32_t)((uint32_t)x << shift), multiplier);
  }
  return dtmm_divide_by_pot(dtmm_doubling_high_mul(x, multiplier), -shift);
}

DTMM_INLINE int dtmm_aligned4(const void *pointer) { return ((uintptr_t)pointer & 3u) == 0; }

/* A view that can be read and written at all its pixels. */
DTMM_INLINE int dtmm_tensor_is_valid(const dtmm_tensor *t) {
  return t != NULL && t->data != NULL && t->height > 0 && t->width > 0 && t->channels > 0 &&
         t->halo >= 0 && t->pixel_stride >= t->channels &&
         t->row_stride >= (t->width + t->halo) * t->pixel_stride;
}

DTMM_INLINE int dtmm_same_shape(const dtmm_tensor *a, const dtmm_tensor *b) {
  return a->height == b->height && a->width == b->width && a->channels == b->channels;
}

DTMM_INLINE int dtmm_is_int8(int32_t value) { return value >= INT8_MIN && value <= INT8_MAX; }

DTMM_INLINE int dtmm_output_is_valid(const dtmm_output_params *o) {
  return o->zero_point >= INT8_MIN && o->zero_point <= INT8_MAX &&
         o->activation_min >= INT8_MIN && o->activation_max <= INT8_MAX &&
         o->activation_min <= o->activation_max;
}

DTMM_INLINE int8_t *dtmm_pixel(const dtmm_tensor *t, int32_t y, int32_t x) {
  return t->data + y * t->row_stride + x * t->pixel_stride;
}

/* Pixels of a view follow each other without a gap, so that a row is one run of bytes. */
DTMM_INLINE int dtmm_rows_are_dense(const dtmm_tensor *t) {
  return t->pixel_stride == t->channels;
}

/* A view of `channels` of a tensor's channels from `first` on, without a halo. */
DTMM_INLINE dtmm_tensor dtmm_channel_range(const dtmm_tensor *t, int32_t first, int32_t channels) {
  const dtmm_tensor range = {t->data + first, t->height,     t->width, channels,
                             t->pixel_stride, t->row_stride, 0};
  return range;
}

/* Copies the pixels of `in` to those of `out`, of the same shape; no halo. Unlike a tensor's own,
 * the strides of `in` may skip pixels. */
void dtmm_copy_image(const dtmm_tensor *in, const dtmm_tensor *out);

/* Writes `zero_point` into the halo of `t`; of each run of halo pixels the last one's bytes beyond
 * its channels are left alone, so that a view of a channel range never writes outside its buffer. */
void dtmm_fill_halo(const dtmm_tensor *t, int32_t zero_point);

#endif
