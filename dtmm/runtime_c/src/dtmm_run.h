/* Convolution by runs: the interface between dtmm_conv_runs() and the kernels behind
 * dtmm_conv_kernel, which are assembly (generate/run_kernels.py) or dtmm_run_portable(). */
#ifndef DTMM_RUN_H
#define DTMM_RUN_H

#include "dtmm_conv_internal.h"

#define DTMM_RUN_PIXELS 8

/* Entries of the stream: the offset of a run's first pixel in the window, in units of 2 bytes, or'ed
 * with the kind. Offsets are multiples of 16 bytes, so the three lowest bits are free. */
#define DTMM_RUN_UNIT 2
#define DTMM_RUN_OFFSET_MAX (65535 / 8 * 8 * DTMM_RUN_UNIT)
#define DTMM_RUN_KIND 7u
#define DTMM_RUN_STOP 0u    /* the list ends */
#define DTMM_RUN_LENGTH 3u  /* 1..3 filterlets; none only of an empty filter */
#define DTMM_RUN_FIRST 4u   /* first of a filter: the one before is complete */
#define DTMM_RUN_LONGEST 3

/* Filters that share a copy of the list of a dense filter, so that it rarely starts again. */
#define DTMM_RUN_DENSE_FILTERS 16

/* Some tiles beside each other. The assembly knows the order of these fields (run_kernels.JOB). */
typedef struct {
  const int8_t *in; /* first pixel of the first tile's window */
  int8_t *out;
  const int8_t *weights;
  const uint16_t *stream; /* the filters' runs and an end */
  const uint16_t *again;  /* where the list goes on behind its end, in all `rounds` times */
  const dtmm_channel_params *params;
  int32_t rounds, tiles;
  int32_t in_step, out_step; /* bytes from tile to tile */
  int32_t in_row;            /* bytes between the input rows of a tile's rows of pixels */
  /* Zero point and clamp: value + raise saturates to 0..255, minus lower saturates at 0, plus low. */
  int32_t raise, lower, low;
  uint16_t offsets[DTMM_RUN_PIXELS]; /* of the output pixels 0, 4, 1, 5, 2, 6, 3, 7, in bytes */
  const dtmm_conv_kernel *kernel;
} dtmm_run_job;

struct dtmm_conv_kernel {
  int32_t in_stride;
  int32_t rows, columns; /* of a tile, DTMM_RUN_PIXELS in all */
  int32_t stride_w;      /* of the convolution */
  void (*run)(const dtmm_run_job *job);
};

/* Sets how results are clamped. */
DTMM_INLINE void dtmm_run_set_output(dtmm_run_job *job, const dtmm_output_params *output) {
  job->raise = output->zero_point + UINT8_MAX - output->activation_max;
  job->lower = UINT8_MAX - (output->activation_max - output->activation_min);
  job->low = output->activation_min;
}

/* A sum as the output has it. */
DTMM_INLINE int8_t dtmm_run_finish(const dtmm_run_job *job, const dtmm_channel_params *channel,
                                   int32_t sum) {
  const int32_t scaled = dtmm_requantize(sum, channel->multiplier, channel->shift);
  const int32_t narrow = dtmm_min(dtmm_max(scaled, INT16_MIN), INT16_MAX);
  const int32_t raised = dtmm_min(dtmm_max(narrow + job->raise, 0), UINT8_MAX);
  return (int8_t)(dtmm_max(raised - job->lower, 0) + job->low);
}

/* The kernels in plain C, where there is no MVE. */
void dtmm_run_portable(const dtmm_run_job *job);

/* Whether every channel's shift is to the right, the only ones that kernels requantize by. */
int dtmm_shifts_are_negative(const dtmm_conv_weights *weights);

/* Positions of a kernel that are looked at together. */
#define DTMM_RUN_GROUP 24

/* Whether filterlets at neighbouring columns make runs, none over a multiple of DTMM_RUN_LONGEST
 * columns; with a horizontal stride only DTMM_RUN_LONGEST do. */
DTMM_INLINE int dtmm_runs_join(const dtmm_conv_params *conv) {
  return conv->dilation_w == 1 && conv->kernel_w <= DTMM_RUN_GROUP;
}

/* Entries of the stream at most: for *kept filterlets of FWCS weights, or NULL for dense ones. */
size_t dtmm_conv_runs_entries(const dtmm_conv_params *conv, int32_t filters, const int32_t *kept);

/* Convolution with weights->kernel; dense where weights->index is NULL. `entries` is the size of
 * `stream`, which weights->stream makes unnecessary. The caller has checked that views, weights and
 * parameters are valid and vectorisable. */
dtmm_status dtmm_conv_runs(const dtmm_conv_params *conv, const dtmm_conv_weights *weights,
                           const dtmm_tensor *in, const dtmm_tensor *out, uint16_t *stream,
                           size_t entries);

#endif
