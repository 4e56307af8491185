/* What the pools share: their checks and the walk over the windows. */
#ifndef DTMM_POOL_INTERNAL_H
#define DTMM_POOL_INTERNAL_H

#include "dtmm/ops.h"
#include "dtmm_internal.h"

/* A window clipped to the image. */
typedef struct {
  const int8_t *data; /* its first pixel */
  int32_t height, width;
} dtmm_pool_window;

typedef void (*dtmm_pool_kernel)(const dtmm_pool_params *pool, const dtmm_tensor *in,
                                 const dtmm_pool_window *window, int8_t *out);

/* Checks the arguments, calls `kernel` for every output pixel and fills the halo. */
dtmm_status dtmm_walk_pool(const dtmm_pool_params *pool, const dtmm_tensor *in,
                           const dtmm_tensor *out, dtmm_pool_kernel kernel);

#endif
