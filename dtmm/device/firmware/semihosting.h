/** Arm semihosting: the few host calls the firmware makes (Arm "Semihosting for AArch32", v2). */
#ifndef DTMM_SEMIHOSTING_H
#define DTMM_SEMIHOSTING_H

#include <stdint.h>

enum {
    SEMIHOSTING_OPEN = 0x01,
    SEMIHOSTING_CLOSE = 0x02,
    SEMIHOSTING_WRITE0 = 0x04,
    SEMIHOSTING_READ = 0x06,
    SEMIHOSTING_SEEK = 0x0a,
    SEMIHOSTING_EXIT_EXTENDED = 0x20
};

/** Result of one host call; `parameter` is the call's block of words or its string. */
int32_t semihosting_call(uint32_t operation, const void *parameter);

/** Ends the simulation with this exit status of the simulator's process. */
void semihosting_exit(uint32_t status) __attribute__((noreturn));

/** Writes the closing line of a complete run. */
void dtmm_report_end(void);

#endif
