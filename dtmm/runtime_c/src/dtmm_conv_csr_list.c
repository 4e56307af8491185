#include <string.h>

#include "dtmm_csr.h"

size_t dtmm_conv_csr_list(const dtmm_conv_params *conv, const dtmm_conv_weights *weights,
                          const dtmm_tensor *in, uint16_t *stream, size_t entries) {
  const uint16_t *index = (const uint16_t *)(const void *)weights->index;
  const size_t filters = (size_t)weights->out_channels;
  const size_t all = dtmm_csr_entries(index, weights->out_channels);
  const int32_t row_bytes = conv->kernel_w * weights->in_stride;
  const int32_t row = conv->dilation_h * in->row_stride;
  if (all > entries) return 0;
  if (stream != index) memcpy(stream, index, all * sizeof *stream);
  int32_t before = 0;
  for (size_t at = filters; at + DTMM_CSR_ENTRY < all; at += DTMM_CSR_ENTRY) {
    const int32_t column = stream[at];
    const int32_t offset = column / row_bytes * row + column % row_bytes;
    const int32_t step = offset - before;
    if (step < -INT16_MAX || step > INT16_MAX) return 0;
    stream[at] = (uint16_t)step;
    before = offset;
  }
  return all;
}
