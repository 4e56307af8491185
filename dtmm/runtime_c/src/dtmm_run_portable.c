#include "dtmm_run.h"

#if !DTMM_USE_MVE

static int32_t dot(const int8_t *w, const int8_t *x, int32_t bytes) {
  int32_t sum = 0;
  for (int32_t i = 0; i < bytes; ++i) sum += w[i] * x[i];
  return sum;
}

/* Adds a filter's runs, of which *stream is the first, to its eight sums and moves *stream to the
 * entry behind; returns where the weights go on. */
static const int8_t *add_runs(const dtmm_run_job *job, const int8_t *window,
                              const int8_t *weights, const uint16_t **stream, int32_t *sums) {
  const int32_t stride = job->kernel->in_stride, columns = job->kernel->columns;
  const int32_t step = stride * job->kernel->stride_w;
  do {
    const int32_t bytes = (int32_t)(**stream & DTMM_RUN_LENGTH) * stride;
    const int8_t *first = window + (**stream & ~DTMM_RUN_KIND) * DTMM_RUN_UNIT;
    for (int32_t i = 0; i < DTMM_RUN_PIXELS; ++i) {
      const int8_t *x = first + i / columns * job->in_row + i % columns * step;
      sums[i] = dtmm_add_wrapping(sums[i], dot(weights, x, bytes));
    }
    weights += bytes;
    ++*stream;
  } while (**stream != DTMM_RUN_STOP && (**stream & DTMM_RUN_FIRST) == 0);
  return weights;
}

static void store(const dtmm_run_job *job, const dtmm_channel_params *channel, const int32_t *sums,
                  int8_t *out) {
  for (int32_t i = 0; i < DTMM_RUN_PIXELS; ++i) {
    const int32_t pixel = i / 2 + (i & 1) * (DTMM_RUN_PIXELS / 2);
    out[job->offsets[i]] = dtmm_run_finish(job, channel, sums[pixel]);
  }
}

static void run_tile(const dtmm_run_job *job, const int8_t *window, int8_t *out) {
  const int8_t *weights = job->weights;
  const dtmm_channel_params *channel = job->params;
  const uint16_t *stream = job->stream;
  for (int32_t round = 0; round < job->rounds; ++round, stream = job->again) {
    while (*stream != DTMM_RUN_STOP) {
      int32_t sums[DTMM_RUN_PIXELS];
      for (int32_t i = 0; i < DTMM_RUN_PIXELS; ++i) sums[i] = channel->bias;
      weights = add_runs(job, window, weights, &stream, sums);
      store(job, channel++, sums, out++);
    }
  }
}

void dtmm_run_portable(const dtmm_run_job *job) {
  for (int32_t tile = 0; tile < job->tiles; ++tile) {
    run_tile(job, job->in + tile * job->in_step, job->out + tile * job->out_step);
  }
}

#endif
