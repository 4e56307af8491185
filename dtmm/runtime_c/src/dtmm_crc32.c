#include "dtmm_fwcs_internal.h"

/* Half a byte at a time: 64 bytes of table instead of 1 KiB, for a check made once per layer. */
uint32_t dtmm_crc32(const uint8_t *bytes, size_t size) {
  static const uint32_t table[16] = {
      0x00000000u, 0x1DB71064u, 0x3B6E20C8u, 0x26D930ACu, 0x76DC4190u, 0x6B6B51F4u,
      0x4DB26158u, 0x5005713Cu, 0xEDB88320u, 0xF00F9344u, 0xD6D6A3E8u, 0xCB61B38Cu,
      0x9B64C2B0u, 0x86D3D2D4u, 0xA00AE278u, 0xBDBDF21Cu};
  uint32_t crc = 0xFFFFFFFFu;
  DTMM_NO_UNROLL
  for (; size > 0; --size) {
    crc ^= *bytes++;
    crc = table[crc & 15] ^ crc >> 4;
    crc = table[crc & 15] ^ crc >> 4;
  }
  return ~crc;
}
