/**
 * What a harness on the device may use: report lines, counted regions, stack peak, host files.
 *
 * A harness defines `int main(void)`. When main returns 0 the start-up code writes the closing
 * line and ends the simulation; any other value, a fault or dtmm_fail() is a failed run.
 *
 * Every report line is `DTMM <key> <values...> *<crc>`; the last is `DTMM END <lines before> *<crc>`.
 * The CRC-32 (ISO 3309, eight lower-case hexadecimal digits) is over this line and all before it,
 * each without its checksum and with a newline: a reader sees every changed, lost, doubled or
 * displaced line.
 */
#ifndef DTMM_FIRMWARE_H
#define DTMM_FIRMWARE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/** Sends text to whoever reads the lines: by semihosting unless the firmware defines its own. */
void dtmm_write_text(const char *text);

/** Writes `DTMM <key> <values[0]> ... <values[count - 1]>`, values in decimal. */
void dtmm_report_u32(const char *key, const uint32_t *values, size_t count);

/** Writes `DTMM <key> <index> <hex of size bytes>`, two lower-case digits a byte, memory order. */
void dtmm_report_bytes(const char *key, uint32_t index, const void *data, size_t size);

/** Writes `DTMM FAIL <message>` and ends the run with exit status 2. */
void dtmm_fail(const char *message) __attribute__((noreturn));

/**
 * What runs between these two calls is counted as one region, C library calls included; the
 * markers' own instructions are not. Regions do not nest (dtmm_fail). The end marker reports
 * `DTMM REGION <id> <cycles>`; cycles are those of the core's PMU, 0 where it has none (QEMU).
 */
void dtmm_region_begin(uint32_t id);
void dtmm_region_end(void);

/** Whether a region was begun and not ended; main must not return in one. */
int dtmm_region_is_open(void);

/** Fills the unused stack below the caller's stack pointer with a pattern. */
void dtmm_stack_paint(void);

/** Bytes below the stack pointer of the dtmm_stack_paint() caller that were written since. */
uint32_t dtmm_stack_peak(void);

/**
 * Reads size bytes at offset of a file of the host, relative to the simulator's working
 * directory. Returns the number of bytes read, or -1 when the file cannot be opened.
 */
int32_t dtmm_read_file(const char *path, size_t offset, void *destination, size_t size);

#ifdef __cplusplus
}
#endif

#endif
