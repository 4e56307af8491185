/** Reset, faults and the way out, for a Cortex-M55 (MPS3 AN547) and a Cortex-M4 (MPS2 AN386). */
#include "dtmm_firmware.h"
#include "semihosting.h"

#include <string.h>

extern int main(void);
extern uint32_t __stack_top[];
extern uint8_t __data_start[], __data_end[], __data_load[];
extern uint8_t __dtmm_data_start[], __dtmm_data_end[], __dtmm_data_load[];
extern uint8_t __dtmm_bss_start[], __dtmm_bss_end[], __bss_start[], __bss_end[];

void Reset_Handler(void);
void Fault_Handler(void);
void dtmm_report_fault(uint32_t pc) __attribute__((noreturn, used));

/* System control block, the same on both cores: Arm Cortex-M55 TRM, "System control". */
#define SCB_CFSR (*(volatile uint32_t *)0xE000ED28)
#define SCB_HFSR (*(volatile uint32_t *)0xE000ED2C)

__attribute__((section(".vectors"), used)) static const void *const vectors[16] = {
    __stack_top,           (const void *)Reset_Handler, /* initial MSP, reset */
    (const void *)Fault_Handler, (const void *)Fault_Handler, /* NMI, HardFault */
    (const void *)Fault_Handler, (const void *)Fault_Handler, /* MemManage, BusFault */
    (const void *)Fault_Handler, (const void *)Fault_Handler, /* UsageFault, SecureFault */
};

__attribute__((used, noreturn)) static void start(void) {
    memcpy(__data_start, __data_load, (size_t)(__data_end - __data_start));
    memcpy(__dtmm_data_start, __dtmm_data_load, (size_t)(__dtmm_data_end - __dtmm_data_start));
    memset(__bss_start, 0, (size_t)(__bss_end - __bss_start));
    memset(__dtmm_bss_start, 0, (size_t)(__dtmm_bss_end - __dtmm_bss_start));
    const int status = main();
    if (status != 0) {
        dtmm_fail("main returned a non-zero status");
    }
    if (dtmm_region_is_open()) {
        dtmm_fail("a region was begun and not ended");
    }
    dtmm_report_end();
    semihosting_exit(0);
}

/* No C may run before the coprocessors are on: the compiler may use MVE registers anywhere. */
/* Armv8-M has a stack limit: overflow faults instead of overwriting. */
#if __ARM_ARCH >= 8
#define SET_STACK_LIMIT "ldr  r0, =__stack_limit  \n msr  msplim, r0 \n"
#define CLEAR_STACK_LIMIT "movs r2, #0 \n msr  msplim, r2 \n"
/* CCR.LOB: low-overhead loops */
#define ENABLE_LOOPS                    \
    "ldr  r0, =0xE000ED14     \n"       \
    "ldr  r1, [r0]            \n"       \
    "orr  r1, r1, #0x00080000 \n"       \
    "str  r1, [r0]            \n"
#else
#define SET_STACK_LIMIT ""
#define CLEAR_STACK_LIMIT ""
#define ENABLE_LOOPS ""
#endif

/* No C may run before the coprocessors are on: the compiler may use their registers anywhere. */
__attribute__((naked, noreturn)) void Reset_Handler(void) {
    __asm volatile(SET_STACK_LIMIT
                   "ldr  r0, =0xE000ED88     \n"
                   "ldr  r1, [r0]            \n"
                   "orr  r1, r1, #0x00F00000 \n" /* CPACR: CP10 and CP11, i.e. FP and MVE */
                   "str  r1, [r0]            \n"
                   ENABLE_LOOPS
                   "dsb                      \n"
                   "isb                      \n"
                   "b    start               \n");
}

void dtmm_report_fault(uint32_t pc) {
    const uint32_t values[3] = {SCB_CFSR, SCB_HFSR, pc};
    dtmm_report_u32("FAULT", values, 3);
    semihosting_exit(3);
}

/* A stack overflow leaves no room: take the faulting PC off the frame, report from a new stack. */
__attribute__((naked)) void Fault_Handler(void) {
    __asm volatile("ldr  r0, [sp, #24]       \n"
                   "ldr  r1, =__stack_top    \n"
                   CLEAR_STACK_LIMIT
                   "mov  sp, r1              \n"
                   "b    dtmm_report_fault   \n");
}
