#include "dtmm/ops.h"
#include "dtmm_internal.h"

#if DTMM_USE_MVE
#include "dtmm_mve.h"

static void look_up(const int8_t *table, const int8_t *in, int8_t *out, int32_t count) {
  const uint8x16_t sign = vdupq_n_u8(0x80); /* -128 is the table's entry 0 */
  for (; count > 0; count -= 16, in += 16, out += 16) {
    const mve_pred16_t part = vctp8q((uint32_t)count);
    const uint8x16_t codes = vreinterpretq_u8_s8(vldrbq_z_s8(in, part));
    vstrbq_p_s8(out, vldrbq_gather_offset_z_s8(table, veorq_u8(codes, sign), part), part);
  }
}
#else
static void look_up(const int8_t *table, const int8_t *in, int8_t *out, int32_t count) {
  for (int32_t i = 0; i < count; ++i) out[i] = table[in[i] + 128];
}
#endif

dtmm_status dtmm_lookup_s8(const int8_t *table, int8_t zero_point, const dtmm_tensor *in,
                           const dtmm_tensor *out) {
  if (table == NULL || !dtmm_tensor_is_valid(in) || !dtmm_tensor_is_valid(out) ||
      !dtmm_same_shape(in, out)) {
    return DTMM_BAD_ARGUMENT;
  }
  const int rows = dtmm_rows_are_dense(in) && dtmm_rows_are_dense(out);
  const int32_t runs = rows ? 1 : out->width;
  const int32_t count = rows ? out->width * out->channels : out->channels;
  for (int32_t y = 0; y < out->height; ++y) {
    for (int32_t x = 0; x < runs; ++x) {
      look_up(table, dtmm_pixel(in, y, x), dtmm_pixel(out, y, x), count);
    }
  }
  dtmm_fill_halo(out, zero_point);
  return DTMM_OK;
}
