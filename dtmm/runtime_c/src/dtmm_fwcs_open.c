#include "dtmm_fwcs_internal.h"

/* What does not depend on the fields' meaning: identity, size, checksum. */
static dtmm_status check_envelope(const uint8_t *blob, size_t size) {
  if (size < DTMM_FWCS_HEADER || dtmm_u32(blob + DTMM_FWCS_AT_MAGIC) != DTMM_FWCS_MAGIC) {
    return DTMM_BAD_BLOB;
  }
  if (blob[DTMM_FWCS_AT_VERSION] != DTMM_FWCS_VERSION) return DTMM_UNSUPPORTED;
  if (dtmm_u32(blob + DTMM_FWCS_AT_SIZE) != size) return DTMM_BAD_BLOB;
  if (size > INT32_MAX) return DTMM_UNSUPPORTED;
  const uint32_t crc = dtmm_crc32(blob + DTMM_FWCS_AT_SIZE, size - DTMM_FWCS_AT_SIZE);
  return dtmm_u32(blob + DTMM_FWCS_AT_CRC) == crc ? DTMM_OK : DTMM_BAD_BLOB;
}

/* Fills what the header says; each field alone and against its neighbours. */
static dtmm_status read_header(const uint8_t *blob, dtmm_fwcs_layer *layer) {
  const uint32_t flags = blob[DTMM_FWCS_AT_FLAGS];
  *layer = (dtmm_fwcs_layer){
      .weights = {.out_channels = (int32_t)dtmm_u16(blob + DTMM_FWCS_AT_OUT_CHANNELS),
                  .in_stride = (int32_t)dtmm_u16(blob + DTMM_FWCS_AT_IN_STRIDE)},
      .kernel_h = blob[DTMM_FWCS_AT_KERNEL_H],
      .kernel_w = blob[DTMM_FWCS_AT_KERNEL_W],
      .in_channels = (int32_t)dtmm_u16(blob + DTMM_FWCS_AT_IN_CHANNELS),
      .form = flags & DTMM_FWCS_FLAG_PREPARED ? DTMM_FWCS_PREPARED : DTMM_FWCS_STORED,
      .blob = blob};
  if ((flags & ~(uint32_t)DTMM_FWCS_FLAG_PREPARED) != 0 ||
      layer->kernel_h == 0 || layer->kernel_w == 0 || layer->weights.out_channels == 0 ||
      layer->in_channels == 0 || layer->weights.in_stride % DTMM_VECTOR_BYTES != 0 ||
      layer->weights.in_stride < layer->in_channels) {
    return DTMM_BAD_BLOB;
  }
  const int32_t block = (int32_t)dtmm_u16(blob + DTMM_FWCS_AT_CHANNEL_BLOCK);
  return block == layer->in_channels ? DTMM_OK : DTMM_UNSUPPORTED;
}

/* The number of bits set in `bits` bits, or SIZE_MAX if a bit of the last byte beyond them is set. */
DTMM_NO_INLINE static size_t count_bits(const uint8_t *bytes, size_t bits) {
  size_t count = 0;
  DTMM_NO_UNROLL
  for (; bits > 0; bits = bits > 8 ? bits - 8 : 0) {
    uint32_t byte = *bytes++;
    if (bits < 8 && byte >> bits != 0) return SIZE_MAX;
    DTMM_NO_UNROLL
    for (; byte != 0; byte &= byte - 1) ++count;
  }
  return count;
}

static int masks_keep(const dtmm_fwcs_layer *layer, const uint8_t *masks, size_t filterlets) {
  const size_t positions = (size_t)(layer->kernel_h * layer->kernel_w);
  const size_t filters = (size_t)layer->weights.out_channels;
  if (layer->form == DTMM_FWCS_STORED) return count_bits(masks, filters * positions) == filterlets;
  size_t count = 0;
  DTMM_NO_UNROLL
  for (size_t filter = 0; filter < filters; ++filter, masks += (positions + 7) / 8) {
    const size_t bits = count_bits(masks, positions);
    if (bits == SIZE_MAX) return 0;
    count += bits;
  }
  return count == filterlets;
}

/* The ranges that every operator relies on without checking. */
static int params_are_valid(const dtmm_fwcs_layer *layer, const uint8_t *params) {
  const size_t filters = (size_t)layer->weights.out_channels;
  DTMM_NO_UNROLL
  for (size_t filter = 0; filter < filters; ++filter) {
    const dtmm_channel_params p = dtmm_fwcs_params(layer->form, params, filters, filter);
    if (p.multiplier < 0 || p.shift < -31 || p.shift > 30) return 0;
  }
  return 1;
}

/* The kernels multiply whole vectors, with whatever lies between the input's pixels. */
static int padding_is_zero(const dtmm_fwcs_layer *layer, const uint8_t *weights) {
  DTMM_NO_UNROLL
  for (int32_t n = layer->filterlets; n > 0; --n, weights += layer->weights.in_stride) {
    DTMM_NO_UNROLL
    for (int32_t i = layer->in_channels; i < layer->weights.in_stride; ++i) {
      if (weights[i] != 0) return 0;
    }
  }
  return 1;
}

/* The sections against each other. What is not masks or parameters must be whole filterlets. */
static dtmm_status check_sections(dtmm_fwcs_layer *layer, size_t size) {
  const size_t filters = (size_t)layer->weights.out_channels;
  const size_t positions = (size_t)(layer->kernel_h * layer->kernel_w);
  const size_t param_bytes = dtmm_fwcs_param_bytes(layer->form, filters);
  const size_t tail = param_bytes + dtmm_fwcs_mask_bytes(layer->form, filters, positions);
  const size_t unit = dtmm_fwcs_unit(layer->form, layer->in_channels, layer->weights.in_stride);
  if (size < DTMM_FWCS_HEADER + tail) return DTMM_BAD_BLOB;
  const size_t weight_bytes = size - DTMM_FWCS_HEADER - tail, filterlets = weight_bytes / unit;
  const uint8_t *weights = layer->blob + DTMM_FWCS_HEADER;
  const uint8_t *params = weights + weight_bytes;
  if (weight_bytes % unit != 0 || !masks_keep(layer, params + param_bytes, filterlets) ||
      !params_are_valid(layer, params)) {
    return DTMM_BAD_BLOB;
  }
  const uint64_t prepared = DTMM_FWCS_HEADER +
                            (uint64_t)filterlets * (uint32_t)layer->weights.in_stride +
                            dtmm_fwcs_param_bytes(DTMM_FWCS_PREPARED, filters) +
                            dtmm_fwcs_mask_bytes(DTMM_FWCS_PREPARED, filters, positions);
  if (prepared > INT32_MAX) return DTMM_UNSUPPORTED;
  layer->filterlets = (int32_t)filterlets;
  if (layer->form == DTMM_FWCS_STORED) return DTMM_OK;
  if (!padding_is_zero(layer, weights)) return DTMM_BAD_BLOB;
  if (!dtmm_aligned4(layer->blob)) return DTMM_BAD_ARGUMENT;
  layer->weights.weights = (const int8_t *)weights;
  layer->weights.params = (const dtmm_channel_params *)(const void *)params;
  layer->weights.index = params + param_bytes;
  return DTMM_OK;
}

dtmm_status dtmm_fwcs_open(const void *blob, size_t size, dtmm_fwcs_layer *layer) {
  if (blob == NULL || layer == NULL) return DTMM_BAD_ARGUMENT;
  dtmm_status status = check_envelope(blob, size);
  if (status != DTMM_OK) return status;
  dtmm_fwcs_layer opened;
  status = read_header(blob, &opened);
  if (status == DTMM_OK) status = check_sections(&opened, size);
  if (status == DTMM_OK) *layer = opened;
  return status;
}
