/*
 * Stack painting. Both functions are leaves that use no stack themselves, so that what is painted
 * and read starts exactly at the caller's stack pointer: this is why they are assembly.
 */
    .syntax unified
    .thumb

    .equ PATTERN, 0xa5c3965a

    .section .bss.dtmm_stack_base, "aw", %nobits
    .balign 4
stack_base:
    .space 4

    .section .text.dtmm_stack_paint, "ax", %progbits
    .global dtmm_stack_paint
    .type dtmm_stack_paint, %function
    .thumb_func
dtmm_stack_paint:
    ldr     r0, =__stack_limit
    ldr     r1, =PATTERN
    mov     r2, sp
    ldr     r3, =stack_base
    str     r2, [r3]
1:  cmp     r0, r2
    bhs     2f
    str     r1, [r0], #4
    b       1b
2:  bx      lr
    .size dtmm_stack_paint, . - dtmm_stack_paint
    .ltorg

    .section .text.dtmm_stack_peak, "ax", %progbits
    .global dtmm_stack_peak
    .type dtmm_stack_peak, %function
    .thumb_func
dtmm_stack_peak:
    ldr     r0, =__stack_limit
    ldr     r1, =PATTERN
    ldr     r3, =stack_base
    ldr     r2, [r3]
1:  cmp     r0, r2
    bhs     2f
    ldr     r3, [r0]
    cmp     r3, r1
    bne     2f
    adds    r0, #4
    b       1b
2:  subs    r0, r2, r0
    bx      lr
    .size dtmm_stack_peak, . - dtmm_stack_peak
    .ltorg
