// DTMM_CONV_2D for TensorFlow Lite for Microcontrollers. With a resolver that has room for one more:
//
//   resolver.AddCustom("DTMM_CONV_2D", dtmm::Register_DTMM_CONV_2D());
#ifndef DTMM_CONV_2D_TFLM_H
#define DTMM_CONV_2D_TFLM_H

#include "tensorflow/lite/micro/micro_common.h"

namespace dtmm {

const TFLMRegistration* Register_DTMM_CONV_2D();

}  // namespace dtmm

#endif
