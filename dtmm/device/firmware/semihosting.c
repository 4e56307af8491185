#include "semihosting.h"

#include "dtmm_firmware.h"

int32_t semihosting_call(uint32_t operation, const void *parameter) {
    register uint32_t r0 __asm("r0") = operation;
    register const void *r1 __asm("r1") = parameter;
    __asm volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
    return (int32_t)r0;
}

void semihosting_exit(uint32_t status) {
    /* 0x20026 is ADP_Stopped_ApplicationExit: the only reason whose second word is a status. */
    const uint32_t block[2] = {0x20026, status};
    semihosting_call(SEMIHOSTING_EXIT_EXTENDED, block);
    for (;;) {
    }
}

/* Weak: a board's own file may send the lines over a serial port instead. */
__attribute__((weak)) void dtmm_write_text(const char *text) {
    semihosting_call(SEMIHOSTING_WRITE0, text);
}

int32_t dtmm_read_file(const char *path, size_t offset, void *destination, size_t size) {
    uint32_t length = 0;
    while (path[length] != '\0') {
        length++;
    }
    const uint32_t mode_rb = 1;
    const uint32_t open_block[3] = {(uint32_t)path, mode_rb, length};
    const int32_t handle = semihosting_call(SEMIHOSTING_OPEN, open_block);
    if (handle < 0) {
        return -1;
    }
    const uint32_t seek_block[2] = {(uint32_t)handle, (uint32_t)offset};
    const uint32_t read_block[3] = {(uint32_t)handle, (uint32_t)destination, (uint32_t)size};
    const uint32_t close_block[1] = {(uint32_t)handle};
    int32_t missing = (int32_t)size;
    if (semihosting_call(SEMIHOSTING_SEEK, seek_block) == 0) {
        missing = semihosting_call(SEMIHOSTING_READ, read_block);
    }
    semihosting_call(SEMIHOSTING_CLOSE, close_block);
    return (int32_t)size - missing;
}
