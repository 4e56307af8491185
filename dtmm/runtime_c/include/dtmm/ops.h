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
