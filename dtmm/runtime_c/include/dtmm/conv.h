/** @file
 *  int8 convolution on dense and on filterlet-pruned (FWCS) weights. */
#ifndef DTMM_CONV_H
#define DTMM_CONV_H

#include "dtmm/types.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
  int32_t kernel_h, kernel_w;
  int32_t stride_h, stride_w;
  int32_t dilation_h, dilation_w;
  int32_t pad_top, pad_left; /**< bottom and right follow from the output's size */
  dtmm_output_params output;
} dtmm_conv_params;

/** A kernel specialised to one in_stride and horizontal stride, for any window; see dtmm/kernels.h. A program
 * holds the code of those it names. */
typedef struct dtmm_conv_kernel dtmm_conv_kernel;

/** Prepared weights: opaque to the caller, made by the generator (dtmm.storage) or, from FWCS
 * bytes, by dtmm_fwcs_open(). The three arrays may lie in different memories.
 *   weights  dense: [C_out][kh*kw][in_stride]; FWCS: the kept filterlets only, filter by filter,
 *            positions ascending, each in_stride bytes (C_in zero-padded to the input's pixel
 *            stride).
 *   index    dense: NULL; FWCS: one bit mask of kh*kw bits per filter, ceil(kh*kw / 8) bytes each,
 *            position p = ky*kw + kx is bit p % 8 of byte p / 8.
 *   params   [C_out]
 *   kernel   NULL: the looped kernel, which takes any shape. Else one of dtmm/kernels.h, made for
 *            this in_stride: faster, where dtmm_conv_kernel_fits().
 *   stream   for a kernel only: NULL, or what dtmm_conv_list_runs() makes of `index` for this input's
 *            strides, ahead of time: it takes flash (2 bytes for each run, each filter without any,
 *            and the end), saves scratch memory and the time to list the runs in every call. With
 *            it, index may be NULL. */
typedef struct {
  int32_t out_channels;
  int32_t in_stride;
  const int8_t *weights;
  const uint8_t *index;
  const dtmm_channel_params *params;
  const dtmm_conv_kernel *kernel;
  const uint16_t *stream;
} dtmm_conv_weights;

/** Whether weights->kernel can run this convolution; true where it is NULL. It wants its own
 * in_stride, input rows a multiple of 16 bytes apart, a window that spans less than 128 KiB of the
 * input, its own horizontal stride, an output at least as wide and as high as its tile, which spans
 * less than 64 KiB, and channel shifts that are all negative. */
int dtmm_conv_kernel_fits(const dtmm_conv_params *conv, const dtmm_conv_weights *weights,
                          const dtmm_tensor *in, const dtmm_tensor *out);

/** Of `count` kernels the one that fits a convolution in fewest tiles, the first of several; NULL where
 * none fits. For programs that learn their layers at run time; weights->kernel is not read. */
const dtmm_conv_kernel *dtmm_conv_kernel_choose(const dtmm_conv_params *conv,
                                                const dtmm_conv_weights *weights,
                                                const dtmm_tensor *in, const dtmm_tensor *out,
                                                const dtmm_conv_kernel *const *kernels,
                                                size_t count);

/** Lists the runs of neighbouring filterlets of all filters of FWCS weights, for
 * dtmm_conv_weights.stream of a layer whose input view has the strides of `in` (its data is not
 * read). Returns the number of entries, or 0 if they do not fit; they are at most what
 * dtmm_conv_fwcs_s8_get_buffer_size() says. (Without an index: those of up to 16 filters, which the
 * dense operator repeats.) */
size_t dtmm_conv_list_runs(const dtmm_conv_params *conv, const dtmm_conv_weights *weights,
                           const dtmm_tensor *in, uint16_t *stream, size_t entries);

/** Every window pixel must exist in the input view: pad_top, pad_left and what the output's size
 * implies at the bottom and right are <= in->halo. in->pixel_stride == weights->in_stride, both a
 * multiple of 16; in->row_stride a multiple of 4; in->data, weights and scratch 4-byte aligned; a
 * window spans at most 256 KiB of the input. The output may have any strides and no alignment; its
 * halo is written too. DTMM_UNSUPPORTED where weights->kernel does not fit. Scratch is used during
 * the call only; its size is the same on every machine (dtmm.storage computes it from counts). */
dtmm_status dtmm_conv_dense_s8(const dtmm_conv_params *conv, const dtmm_conv_weights *weights,
                               const dtmm_tensor *in, const dtmm_tensor *out, void *scratch,
                               size_t scratch_size);
size_t dtmm_conv_dense_s8_get_buffer_size(const dtmm_conv_params *conv,
                                          const dtmm_conv_weights *weights, const dtmm_tensor *in,
                                          const dtmm_tensor *out);

/** As dtmm_conv_dense_s8(), with filterlet weight compressed storage as `weights`. */
dtmm_status dtmm_conv_fwcs_s8(const dtmm_conv_params *conv, const dtmm_conv_weights *weights,
                              const dtmm_tensor *in, const dtmm_tensor *out, void *scratch,
                              size_t scratch_size);
size_t dtmm_conv_fwcs_s8_get_buffer_size(const dtmm_conv_params *conv,
                                         const dtmm_conv_weights *weights, const dtmm_tensor *in,
                                         const dtmm_tensor *out);

/** CSR: single weights of zero left out. Rows are filters; their weights lie in vectors of 16, each of
 * one kernel row and at most 255 bytes apart.
 *   weights  [vectors][16], a vector that is not full ends in zeros
 *   index    16-bit numbers (so 2-byte aligned): [C_out] vectors of each filter; then 9 for each
 *            vector: the column (ky * kw * in_stride + byte in the kernel row) of its first weight, and
 *            16 offsets of 8 bits from that; then 9 zeros.
 *   stream   NULL, or what dtmm_conv_csr_list() makes of `index`: as large, and it saves scratch
 *            memory as large. With it, index may be NULL.
 * Views, alignment and windows as for dtmm_conv_dense_s8(); DTMM_UNSUPPORTED for a horizontal dilation
 * above 1 and where a step of the list does not fit into 16 bits. */
dtmm_status dtmm_conv_csr_s8(const dtmm_conv_params *conv, const dtmm_conv_weights *weights,
                             const dtmm_tensor *in, const dtmm_tensor *out, void *scratch,
                             size_t scratch_size);
size_t dtmm_conv_csr_s8_get_buffer_size(const dtmm_conv_params *conv,
                                        const dtmm_conv_weights *weights, const dtmm_tensor *in,
                                        const dtmm_tensor *out);

/** Makes of the index of CSR weights the list for a layer whose input view has the strides of `in` (its
 * data is not read): each column becomes the bytes from the vector before. `stream` may be the index
 * itself. Returns the number of entries written, 0 if they exceed `entries` or a step 16 bits. */
size_t dtmm_conv_csr_list(const dtmm_conv_params *conv, const dtmm_conv_weights *weights,
                          const dtmm_tensor *in, uint16_t *stream, size_t entries);

/** PatDNN's pattern-pruned 3x3 convolution: FKW, filter, kernel, weight. A kernel is what one filter has
 * for one input channel: four weights at the positions of one of a few patterns, or nothing.
 *   weights  [kernels][4], filter by filter
 *   stream   the number of patterns, at most 32; two numbers for each (four positions ky*3 + kx of 8
 *            bits, the first in the lowest); [C_out] kernels of each filter; pattern * in_stride +
 *            channel of each kernel; four zeros.
 * `index` and `kernel` are not used. Views, alignment and windows as for dtmm_conv_dense_s8(). */
dtmm_status dtmm_conv_fkw_s8(const dtmm_conv_params *conv, const dtmm_conv_weights *weights,
                             const dtmm_tensor *in, const dtmm_tensor *out, void *scratch,
                             size_t scratch_size);
size_t dtmm_conv_fkw_s8_get_buffer_size(const dtmm_conv_params *conv,
                                        const dtmm_conv_weights *weights, const dtmm_tensor *in,
                                        const dtmm_tensor *out);

/** Whether weights->kernel is one of point_kernels.h that can run this convolution: 1x1 without
 * padding. It wants its own in_stride and horizontal stride, two filters at least, channel shifts that
 * are all negative, and rows of four output pixels at least; or as many in all, where no input pixel
 * is left out and none lies between rows. */
int dtmm_conv_pointwise_fits(const dtmm_conv_params *conv, const dtmm_conv_weights *weights,
                             const dtmm_tensor *in, const dtmm_tensor *out);

/** 1x1 convolution with weights as for dtmm_conv_dense_s8(), without scratch memory.
 * DTMM_UNSUPPORTED where dtmm_conv_pointwise_fits() says no. */
dtmm_status dtmm_conv_pointwise_s8(const dtmm_conv_params *conv, const dtmm_conv_weights *weights,
                                   const dtmm_tensor *in, const dtmm_tensor *out, void *scratch,
                                   size_t scratch_size);
size_t dtmm_conv_pointwise_s8_get_buffer_size(const dtmm_conv_params *conv,
                                              const dtmm_conv_weights *weights,
                                              const dtmm_tensor *in, const dtmm_tensor *out);

/** Few input channels, typically the first layer: im2col of an output row into the scratch buffer.
 * weights: [C_out][in_stride] with in_stride = C_in*kh*kw rounded up to 16; the input view may have
 * any pixel stride and no alignment. The kernel, if any, is one of point_kernels.h for in_stride and
 * stride 1; then scratch and weights are 4-byte aligned. */
dtmm_status dtmm_conv_im2col_s8(const dtmm_conv_params *conv, const dtmm_conv_weights *weights,
                                const dtmm_tensor *in, const dtmm_tensor *out, void *scratch,
                                size_t scratch_size);
size_t dtmm_conv_im2col_s8_get_buffer_size(const dtmm_conv_params *conv,
                                           const dtmm_conv_weights *weights, const dtmm_tensor *in,
                                           const dtmm_tensor *out);

/** One filter per channel (depth multiplier 1). weights: [kh*kw][in_stride], position by position;
 * params [C]. Every window pixel must exist in the input view, as for dtmm_conv_dense_s8(); views may
 * have any strides and no alignment. */
dtmm_status dtmm_depthwise_conv_s8(const dtmm_conv_params *conv, const dtmm_conv_weights *weights,
                                   const dtmm_tensor *in, const dtmm_tensor *out, void *scratch,
                                   size_t scratch_size);
size_t dtmm_depthwise_conv_s8_get_buffer_size(const dtmm_conv_params *conv,
                                              const dtmm_conv_weights *weights,
                                              const dtmm_tensor *in, const dtmm_tensor *out);

/** Filters of `groups` equal groups, each on its own range of the input's channels. weights:
 * [C_out][kh*kw][in_stride], in_stride at least C_in / groups. Windows and views as for
 * dtmm_depthwise_conv_s8(). */
dtmm_status dtmm_conv_grouped_s8(const dtmm_conv_params *conv, const dtmm_conv_weights *weights,
                                 int32_t groups, const dtmm_tensor *in, const dtmm_tensor *out,
                                 void *scratch, size_t scratch_size);
size_t dtmm_conv_grouped_s8_get_buffer_size(const dtmm_conv_params *conv,
                                            const dtmm_conv_weights *weights, int32_t groups,
                                            const dtmm_tensor *in, const dtmm_tensor *out);

#ifdef __cplusplus
}
#endif
#endif
