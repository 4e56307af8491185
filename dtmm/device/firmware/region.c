#include "dtmm_firmware.h"

static uint32_t current;
static uint32_t open;
static uint32_t started;

/*
 * The core's own cycle counter: Armv8.1-M Architecture Reference Manual, "Performance Monitoring
 * Unit". It serves devices that have one (a board, the FVP); QEMU reads it as zero, and counts by a
 * plug-in instead.
 */
#define DEMCR (*(volatile uint32_t *)0xE000EDFC)
#define PMU_CCNTR (*(volatile uint32_t *)0xE000307C)
#define PMU_CNTENSET (*(volatile uint32_t *)0xE0003C00)
#define PMU_CTRL (*(volatile uint32_t *)0xE0003E04)

static inline uint32_t cycle_counter(void) {
#if defined(__ARM_ARCH_8_1M_MAIN__)
    return PMU_CCNTR;
#else
    return 0;
#endif
}

static inline void start_cycle_counter(void) {
#if defined(__ARM_ARCH_8_1M_MAIN__)
    DEMCR |= 1u << 24;       /* TRCENA */
    PMU_CTRL |= 1u << 0;     /* E: all counters on */
    PMU_CNTENSET = 1u << 31; /* C: the cycle counter */
#endif
    started = cycle_counter();
}

/*
 * The plug-in starts counting at the first instruction outside dtmm_region_begin and stops at the
 * first one of dtmm_region_end. Neither may be inlined, and begin calls nothing on its normal
 * path, because what it called would be counted.
 */
__attribute__((noinline, used)) void dtmm_region_begin(uint32_t id) {
    if (open) {
        dtmm_fail("regions do not nest");
    }
    open = 1;
    current = id;
    start_cycle_counter();
    __asm volatile("" ::: "memory");
}

__attribute__((noinline, used)) void dtmm_region_end(void) {
    const uint32_t cycles = cycle_counter() - started;
    __asm volatile("" ::: "memory");
    if (!open) {
        dtmm_fail("region ended that was not begun");
    }
    open = 0;
    const uint32_t values[2] = {current, cycles};
    dtmm_report_u32("REGION", values, 2);
}

int dtmm_region_is_open(void) {
    return open != 0;
}
