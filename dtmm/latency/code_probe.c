/* Refers to chosen operators, so that linking it with unused sections dropped shows their size. */
#include "dtmm/conv.h"
#include "dtmm/kernels.h"
#include "dtmm/ops.h"
#include "dtmm/point_kernels.h"
#include "probe.h" /* says which */

typedef void (*function)(void);

/* volatile: the references must survive although nothing calls through them */
static const volatile function used[] = {
#ifdef PROBE_CONV_IM2COL
    (function)dtmm_conv_im2col_s8,
#endif
#ifdef PROBE_CONV_DENSE
    (function)dtmm_conv_dense_s8,
#endif
#ifdef PROBE_CONV_FWCS
    (function)dtmm_conv_fwcs_s8,
#endif
#ifdef PROBE_CONV_POINTWISE
    (function)dtmm_conv_pointwise_s8,
#endif
#ifdef PROBE_CONV_CSR
    (function)dtmm_conv_csr_s8,
#endif
#ifdef PROBE_CONV_FKW
    (function)dtmm_conv_fkw_s8,
#endif
#ifdef PROBE_FULLY_CONNECTED
    (function)dtmm_fully_connected_s8,
#endif
#ifdef PROBE_ADD
    (function)dtmm_add_s8,
#endif
#ifdef PROBE_MAX_POOL
    (function)dtmm_max_pool_s8,
#endif
#ifdef PROBE_AVERAGE_POOL
    (function)dtmm_average_pool_s8,
#endif
#ifdef PROBE_MEAN
    (function)dtmm_mean_s8,
#endif
#ifdef PROBE_CONV_GROUPED
    (function)dtmm_conv_grouped_s8,
#endif
#ifdef PROBE_DEPTHWISE_CONV
    (function)dtmm_depthwise_conv_s8,
#endif
#ifdef PROBE_ADD_BROADCAST
    (function)dtmm_add_broadcast_s8,
#endif
#ifdef PROBE_MUL
    (function)dtmm_mul_s8,
#endif
#ifdef PROBE_MUL_BROADCAST
    (function)dtmm_mul_broadcast_s8,
#endif
#ifdef PROBE_LOOKUP
    (function)dtmm_lookup_s8,
#endif
#ifdef PROBE_SOFTMAX
    (function)dtmm_softmax_s8,
#endif
#ifdef PROBE_CONCAT
    (function)dtmm_concat_s8,
#endif
#ifdef PROBE_PAD
    (function)dtmm_pad_s8,
#endif
#ifdef PROBE_STRIDED_SLICE
    (function)dtmm_strided_slice_s8,
#endif
    (function)dtmm_copy_s8, /* every model copies its input in and its output out */
};

#ifdef PROBE_RUN_KERNELS
static const dtmm_conv_kernel *const volatile run_kernels[] = {RUN_KERNELS};
#else
static const dtmm_conv_kernel *const volatile run_kernels[] = {0};
#endif

int main(void) {
  return used[0] == (function)0 || run_kernels[0] == 0;
}
