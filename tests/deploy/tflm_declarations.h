// What the operator needs of TFLM, as the pinned tflite_micro wheel lays it out: the wheel ships no
// headers. Its symbols lie in tflite::micro; in TFLM's own headers the types are global.
#ifndef TFLM_DECLARATIONS_H
#define TFLM_DECLARATIONS_H

#include <cstddef>
#include <cstdint>

struct TfLiteIntArray {
  int size;
  int data[1];
};

enum TfLiteType { kTfLiteInt8 = 9 };

namespace tflite {
namespace micro {

enum TfLiteStatus { kTfLiteOk = 0, kTfLiteError = 1 };

struct TfLiteContext;

struct TfLiteNode {
  TfLiteIntArray *inputs, *outputs, *intermediates;
  void *user_data, *builtin_data;
  const void* custom_initial_data;
  int custom_initial_data_size;
};

struct TfLiteEvalTensor {
  union {
    int8_t* int8;
    void* data;
  } data;
  TfLiteIntArray* dims;
  TfLiteType type;
};

const TfLiteEvalTensor* GetEvalInput(const TfLiteContext*, const TfLiteNode*, int);
TfLiteEvalTensor* GetEvalOutput(const TfLiteContext*, const TfLiteNode*, int);
void* MicroContextAllocatePersistentBuffer(TfLiteContext*, size_t);
TfLiteStatus MicroContextRequestScratchBufferInArena(TfLiteContext*, size_t, int*);
void* MicroContextGetScratchBuffer(TfLiteContext*, int);

}  // namespace micro

// TFLM's is a class with virtual functions behind the context; these call the same ones.
class MicroContext {
 public:
  void* AllocatePersistentBuffer(size_t bytes) {
    return micro::MicroContextAllocatePersistentBuffer(Context(), bytes);
  }
  micro::TfLiteStatus RequestScratchBufferInArena(size_t bytes, int* handle) {
    return micro::MicroContextRequestScratchBufferInArena(Context(), bytes, handle);
  }
  void* GetScratchBuffer(int handle) {
    return micro::MicroContextGetScratchBuffer(Context(), handle);
  }

 private:
  micro::TfLiteContext* Context() { return reinterpret_cast<micro::TfLiteContext*>(this); }
};

inline MicroContext* GetMicroContext(micro::TfLiteContext* context) {
  return reinterpret_cast<MicroContext*>(context);
}

}  // namespace tflite

using tflite::micro::kTfLiteError;
using tflite::micro::kTfLiteOk;
using tflite::micro::TfLiteContext;
using tflite::micro::TfLiteEvalTensor;
using tflite::micro::TfLiteNode;
using tflite::micro::TfLiteStatus;

struct TFLMRegistration {
  void* (*init)(TfLiteContext*, const char*, size_t);
  void (*free)(TfLiteContext*, void*);
  TfLiteStatus (*prepare)(TfLiteContext*, TfLiteNode*);
  TfLiteStatus (*invoke)(TfLiteContext*, TfLiteNode*);
  void (*reset)(TfLiteContext*, void*);
  int32_t builtin_code;
  const char* custom_name;
};

namespace tflite {
namespace micro {

inline TFLMRegistration RegisterOp(void* (*init)(TfLiteContext*, const char*, size_t),
                                   TfLiteStatus (*prepare)(TfLiteContext*, TfLiteNode*),
                                   TfLiteStatus (*invoke)(TfLiteContext*, TfLiteNode*)) {
  return {init, nullptr, prepare, invoke, nullptr, 0, nullptr};
}

}  // namespace micro
}  // namespace tflite

void MicroPrintf(const char* format, ...);

#endif
