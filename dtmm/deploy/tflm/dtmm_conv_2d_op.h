/** @file
 *  DTMM_CONV_2D, the custom operator of a .tflite file, for any interpreter.
 *
 *  An operator reads one int8 activation (NHWC, batch 1) and one constant, an FWCS blob
 *  (dtmm/fwcs.h); its options are 16 little-endian 16-bit numbers, from which with the input's shape
 *  the output's follows:
 *
 *      version (1), out_channels (unsigned), kernel_h, kernel_w,
 *      stride_h, stride_w, dilation_h, dilation_w, pad_top, pad_left, pad_bottom, pad_right,
 *      input zero point, output zero point, least and greatest output
 *
 *  An interpreter's adapter opens an operator once, gives it the memory it asks for, and runs it:
 *
 *      status = dtmm_conv_2d_op_open(&op, options, options_size, blob, blob_size, height, width, c);
 *      status = dtmm_conv_2d_op_prepare(&op, kept, dtmm_conv_2d_op_kept_bytes(&op));
 *      status = dtmm_conv_2d_op_run(&op, in, out, scratch, dtmm_conv_2d_op_scratch_bytes(&op));
 */
#ifndef DTMM_CONV_2D_OP_H
#define DTMM_CONV_2D_OP_H

#include "dtmm/fwcs.h"

#ifdef __cplusplus
extern "C" {
#endif

#define DTMM_CONV_2D_OPTIONS_BYTES 32

/** An opened operator. Only the sizes are of interest to an adapter. */
typedef struct {
  int32_t out_height, out_width, out_channels; /**< of the output */
  dtmm_conv_params conv;
  dtmm_fwcs_layer layer;
  int32_t in_zero_point;
  dtmm_tensor in;  /**< as the caller has it, densely */
  dtmm_tensor view; /**< what the convolution reads: `in`, or its copy with a halo and whole vectors */
  size_t copy_bytes; /**< of the copy, in front of the scratch memory; 0: none is made */
} dtmm_conv_2d_op;

/** Checks options and blob, which stay where they are, against an input of height x width x channels.
 * DTMM_BAD_BLOB for malformed options or a malformed blob; DTMM_UNSUPPORTED for another version;
 * DTMM_BAD_ARGUMENT for an input that does not fit. */
dtmm_status dtmm_conv_2d_op_open(dtmm_conv_2d_op *op, const void *options, size_t options_size,
                                 const void *blob, size_t blob_size, int32_t height, int32_t width,
                                 int32_t channels);

/** Bytes that are in use as long as the operator is: none for a prepared blob. */
size_t dtmm_conv_2d_op_kept_bytes(const dtmm_conv_2d_op *op);

/** Expands a stored blob into `kept`, 4-byte aligned, and chooses the kernel. */
dtmm_status dtmm_conv_2d_op_prepare(dtmm_conv_2d_op *op, void *kept, size_t kept_bytes);

/** Bytes that are in use during a run, once prepared. */
size_t dtmm_conv_2d_op_scratch_bytes(const dtmm_conv_2d_op *op);

/** One convolution. `in` and `out` are dense NHWC; `in` is 4-byte aligned, `scratch` 16-byte. */
dtmm_status dtmm_conv_2d_op_run(const dtmm_conv_2d_op *op, const int8_t *in, int8_t *out,
                                void *scratch, size_t scratch_bytes);

#ifdef __cplusplus
}
#endif
#endif
