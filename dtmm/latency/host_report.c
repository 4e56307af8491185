/* What harness.c needs of dtmm_firmware.h, on the host: report lines on stdout, no regions. */
#include "dtmm_firmware.h"

#include <stdio.h>
#include <stdlib.h>

void dtmm_report_u32(const char *key, const uint32_t *values, size_t count) {
  printf("DTMM %s", key);
  for (size_t i = 0; i < count; i++) printf(" %lu", (unsigned long)values[i]);
  printf("\n");
}

void dtmm_region_begin(uint32_t id) {
  (void)id;
}

void dtmm_region_end(void) {}

void dtmm_fail(const char *message) {
  fprintf(stderr, "%s\n", message);
  exit(2);
}

int32_t dtmm_read_file(const char *path, size_t offset, void *destination, size_t size) {
  FILE *file = fopen(path, "rb");
  if (file == NULL) return -1;
  fseek(file, (long)offset, SEEK_SET);
  const size_t got = fread(destination, 1, size, file);
  fclose(file);
  return (int32_t)got;
}
