// What the wheel's `custom_op_registerers` calls. Its resolver is a table with room for 200 operators
// behind a pointer to its virtual functions; real programs call AddCustom.
#include "dtmm_conv_2d_tflm.h"

namespace {

constexpr int32_t kCustom = 32;
constexpr unsigned kRoom = 200;

struct Resolver {
  void* functions;
  TFLMRegistration operators[kRoom];
  unsigned count;
};

}  // namespace

extern "C" bool DtmmRegisterOps(void* opaque) {
  auto* resolver = static_cast<Resolver*>(opaque);
  if (resolver->count == 0 || resolver->count >= kRoom) return false;  // another layout
  TFLMRegistration& added = resolver->operators[resolver->count++];
  added = *dtmm::Register_DTMM_CONV_2D();
  added.builtin_code = kCustom;
  added.custom_name = "DTMM_CONV_2D";
  return true;
}
