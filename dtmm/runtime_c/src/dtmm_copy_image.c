#include <string.h>

#include "dtmm_internal.h"

#if DTMM_USE_MVE
#include "dtmm_mve.h"

static void copy_run(int8_t *to, const int8_t *from, int32_t bytes) {
  for (; bytes > 0; bytes -= 16, to += 16, from += 16) {
    const mve_pred16_t part = vctp8q((uint32_t)bytes);
    vstrbq_p_s8(to, vldrbq_z_s8(from, part), part);
  }
}
#else
static void copy_run(int8_t *to, const int8_t *from, int32_t bytes) {
  memcpy(to, from, (size_t)bytes);
}
#endif

void dtmm_copy_image(const dtmm_tensor *in, const dtmm_tensor *out) {
  const int rows = dtmm_rows_are_dense(in) && dtmm_rows_are_dense(out);
  const int32_t runs = rows ? 1 : out->width;
  const int32_t bytes = rows ? out->width * out->channels : out->channels;
  for (int32_t y = 0; y < out->height; ++y) {
    for (int32_t x = 0; x < runs; ++x) {
      copy_run(dtmm_pixel(out, y, x), dtmm_pixel(in, y, x), bytes);
    }
  }
}
