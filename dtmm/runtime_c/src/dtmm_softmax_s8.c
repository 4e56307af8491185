#include "dtmm/ops.h"
#include "dtmm_internal.h"

#define SUM_BITS 12 /* integer bits of the sum of exponentials, as in TFLite */
#define MAX_CHANNELS 4095

/* gemmlowp's one_over_one_plus_x_for_x_in_0_1: 2^31 / (1 + x / 2^31), by Newton's iteration. */
static int32_t reciprocal_of_one_plus(int32_t x) {
  const int32_t half = (int32_t)(((int64_t)x + INT32_MAX + 1) / 2);
  int32_t guess = 1515870810 + dtmm_doubling_high_mul(half, -1010580540); /* 48/17 - 32/17 half */
  for (int i = 0; i < 3; ++i) {
    const int32_t error = (1 << 29) - dtmm_doubling_high_mul(half, guess);
    guess += dtmm_doubling_high_mul(guess, error) * 4;
  }
  const int64_t doubled = (int64_t)guess * 2;
  return doubled > INT32_MAX ? INT32_MAX : (int32_t)doubled;
}

static int32_t leading_zeros(uint32_t x) {
  int32_t zeros = 0;
  for (; zeros < 31 && !(x & 0x80000000u); x <<= 1) ++zeros;
  return zeros;
}

#if DTMM_USE_MVE
#include "dtmm_mve.h"

static int32_t largest_of(const int8_t *in, int32_t channels) {
  int8_t best = INT8_MIN;
  for (; channels > 0; channels -= 16, in += 16) {
    const mve_pred16_t part = vctp8q((uint32_t)channels);
    best = vmaxvq_p_s8(best, vldrbq_z_s8(in, part), part);
  }
  return best;
}

/* The exponentials of four values, zero where they are too small to count. */
static int32x4_t exponentials4(const dtmm_softmax_params *softmax, const int8_t *in,
                               int32_t largest, mve_pred16_t part) {
  const int32x4_t below = vsubq_s32(vdupq_n_s32(largest), vldrbq_z_s32(in, part));
  const mve_pred16_t counts = vcmpltq_m_n_s32(below, softmax->count, part);
  return vldrwq_gather_shifted_offset_z_s32(softmax->exponentials, vreinterpretq_u32_s32(below),
                                            counts);
}

static int32_t sum_of_exponentials(const dtmm_softmax_params *softmax, const int8_t *in,
                                   int32_t channels, int32_t largest) {
  int32_t sum = 0;
  for (; channels > 0; channels -= 4, in += 4) {
    const int32x4_t e = exponentials4(softmax, in, largest, vctp32q((uint32_t)channels));
    sum = vaddvaq_s32(sum, vrshrq_n_s32(e, SUM_BITS));
  }
  return sum;
}

static void divide(const dtmm_softmax_params *softmax, const int8_t *in, int8_t *out,
                   int32_t channels, int32_t largest, int32_t reciprocal, int32_t exponent) {
  for (; channels > 0; channels -= 4, in += 4, out += 4) {
    const mve_pred16_t part = vctp32q((uint32_t)channels);
    int32x4_t x = exponentials4(softmax, in, largest, part);
    x = vrshlq_n_s32(vqrdmulhq_n_s32(x, reciprocal), -exponent);
    x = vminq_s32(vaddq_n_s32(x, INT8_MIN), vdupq_n_s32(INT8_MAX));
    vstrbq_p_s32(out, x, part);
  }
}

#else

static int32_t largest_of(const int8_t *in, int32_t channels) {
  int32_t best = INT8_MIN;
  for (int32_t c = 0; c < channels; ++c) best = dtmm_max(best, in[c]);
  return best;
}

static int32_t exponential(const dtmm_softmax_params *softmax, int32_t below) {
  return below < softmax->count ? softmax->exponentials[below] : 0;
}

static int32_t sum_of_exponentials(const dtmm_softmax_params *softmax, const int8_t *in,
                                   int32_t channels, int32_t largest) {
  int32_t sum = 0;
  for (int32_t c = 0; c < channels; ++c) {
    sum += dtmm_divide_by_pot(exponential(softmax, largest - in[c]), SUM_BITS);
  }
  return sum;
}

static void divide(const dtmm_softmax_params *softmax, const int8_t *in, int8_t *out,
                   int32_t channels, int32_t largest, int32_t reciprocal, int32_t exponent) {
  for (int32_t c = 0; c < channels; ++c) {
    const int32_t product =
        dtmm_doubling_high_mul(exponential(softmax, largest - in[c]), reciprocal);
    const int32_t share = dtmm_divide_by_pot(product, exponent) + INT8_MIN;
    out[c] = (int8_t)dtmm_min(share, INT8_MAX);
  }
}

#endif

static void softmax_pixel(const dtmm_softmax_params *softmax, const int8_t *in, int8_t *out,
                          int32_t channels) {
  const int32_t largest = largest_of(in, channels);
  const int32_t sum = sum_of_exponentials(softmax, in, channels, largest);
  const int32_t zeros = leading_zeros((uint32_t)sum);
  /* sum = (1 + x) 2^(31 - zeros), 0 <= x < 1; the largest itself gives 2^19 to the sum. */
  const uint32_t x = ((uint32_t)sum << zeros) - 0x80000000u;
  const int32_t reciprocal = reciprocal_of_one_plus((int32_t)x);
  /* Beyond 31 every share rounds to zero, as it does with a reciprocal of zero. */
  const int32_t exponent = SUM_BITS - zeros + 31 - 8;
  divide(softmax, in, out, channels, largest, exponent > 31 ? 0 : reciprocal,
         dtmm_min(exponent, 31));
}

dtmm_status dtmm_softmax_s8(const dtmm_softmax_params *softmax, const dtmm_tensor *in,
                            const dtmm_tensor *out) {
  if (softmax == NULL || softmax->exponentials == NULL || softmax->count < 1 ||
      softmax->count > 256 || !dtmm_tensor_is_valid(in) || !dtmm_tensor_is_valid(out) ||
      !dtmm_same_shape(in, out)) {
    return DTMM_BAD_ARGUMENT;
  }
  if (in->channels > MAX_CHANNELS) return DTMM_UNSUPPORTED; /* the sum would overflow */
  for (int32_t y = 0; y < out->height; ++y) {
    for (int32_t x = 0; x < out->width; ++x) {
      softmax_pixel(softmax, dtmm_pixel(in, y, x), dtmm_pixel(out, y, x), out->channels);
    }
  }
  dtmm_fill_halo(out, INT8_MIN);
  return DTMM_OK;
}
