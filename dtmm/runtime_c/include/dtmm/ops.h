/** @file
 *  The other int8 operators. All accept any pixel and row strides and write the output's halo. */
#ifndef DTMM_OPS_H
#define DTMM_OPS_H

#include "dtmm/types.h"

#ifdef __cplusplus
extern "C" {
#endif

/** out = clamp(requantize(a + b)): TFLite ADD, left_shift 20. `out` may be the same view as `a` or `b`. */
typedef struct {
  int32_t a_zero_point, a_multiplier, a_shift;
  int32_t b_zero_point, b_multiplier, b_shift;
  int32_t left_shift;
  int32_t out_multiplier, out_shift;
  dtmm_output_params output;
} dtmm_add_params;
/** Adds; see dtmm_add_params. */
dtmm_status dtmm_add_s8(const dtmm_add_params *add, const dtmm_tensor *a, const dtmm_tensor *b,
                        const dtmm_tensor *out);

/** As dtmm_add_s8(), but `b` is a single pixel (1, 1, C) that every pixel of `a` meets. */
dtmm_status dtmm_add_broadcast_s8(const dtmm_add_params *add, const dtmm_tensor *a,
                                  const dtmm_tensor *b, const dtmm_tensor *out);

/** out = clamp(requantize((a - a_zero_point) * (b - b_zero_point))): TFLite MUL. `out` may be the
 * same view as `a` or `b`. */
typedef struct {
  int32_t a_zero_point, b_zero_point;
  int32_t multiplier, shift; /**< a_scale * b_scale / out_scale; -31 <= shift <= 30 */
  dtmm_output_params output;
} dtmm_mul_params;
/** Multiplies; see dtmm_mul_params. */
dtmm_status dtmm_mul_s8(const dtmm_mul_params *mul, const dtmm_tensor *a, const dtmm_tensor *b,
                        const dtmm_tensor *out);
/** As dtmm_mul_s8(), but `b` is a single pixel (1, 1, C) that every pixel of `a` meets, as in
 * squeeze and excite. */
dtmm_status dtmm_mul_broadcast_s8(const dtmm_mul_params *mul, const dtmm_tensor *a,
                                  const dtmm_tensor *b, const dtmm_tensor *out);

/** Any int8 function of one value, by a table of its 256 results for -128..127: LOGISTIC,
 * HARD_SWISH, LEAKY_RELU, QUANTIZE (a change of scale), ADD or MUL with a number. The table is made
 * when code is generated (dtmm.quantization), where TFLite's arithmetic is done once and exactly.
 * `out` may be the same view as `in`.
 * @param table 256 bytes
 * @param zero_point of the output; fills its halo
 * @param in any view
 * @param out of the same shape
 * @return DTMM_OK or DTMM_BAD_ARGUMENT */
dtmm_status dtmm_lookup_s8(const int8_t *table, int8_t zero_point, const dtmm_tensor *in,
                           const dtmm_tensor *out);

/** TFLite's int8 SOFTMAX with its exponentials looked up: they depend on the input's scale and beta
 * alone, and are made when code is generated (dtmm.quantization.softmax_table). */
typedef struct {
  const int32_t *exponentials; /**< [count]: exp(-d * scale * beta) * 2^31 of a code d below the
                                    largest of its pixel, as gemmlowp computes it */
  int32_t count;               /**< 1..256; codes farther below count as zero */
} dtmm_softmax_params;
/** Softmax over the channels of every pixel; the output has scale 1/256 and zero point -128. At most
 * 4095 channels. `out` may be the same view as `in`. */
dtmm_status dtmm_softmax_s8(const dtmm_softmax_params *softmax, const dtmm_tensor *in,
                            const dtmm_tensor *out);

/** TFLite CONCATENATION along the channels, all scales and zero points equal. An input whose view
 * already is its range of `out`'s channels stays where it is: whoever made it wrote the output.
 * @param zero_point fills the halo of `out`
 * @param in [count] views of the height and width of `out`, whose channels add up to its channels
 * @param count at least 1
 * @param out any view
 * @return DTMM_OK or DTMM_BAD_ARGUMENT */
dtmm_status dtmm_concat_s8(int8_t zero_point, const dtmm_tensor *in, int32_t count,
                           const dtmm_tensor *out);

/** TFLite PAD of an image: `in` lies at row pad_top and column pad_left of `out`, the pixels around
 * it and the halo hold `zero_point`. What follows at the bottom and right is decided by the sizes. */
dtmm_status dtmm_pad_s8(int8_t zero_point, int32_t pad_top, int32_t pad_left, const dtmm_tensor *in,
                        const dtmm_tensor *out);

/** Where a TFLite STRIDED_SLICE of an image begins and how far apart its pixels are; where it ends
 * follows from the output's size. */
typedef struct {
  int32_t begin_h, begin_w;
  int32_t stride_h, stride_w;
} dtmm_strided_slice_params;
/** Copies every stride-th pixel; see dtmm_strided_slice_params. The halo is filled with
 * `zero_point`. */
dtmm_status dtmm_strided_slice_s8(const dtmm_strided_slice_params *slice, int8_t zero_point,
                                  const dtmm_tensor *in, const dtmm_tensor *out);

/** in is (1, 1, C_in) or any view whose pixels are read in NHWC order; weights [C_out][C_in] with
 * row stride `weight_stride` bytes. */
dtmm_status dtmm_fully_connected_s8(const dtmm_output_params *output, const int8_t *weights,
                                    int32_t weight_stride, const dtmm_channel_params *params,
                                    const dtmm_tensor *in, const dtmm_tensor *out);

typedef struct {
  int32_t window_h, window_w;
  int32_t stride_h, stride_w;
  int32_t pad_top, pad_left;
  dtmm_output_params output; /**< zero_point unused by pooling except for the output's halo */
} dtmm_pool_params;
/** Pooling clips its window to the image, so it needs no halo on its input. */
dtmm_status dtmm_max_pool_s8(const dtmm_pool_params *pool, const dtmm_tensor *in,
                             const dtmm_tensor *out);
/** Mean of the pixels inside the image, ties away from zero. */
dtmm_status dtmm_average_pool_s8(const dtmm_pool_params *pool, const dtmm_tensor *in,
                                 const dtmm_tensor *out);

/** Mean over height and width (TFLite MEAN, keep_dims either way): out is (1, 1, C). */
typedef struct {
  int32_t in_zero_point;
  int32_t multiplier, shift;
  dtmm_output_params output;
} dtmm_mean_params;
/** See dtmm_mean_params. */
dtmm_status dtmm_mean_s8(const dtmm_mean_params *mean, const dtmm_tensor *in,
                         const dtmm_tensor *out);

/** Copy between views of equal shape, halo of `out` filled with `zero_point`. */
dtmm_status dtmm_copy_s8(int8_t zero_point, const dtmm_tensor *in, const dtmm_tensor *out);

#ifdef __cplusplus
}
#endif
#endif
