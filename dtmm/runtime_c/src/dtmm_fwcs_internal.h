/* The layout of an FWCS v1 blob (docs/fwcs.md); not part of the public interface. */
#ifndef DTMM_FWCS_INTERNAL_H
#define DTMM_FWCS_INTERNAL_H

#include "dtmm/fwcs.h"
#include "dtmm_internal.h"

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the kernels read prepared parameters in place: FWCS is for little-endian machines"
#endif

#define DTMM_FWCS_MAGIC 0x53435746u /* "FWCS" */
#define DTMM_FWCS_VERSION 1

enum { /* offsets of the header's fields */
  DTMM_FWCS_AT_MAGIC = 0,
  DTMM_FWCS_AT_CRC = 4,
  DTMM_FWCS_AT_SIZE = 8, /* the CRC begins here */
  DTMM_FWCS_AT_VERSION = 12,
  DTMM_FWCS_AT_FLAGS = 13,
  DTMM_FWCS_AT_KERNEL_H = 14,
  DTMM_FWCS_AT_KERNEL_W = 15,
  DTMM_FWCS_AT_OUT_CHANNELS = 16,
  DTMM_FWCS_AT_IN_CHANNELS = 18,
  DTMM_FWCS_AT_IN_STRIDE = 20,
  DTMM_FWCS_AT_CHANNEL_BLOCK = 22,
  DTMM_FWCS_HEADER = 24 /* the weights begin here */
};

enum { DTMM_FWCS_FLAG_PREPARED = 1 };

/* CRC-32 as in zlib, PNG and IEEE 802.3: polynomial 0xEDB88320 reflected, start and final ~0. */
uint32_t dtmm_crc32(const uint8_t *bytes, size_t size);

DTMM_INLINE uint32_t dtmm_u16(const uint8_t *at) { return at[0] | (uint32_t)at[1] << 8; }
DTMM_INLINE uint32_t dtmm_u32(const uint8_t *at) { return dtmm_u16(at) | dtmm_u16(at + 2) << 16; }

/* Bytes of all masks: bits without a gap in the stored form, whole bytes per filter in the prepared. */
DTMM_INLINE size_t dtmm_fwcs_mask_bytes(dtmm_fwcs_form form, size_t filters, size_t positions) {
  return form == DTMM_FWCS_PREPARED ? filters * ((positions + 7) / 8)
                                    : (filters * positions + 7) / 8;
}

/* Bytes of all parameters. */
DTMM_INLINE size_t dtmm_fwcs_param_bytes(dtmm_fwcs_form form, size_t filters) {
  return filters * (form == DTMM_FWCS_PREPARED ? sizeof(dtmm_channel_params) : 9);
}

/* One channel's parameters: records in the prepared form, in the stored one three arrays. */
DTMM_INLINE dtmm_channel_params dtmm_fwcs_params(dtmm_fwcs_form form, const uint8_t *params,
                                                 size_t filters, size_t filter) {
  if (form == DTMM_FWCS_PREPARED) {
    const uint8_t *at = params + filter * sizeof(dtmm_channel_params);
    return (dtmm_channel_params){(int32_t)dtmm_u32(at), (int32_t)dtmm_u32(at + 4),
                                 (int32_t)dtmm_u32(at + 8)};
  }
  return (dtmm_channel_params){(int32_t)dtmm_u32(params + 4 * filter),
                               (int32_t)dtmm_u32(params + 4 * (filters + filter)),
                               (int8_t)params[8 * filters + filter]};
}

/* Bytes between two filterlets of the blob. */
DTMM_INLINE size_t dtmm_fwcs_unit(dtmm_fwcs_form form, int32_t in_channels, int32_t in_stride) {
  return (size_t)(form == DTMM_FWCS_PREPARED ? in_stride : in_channels);
}

/* Where an opened blob's parameters begin. */
DTMM_INLINE const uint8_t *dtmm_fwcs_find_params(const dtmm_fwcs_layer *layer) {
  const size_t unit = dtmm_fwcs_unit(layer->form, layer->in_channels, layer->weights.in_stride);
  return layer->blob + DTMM_FWCS_HEADER + (size_t)layer->filterlets * unit;
}

/* A stored blob whose filterlets are as a kernel wants them. */
DTMM_INLINE int dtmm_fwcs_weights_in_place(const dtmm_fwcs_layer *layer) {
  return layer->in_channels == layer->weights.in_stride &&
         dtmm_aligned4(layer->blob + DTMM_FWCS_HEADER);
}

#endif
