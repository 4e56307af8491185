/* What differential programs share: random cases in a memory of which every byte is compared. */
#ifndef DIFFERENTIAL_H
#define DIFFERENTIAL_H

#include <stdint.h>
#include <string.h>

#include "dtmm/conv.h"
#include "dtmm/kernels.h"
#include "dtmm/ops.h"
#include "dtmm/point_kernels.h"

#ifdef __arm__
#include "dtmm_firmware.h"
static void report(uint32_t operator_id, uint32_t number, uint32_t status, uint32_t sum) {
  const uint32_t values[] = {operator_id, number, status, sum};
  dtmm_report_u32("CASE", values, 4);
}
#else
#include <stdio.h>
static void report(uint32_t operator_id, uint32_t number, uint32_t status, uint32_t sum) {
  printf("DTMM CASE %u %u %u %u\n", (unsigned)operator_id, (unsigned)number, (unsigned)status,
         (unsigned)sum);
}
#endif

#ifndef CASES
#define CASES 60
#endif

enum { POOL = 160 * 1024 };
static int8_t memory[POOL] __attribute__((aligned(16)));
static size_t used;
static uint32_t state;

static uint32_t next(void) {
  state ^= state << 13;
  state ^= state >> 17;
  state ^= state << 5;
  return state;
}
static int32_t pick(int32_t low, int32_t high) {
  return low + (int32_t)((next() >> 8) % (uint32_t)(high - low + 1));
}
static int8_t *allocate(size_t bytes) {
  int8_t *p = memory + used;
  used += (bytes + 15) / 16 * 16;
  return p;
}

static const int32_t channel_choice[] = {1, 3, 8, 15, 16, 17, 24, 32, 33, 48, 64, 80, 128, 144, 256};

static int32_t channels(int32_t choices) { return channel_choice[pick(0, choices - 1)]; }

static dtmm_tensor view(int32_t h, int32_t w, int32_t c, int32_t halo, int vectors) {
  const int32_t pixel = vectors ? (c + 15) / 16 * 16 : c + pick(0, 1) * pick(0, 5);
  const int32_t row = (w + halo) * pixel + (pick(0, 2) == 0 ? 4 * pick(0, 9) : 0);
  int8_t *data = allocate((size_t)((h + 2 * halo) * row + (2 * halo + 1) * pixel));
  return (dtmm_tensor){data + halo * (row + pixel), h, w, c, pixel, row, halo};
}

static dtmm_output_params output(void) {
  dtmm_output_params o = {pick(-128, 127), -128, 127};
  if (pick(0, 1)) {
    o.activation_min = pick(-128, 0);
    o.activation_max = pick(0, 127);
  }
  return o;
}

/* Runs CASES cases of every kind and reports each one's status and checksum of all memory. */
static int run_cases(uint32_t kinds, dtmm_status (*run)(uint32_t kind)) {
  for (uint32_t kind = 0; kind < kinds; ++kind) {
    for (uint32_t number = 0; number < CASES; ++number) {
      state = 2463534242u + 7919u * number + 104729u * kind;
      for (int i = 0; i < 8; ++i) next();
      for (size_t i = 0; i + 4 <= sizeof memory; i += 4) { /* noise: data, pads and canaries */
        const uint32_t noise = next();
        memcpy(memory + i, &noise, 4);
      }
      used = 0;
      const dtmm_status status = run(kind);
      uint32_t sum = 0;
      for (size_t i = 0; i < sizeof memory; ++i) sum = sum * 31u + (uint8_t)memory[i];
      report(kind, number, (uint32_t)-(int32_t)status, sum);
    }
  }
  return 0;
}

#endif
