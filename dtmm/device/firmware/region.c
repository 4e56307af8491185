#include "dtmm_firmware.h"

static uint32_t current;
static uint32_t open;

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
    __asm volatile("" ::: "memory");
}

__attribute__((noinline, used)) void dtmm_region_end(void) {
    __asm volatile("" ::: "memory");
    if (!open) {
        dtmm_fail("region ended that was not begun");
    }
    open = 0;
    dtmm_report_u32("REGION", &current, 1);
}

int dtmm_region_is_open(void) {
    return open != 0;
}
