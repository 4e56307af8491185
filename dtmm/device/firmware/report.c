#include "dtmm_firmware.h"
#include "semihosting.h"

/* Static, not on the stack: a report must not disturb a stack peak that is being measured. */
static char buffer[256];
static uint32_t used;
static uint32_t lines;
static uint32_t crc = 0xffffffffu;

static void flush(void) {
    buffer[used] = '\0';
    dtmm_write_text(buffer);
    used = 0;
}

static void put_unchecked(char c) {
    if (used == sizeof buffer - 1) {
        flush();
    }
    buffer[used++] = c;
}

/* CRC-32 of ISO 3309, reflected polynomial 0xedb88320, four bits at a time. */
static void check(char c) {
    static const uint32_t table[16] = {
        0x00000000, 0x1db71064, 0x3b6e20c8, 0x26d930ac, 0x76dc4190, 0x6b6b51f4,
        0x4db26158, 0x5005713c, 0xedb88320, 0xf00f9344, 0xd6d6a3e8, 0xcb61b38c,
        0x9b64c2b0, 0x86d3d2d4, 0xa00ae278, 0xbdbdf21c};
    crc ^= (uint8_t)c;
    crc = crc >> 4 ^ table[crc & 15];
    crc = crc >> 4 ^ table[crc & 15];
}

static void put(char c) {
    check(c);
    put_unchecked(c);
}

static void put_text(const char *text) {
    while (*text != '\0') {
        put(*text++);
    }
}

static void put_decimal(uint32_t value) {
    uint32_t unit = 1;
    while (value / unit >= 10) {
        unit *= 10;
    }
    for (; unit > 0; unit /= 10) {
        put((char)('0' + value / unit % 10));
    }
}

static void begin_line(const char *key) {
    put_text("DTMM ");
    put_text(key);
}

static void end_line(void) {
    check('\n');
    put_unchecked(' ');
    put_unchecked('*');
    for (int shift = 28; shift >= 0; shift -= 4) {
        put_unchecked("0123456789abcdef"[~crc >> shift & 15]);
    }
    put_unchecked('\n');
    flush();
    lines++;
}

void dtmm_report_u32(const char *key, const uint32_t *values, size_t count) {
    begin_line(key);
    for (size_t i = 0; i < count; i++) {
        put(' ');
        put_decimal(values[i]);
    }
    end_line();
}

void dtmm_report_bytes(const char *key, uint32_t index, const void *data, size_t size) {
    static const char digits[] = "0123456789abcdef";
    const uint8_t *bytes = data;
    begin_line(key);
    put(' ');
    put_decimal(index);
    put(' ');
    for (size_t i = 0; i < size; i++) {
        put(digits[bytes[i] >> 4]);
        put(digits[bytes[i] & 15]);
    }
    end_line();
}

void dtmm_report_end(void) {
    const uint32_t before = lines;
    dtmm_report_u32("END", &before, 1);
}

void dtmm_fail(const char *message) {
    begin_line("FAIL ");
    put_text(message);
    end_line();
    semihosting_exit(2);
}
