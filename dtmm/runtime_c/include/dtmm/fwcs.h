/** @file
 *  FWCS v1: filterlet-pruned convolution weights as one self-describing blob (docs/fwcs.md).
 *
 *  A blob has one of two forms. The prepared form is what dtmm_conv_fwcs_s8() reads in place. The
 *  stored form is smaller and is expanded first, offline or by dtmm_fwcs_prepare() at start-up:
 *
 *      dtmm_fwcs_layer layer;
 *      dtmm_status status = dtmm_fwcs_open(blob, sizeof blob, &layer);
 *      if (status == DTMM_OK) status = dtmm_fwcs_prepare(&layer, buffer, sizeof buffer);
 *      if (status == DTMM_OK) status = dtmm_conv_fwcs_s8(&conv, &layer.weights, ...);
 */
#ifndef DTMM_FWCS_H
#define DTMM_FWCS_H

#include "dtmm/conv.h"

#ifdef __cplusplus
extern "C" {
#endif

/** How the bytes of a blob lie. */
typedef enum {
  DTMM_FWCS_STORED = 0,  /**< smallest: packed masks, 9-byte parameters, filterlets not padded */
  DTMM_FWCS_PREPARED = 1 /**< read in place by the kernels */
} dtmm_fwcs_form;

/** An opened blob. It points into the blob, which must stay where it is. */
typedef struct {
  /** Usable with dtmm_conv_fwcs_s8() once its arrays are not NULL: after dtmm_fwcs_open() for a
   *  prepared blob, after dtmm_fwcs_prepare() for a stored one. */
  dtmm_conv_weights weights;
  int32_t kernel_h;     /**< 1..255 */
  int32_t kernel_w;     /**< 1..255 */
  int32_t in_channels;  /**< weights of a filterlet, without padding */
  int32_t filterlets;   /**< how many are kept */
  dtmm_fwcs_form form;  /**< of the blob */
  const uint8_t *blob;  /**< the blob's first byte */
} dtmm_fwcs_layer;

/** Checks a blob once, completely, and describes it.
 *
 *  Reads `size` bytes at most. Afterwards the kernels may rely on everything in `layer`.
 *
 *  @param blob   the bytes; a prepared blob is 4-byte aligned (8 is faster), a stored one need not
 *                be
 *  @param size   their number; it must be what the blob says
 *  @param layer  written on success only
 *  @return DTMM_OK; DTMM_BAD_ARGUMENT for a NULL pointer or a misaligned prepared blob;
 *          DTMM_UNSUPPORTED for another version of the format, channel blocks other than C_in, or
 *          more than 2^31 - 1 bytes; DTMM_BAD_BLOB for anything malformed
 */
dtmm_status dtmm_fwcs_open(const void *blob, size_t size, dtmm_fwcs_layer *layer);

/** Bytes that dtmm_fwcs_prepare() needs.
 *
 *  None for a prepared blob. Where the stored filterlets need no padding (C_in == in_stride) and are
 *  4-byte aligned they are used where they are, and only parameters and masks are expanded.
 *
 *  @param layer  as dtmm_fwcs_open() filled it
 *  @return the number of bytes
 */
size_t dtmm_fwcs_prepare_get_buffer_size(const dtmm_fwcs_layer *layer);

/** Expands a stored blob and lets `layer->weights` point to the result; for a prepared blob there is
 *  nothing to do.
 *
 *  @param layer   as dtmm_fwcs_open() filled it
 *  @param buffer  4-byte aligned (8 is faster); in use for as long as `layer->weights` is
 *  @param buffer_size  at least dtmm_fwcs_prepare_get_buffer_size()
 *  @return DTMM_OK; DTMM_BAD_ARGUMENT for a NULL pointer or a misaligned buffer; DTMM_NO_SPACE
 */
dtmm_status dtmm_fwcs_prepare(dtmm_fwcs_layer *layer, void *buffer, size_t buffer_size);

#ifdef __cplusplus
}
#endif
#endif
