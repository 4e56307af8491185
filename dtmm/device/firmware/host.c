/* dtmm_firmware.h for a program on the host: lines on standard output, no counters, no stack peak.
 * The harness's main is compiled as dtmm_harness_main. */
#include "dtmm_firmware.h"
#include "semihosting.h"

#include <stdio.h>
#include <stdlib.h>

#undef main

extern int dtmm_harness_main(void);

static int region_is_open;

void dtmm_write_text(const char *text) {
    fputs(text, stdout);
}

void semihosting_exit(uint32_t status) {
    fflush(stdout);
    exit((int)status);
}

void dtmm_region_begin(uint32_t id) {
    (void)id;
    if (region_is_open) {
        dtmm_fail("regions do not nest");
    }
    region_is_open = 1;
}

void dtmm_region_end(void) {
    if (!region_is_open) {
        dtmm_fail("region ended that was not begun");
    }
    region_is_open = 0;
}

int dtmm_region_is_open(void) {
    return region_is_open;
}

void dtmm_stack_paint(void) {}

uint32_t dtmm_stack_peak(void) {
    return 0;
}

int32_t dtmm_read_file(const char *path, size_t offset, void *destination, size_t size) {
    FILE *const file = fopen(path, "rb");
    if (file == NULL) {
        return -1;
    }
    const size_t got =
        fseek(file, (long)offset, SEEK_SET) == 0 ? fread(destination, 1, size, file) : 0;
    fclose(file);
    return (int32_t)got;
}

int main(void) {
    if (dtmm_harness_main() != 0) {
        dtmm_fail("main returned a non-zero status");
    }
    if (dtmm_region_is_open()) {
        dtmm_fail("a region was begun and not ended");
    }
    dtmm_report_end();
    return 0;
}
