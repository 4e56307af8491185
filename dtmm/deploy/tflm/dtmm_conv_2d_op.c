#include "dtmm_conv_2d_op.h"

#include "dtmm/kernels.h"
#include "dtmm/ops.h"

/* Beside an exported model lies the list of run kernels that its layers fit: X(c64_1x8) X(...). A
 * program links those alone; without the list every layer runs on the looped kernel. */
#if defined(__has_include)
#if __has_include("dtmm_op_kernels.h")
#include "dtmm_op_kernels.h"
#endif
#endif
#ifndef DTMM_OP_KERNELS
#define DTMM_OP_KERNELS(X)
#endif

#define VERSION 1
#define MOST_BYTES (1 << 30) /* of a tensor: far beyond a microcontroller, and products stay small */

static int32_t max4(int32_t a, int32_t b, int32_t c, int32_t d) {
  const int32_t first = a > b ? a : b, second = c > d ? c : d;
  return first > second ? first : second;
}

/* Number n of the options. */
static int32_t option(const uint8_t *options, int32_t n) {
  return (int16_t)(uint16_t)(options[2 * n] | options[2 * n + 1] << 8);
}

/* Outputs along an axis; 0 where the window does not fit. */
static int32_t outputs(int32_t size, int32_t before, int32_t after, int32_t kernel, int32_t dilation,
                       int32_t stride) {
  const int32_t room = size + before + after - ((kernel - 1) * dilation + 1);
  return room < 0 ? 0 : room / stride + 1;
}

static dtmm_tensor dense(int32_t height, int32_t width, int32_t channels) {
  const dtmm_tensor tensor = {NULL, height, width, channels, channels, width * channels, 0};
  return tensor;
}

static int is_small(int64_t height, int64_t width, int64_t pixel) {
  return width * pixel <= MOST_BYTES && height * (width * pixel) <= MOST_BYTES;
}

/* Sets what the convolution reads. */
static dtmm_status place_input(dtmm_conv_2d_op *op, int32_t halo) {
  const int32_t pixel = op->layer.weights.in_stride;
  op->view = op->in;
  op->copy_bytes = 0;
  if (halo == 0 && op->in.channels == pixel) return DTMM_OK;
  const int32_t height = op->in.height + 2 * halo, width = op->in.width + halo;
  if (!is_small(height + 1, width, pixel)) return DTMM_UNSUPPORTED;
  op->view.pixel_stride = pixel;
  op->view.row_stride = width * pixel; /* a row's right halo is the next one's left halo */
  op->view.halo = halo;
  op->copy_bytes = (size_t)(height * op->view.row_stride + halo * pixel); /* whole vectors */
  return DTMM_OK;
}

dtmm_status dtmm_conv_2d_op_open(dtmm_conv_2d_op *op, const void *options, size_t options_size,
                                 const void *blob, size_t blob_size, int32_t height, int32_t width,
                                 int32_t channels) {
  if (op == NULL || options == NULL) return DTMM_BAD_ARGUMENT;
  if (options_size != DTMM_CONV_2D_OPTIONS_BYTES) return DTMM_BAD_BLOB;
  if (option(options, 0) != VERSION) return DTMM_UNSUPPORTED;
  const dtmm_status status = dtmm_fwcs_open(blob, blob_size, &op->layer);
  if (status != DTMM_OK) return status;
  const int32_t pad[4] = {option(options, 8), option(options, 9), option(options, 10),
                          option(options, 11)};
  const int32_t zero_point = option(options, 12);
  const dtmm_conv_params conv = {
      option(options, 2), option(options, 3), option(options, 4), option(options, 5),
      option(options, 6), option(options, 7), pad[0],             pad[1],
      {option(options, 13), option(options, 14), option(options, 15)}};
  for (int i = 0; i < 4; ++i) {
    if (pad[i] < 0) return DTMM_BAD_BLOB;
  }
  if ((uint16_t)option(options, 1) != op->layer.weights.out_channels ||
      conv.kernel_h != op->layer.kernel_h || conv.kernel_w != op->layer.kernel_w ||
      conv.stride_h < 1 || conv.stride_w < 1 || conv.dilation_h < 1 || conv.dilation_w < 1 ||
      zero_point < INT8_MIN || zero_point > INT8_MAX) {
    return DTMM_BAD_BLOB;
  }
  if (channels != op->layer.in_channels || height < 1 || width < 1 ||
      !is_small(height, width, op->layer.weights.in_stride)) {
    return DTMM_BAD_ARGUMENT;
  }
  op->conv = conv;
  op->in_zero_point = zero_point;
  op->in = dense(height, width, channels);
  op->out_channels = op->layer.weights.out_channels;
  op->out_height = outputs(height, pad[0], pad[2], conv.kernel_h, conv.dilation_h, conv.stride_h);
  op->out_width = outputs(width, pad[1], pad[3], conv.kernel_w, conv.dilation_w, conv.stride_w);
  if (op->out_height < 1 || op->out_width < 1 ||
      !is_small(op->out_height, op->out_width, op->out_channels)) {
    return DTMM_BAD_ARGUMENT;
  }
  return place_input(op, max4(pad[0], pad[1], pad[2], pad[3]));
}

size_t dtmm_conv_2d_op_kept_bytes(const dtmm_conv_2d_op *op) {
  return dtmm_fwcs_prepare_get_buffer_size(&op->layer);
}

dtmm_status dtmm_conv_2d_op_prepare(dtmm_conv_2d_op *op, void *kept, size_t kept_bytes) {
#define ADDRESS(name) &dtmm_conv_kernel_##name,
  static const dtmm_conv_kernel *const kernels[] = {DTMM_OP_KERNELS(ADDRESS) NULL};
#undef ADDRESS
  const dtmm_status status = dtmm_fwcs_prepare(&op->layer, kept, kept_bytes);
  if (status != DTMM_OK) return status;
  const dtmm_tensor out = dense(op->out_height, op->out_width, op->out_channels);
  op->layer.weights.kernel =
      dtmm_conv_kernel_choose(&op->conv, &op->layer.weights, &op->view, &out, kernels,
                              sizeof kernels / sizeof kernels[0]);
  return DTMM_OK;
}

size_t dtmm_conv_2d_op_scratch_bytes(const dtmm_conv_2d_op *op) {
  const dtmm_tensor out = dense(op->out_height, op->out_width, op->out_channels);
  return op->copy_bytes +
         dtmm_conv_fwcs_s8_get_buffer_size(&op->conv, &op->layer.weights, &op->view, &out);
}

dtmm_status dtmm_conv_2d_op_run(const dtmm_conv_2d_op *op, const int8_t *in, int8_t *out,
                                void *scratch, size_t scratch_bytes) {
  if (scratch_bytes < op->copy_bytes) return DTMM_NO_SPACE;
  dtmm_tensor source = op->in, view = op->view;
  dtmm_tensor target = dense(op->out_height, op->out_width, op->out_channels);
  source.data = (int8_t *)in; /* a view has no const twin; it is only read */
  target.data = out;
  view.data = source.data;
  int8_t *rest = scratch;
  if (op->copy_bytes > 0) {
    view.data = rest + view.halo * (view.row_stride + view.pixel_stride);
    rest += op->copy_bytes;
    const dtmm_status status = dtmm_copy_s8((int8_t)op->in_zero_point, &source, &view);
    if (status != DTMM_OK) return status;
  }
  return dtmm_conv_fwcs_s8(&op->conv, &op->layer.weights, &view, &target, rest,
                           scratch_bytes - op->copy_bytes);
}
