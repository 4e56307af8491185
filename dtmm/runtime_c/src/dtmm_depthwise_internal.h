/* Depthwise 3x3 by patches: see dtmm_depthwise_patches.c. */
#ifndef DTMM_DEPTHWISE_INTERNAL_H
#define DTMM_DEPTHWISE_INTERNAL_H

#include "dtmm_conv_internal.h"

#define DTMM_PATCH_CHANNELS 16
#define DTMM_PATCH_COLUMN (4 * DTMM_PATCH_CHANNELS) /* bytes: three taps and a gap for each channel */
#define DTMM_PATCH_OUTPUTS 4                        /* that are computed at a time */

/* The output cut into lines, rows or columns; a column of taps is three pixels across a line. */
typedef struct {
  int32_t lines, outputs, columns; /* outputs and columns of a line; columns for whole fours */
  int32_t stride;                  /* columns from output to output, 1 or 2 */
  int is_upright;                  /* lines are columns of the output */
} dtmm_patch_lines;

/* How to cut an output; `columns` is 0 where the convolution is none that patches can do. */
dtmm_patch_lines dtmm_depthwise_cut(const dtmm_conv_params *conv, int32_t height, int32_t width);

/* The convolution without the output's halo. All channels shift to the right. MVE only. */
void dtmm_depthwise_patches(const dtmm_conv_params *conv, const dtmm_conv_weights *weights,
                            const dtmm_tensor *in, const dtmm_tensor *out, void *scratch);

#endif
