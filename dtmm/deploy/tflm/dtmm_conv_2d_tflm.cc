#include "dtmm_conv_2d_tflm.h"

#include "dtmm_conv_2d_op.h"
#include "tensorflow/lite/c/common.h"
#include "tensorflow/lite/micro/kernels/kernel_util.h"
#include "tensorflow/lite/micro/micro_context.h"
#include "tensorflow/lite/micro/micro_log.h"

namespace dtmm {
namespace {

constexpr int kInput = 0, kBlob = 1, kOutput = 0;
constexpr int kNoScratch = -1;

struct Operator {
  dtmm_conv_2d_op op;
  size_t scratch_bytes;
  int scratch;  // TFLM's handle
};

TfLiteStatus Check(dtmm_status status, const char* what) {
  if (status == DTMM_OK) return kTfLiteOk;
  MicroPrintf("DTMM_CONV_2D: %s: status %d", what, static_cast<int>(status));
  return kTfLiteError;
}

size_t Elements(const TfLiteEvalTensor* tensor) {
  size_t count = 1;
  for (int i = 0; i < tensor->dims->size; ++i) count *= tensor->dims->data[i];
  return count;
}

bool IsImage(const TfLiteEvalTensor* tensor) {
  return tensor->type == kTfLiteInt8 && tensor->dims->size == 4 && tensor->dims->data[0] == 1;
}

void* Init(TfLiteContext* context, const char*, size_t) {
  return tflite::GetMicroContext(context)->AllocatePersistentBuffer(sizeof(Operator));
}

TfLiteStatus Prepare(TfLiteContext* context, TfLiteNode* node) {
  auto* micro = tflite::GetMicroContext(context);
  auto* self = static_cast<Operator*>(node->user_data);
  if (node->inputs->size != 2 || node->outputs->size != 1) {
    return Check(DTMM_BAD_ARGUMENT, "expected two inputs and one output");
  }
  const TfLiteEvalTensor* in = tflite::micro::GetEvalInput(context, node, kInput);
  const TfLiteEvalTensor* blob = tflite::micro::GetEvalInput(context, node, kBlob);
  const TfLiteEvalTensor* out = tflite::micro::GetEvalOutput(context, node, kOutput);
  if (!IsImage(in) || !IsImage(out) || blob->data.data == nullptr) {
    return Check(DTMM_BAD_ARGUMENT, "expected int8 images and a constant");
  }
  const int* shape = in->dims->data;
  TfLiteStatus done = Check(
      dtmm_conv_2d_op_open(&self->op, node->custom_initial_data, node->custom_initial_data_size,
                           blob->data.data, Elements(blob), shape[1], shape[2], shape[3]),
      "options or weights");
  if (done != kTfLiteOk) return done;
  const int* made = out->dims->data;
  if (made[1] != self->op.out_height || made[2] != self->op.out_width ||
      made[3] != self->op.out_channels) {
    return Check(DTMM_BAD_ARGUMENT, "shape of the output");
  }
  const size_t kept_bytes = dtmm_conv_2d_op_kept_bytes(&self->op);
  void* kept = kept_bytes > 0 ? micro->AllocatePersistentBuffer(kept_bytes) : nullptr;
  done = Check(dtmm_conv_2d_op_prepare(&self->op, kept, kept_bytes), "memory for the weights");
  if (done != kTfLiteOk) return done;
  self->scratch_bytes = dtmm_conv_2d_op_scratch_bytes(&self->op);
  self->scratch = kNoScratch;
  if (self->scratch_bytes == 0) return kTfLiteOk;
  return micro->RequestScratchBufferInArena(self->scratch_bytes, &self->scratch);
}

TfLiteStatus Invoke(TfLiteContext* context, TfLiteNode* node) {
  const auto* self = static_cast<const Operator*>(node->user_data);
  void* scratch = self->scratch == kNoScratch
                      ? nullptr
                      : tflite::GetMicroContext(context)->GetScratchBuffer(self->scratch);
  const TfLiteEvalTensor* in = tflite::micro::GetEvalInput(context, node, kInput);
  TfLiteEvalTensor* out = tflite::micro::GetEvalOutput(context, node, kOutput);
  return Check(dtmm_conv_2d_op_run(&self->op, in->data.int8, out->data.int8, scratch,
                                   self->scratch_bytes),
               "run");
}

}  // namespace

const TFLMRegistration* Register_DTMM_CONV_2D() {
  static const TFLMRegistration registration = tflite::micro::RegisterOp(Init, Prepare, Invoke);
  return &registration;
}

}  // namespace dtmm
