/* Pointwise convolution: two filters over four pixels at a time, by the kernels behind
 * dtmm_conv_kernel that generate/point_kernels.py writes, or by dtmm_point_portable(). They take the
 * job of run kernels: `rounds` pairs of filters, no stream. */
#ifndef DTMM_POINT_H
#define DTMM_POINT_H

#include "dtmm_run.h"

#define DTMM_POINT_PIXELS 4

/* The kernels in plain C, where there is no MVE. */
void dtmm_point_portable(const dtmm_run_job *job);

/* Whether all pixels lie at equal distances, over the ends of rows. */
DTMM_INLINE int dtmm_pixels_in_line(const dtmm_tensor *t) {
  return t->row_stride == t->width * t->pixel_stride;
}

/* Whether those that a convolution reads do. */
DTMM_INLINE int dtmm_points_in_line(const dtmm_conv_params *conv, const dtmm_tensor *in,
                                    const dtmm_tensor *out) {
  return conv->stride_h == 1 && conv->stride_w == 1 && in->width == out->width &&
         dtmm_pixels_in_line(in);
}

/* A 1x1 convolution with weights->kernel, without the halo. The caller has checked that views,
 * weights and parameters are valid and vectorisable, and that they fit. */
void dtmm_conv_points(const dtmm_conv_params *conv, const dtmm_conv_weights *weights,
                      const dtmm_tensor *in, const dtmm_tensor *out);

#endif
