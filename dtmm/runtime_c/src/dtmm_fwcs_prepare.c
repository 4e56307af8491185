#include <string.h>

#include "dtmm_fwcs_internal.h"

/* The buffer holds weights (unless they are used in place), parameters, masks. */
static size_t expanded_weight_bytes(const dtmm_fwcs_layer *layer) {
  if (dtmm_fwcs_weights_in_place(layer)) return 0;
  return (size_t)layer->filterlets * (size_t)layer->weights.in_stride;
}

size_t dtmm_fwcs_prepare_get_buffer_size(const dtmm_fwcs_layer *layer) {
  if (layer == NULL || layer->form == DTMM_FWCS_PREPARED) return 0;
  const size_t filters = (size_t)layer->weights.out_channels;
  const size_t positions = (size_t)(layer->kernel_h * layer->kernel_w);
  return expanded_weight_bytes(layer) + dtmm_fwcs_param_bytes(DTMM_FWCS_PREPARED, filters) +
         dtmm_fwcs_mask_bytes(DTMM_FWCS_PREPARED, filters, positions);
}

DTMM_NO_INLINE static void expand_weights(const dtmm_fwcs_layer *layer, int8_t *to) {
  const uint8_t *from = layer->blob + DTMM_FWCS_HEADER;
  const size_t used = (size_t)layer->in_channels, stride = (size_t)layer->weights.in_stride;
  DTMM_NO_UNROLL
  for (int32_t n = layer->filterlets; n > 0; --n, from += used, to += stride) {
    memcpy(to, from, used);
    memset(to + used, 0, stride - used);
  }
}

DTMM_NO_INLINE static void expand_masks(const uint8_t *from, int32_t filters, int32_t positions,
                                        uint8_t *to) {
  uint32_t bit = 0;
  DTMM_NO_UNROLL
  for (; filters > 0; --filters) {
    uint32_t byte = 0;
    DTMM_NO_UNROLL
    for (int32_t p = 0; p < positions; ++p, ++bit) {
      byte |= (from[bit / 8] >> bit % 8 & 1u) << p % 8;
      if (p % 8 == 7 || p == positions - 1) {
        *to++ = (uint8_t)byte;
        byte = 0;
      }
    }
  }
}

dtmm_status dtmm_fwcs_prepare(dtmm_fwcs_layer *layer, void *buffer, size_t buffer_size) {
  if (layer == NULL || layer->blob == NULL) return DTMM_BAD_ARGUMENT;
  if (layer->form == DTMM_FWCS_PREPARED) return DTMM_OK;
  if (buffer_size < dtmm_fwcs_prepare_get_buffer_size(layer)) return DTMM_NO_SPACE;
  if (buffer == NULL || !dtmm_aligned4(buffer)) return DTMM_BAD_ARGUMENT;
  const size_t filters = (size_t)layer->weights.out_channels;
  const uint8_t *stored_params = dtmm_fwcs_find_params(layer);
  const uint8_t *stored_masks = stored_params + dtmm_fwcs_param_bytes(DTMM_FWCS_STORED, filters);
  int8_t *weights = buffer;
  void *after_weights = weights + expanded_weight_bytes(layer);
  dtmm_channel_params *params = after_weights;
  uint8_t *masks = (uint8_t *)(params + filters);
  const int in_place = dtmm_fwcs_weights_in_place(layer);
  if (!in_place) expand_weights(layer, weights);
  DTMM_NO_UNROLL
  for (size_t filter = 0; filter < filters; ++filter) {
    params[filter] = dtmm_fwcs_params(DTMM_FWCS_STORED, stored_params, filters, filter);
  }
  expand_masks(stored_masks, layer->weights.out_channels, layer->kernel_h * layer->kernel_w, masks);
  layer->weights.weights = in_place ? (const int8_t *)layer->blob + DTMM_FWCS_HEADER : weights;
  layer->weights.params = params;
  layer->weights.index = masks;
  return DTMM_OK;
}
