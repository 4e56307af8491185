/* The index of CSR weights (dtmm_conv_csr_s8() in conv.h). */
#ifndef DTMM_CSR_H
#define DTMM_CSR_H

#include "dtmm_conv_internal.h"

#define DTMM_CSR_LANES 16
#define DTMM_CSR_ENTRY (1 + DTMM_CSR_LANES / 2) /* 16-bit numbers of a vector */

/* 16-bit numbers of an index: the filters' counts, then the vectors' entries and one more. */
DTMM_INLINE size_t dtmm_csr_entries(const uint16_t *counts, int32_t filters) {
  size_t vectors = 1;
  for (int32_t filter = 0; filter < filters; ++filter) vectors += counts[filter];
  return (size_t)filters + vectors * DTMM_CSR_ENTRY;
}

#endif
