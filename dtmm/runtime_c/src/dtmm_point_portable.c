#include "dtmm_point.h"

#if !DTMM_USE_MVE

/* One filter over the four pixels of a tile. */
static void run_filter(const dtmm_run_job *job, const dtmm_channel_params *channel,
                       const int8_t *weights, const int8_t *in, int8_t *out) {
  const int32_t stride = job->kernel->in_stride;
  for (int32_t i = 0; i < DTMM_POINT_PIXELS; ++i) {
    const int8_t *x = in + i * job->kernel->stride_w * stride;
    int32_t sum = channel->bias;
    for (int32_t c = 0; c < stride; ++c) sum = dtmm_add_wrapping(sum, weights[c] * x[c]);
    out[job->offsets[2 * i]] = dtmm_run_finish(job, channel, sum);
  }
}

void dtmm_point_portable(const dtmm_run_job *job) {
  for (int32_t tile = 0; tile < job->tiles; ++tile) {
    const int8_t *in = job->in + tile * job->in_step;
    int8_t *out = job->out + tile * job->out_step;
    for (int32_t filter = 0; filter < 2 * job->rounds; ++filter) {
      run_filter(job, job->params + filter, job->weights + filter * job->kernel->in_stride, in,
                 out + filter);
    }
  }
}

#endif
