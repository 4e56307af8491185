/* What generated assembly sources begin with. */
#ifndef DTMM_RUN_ASM_H
#define DTMM_RUN_ASM_H

#if defined(__ARM_FEATURE_MVE) && (__ARM_FEATURE_MVE & 1)
#define DTMM_USE_MVE 1
#else
#define DTMM_USE_MVE 0
#endif

/* clang-format off */
#define DTMM_ASM_FUNCTION(name) \
  .syntax unified;              \
  .thumb;                       \
  .section .text.name, "ax", %progbits; \
  .p2align 3;                   \
  .global name;                 \
  .type name, %function;        \
  .thumb_func;                  \
  name:
#define DTMM_ASM_END(name) .size name, . - name
/* clang-format on */

#endif
