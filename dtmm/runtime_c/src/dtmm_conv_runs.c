#include "dtmm_run.h"

/* The positions of a kernel are looked at in groups: whole rows, or single positions where a row has
 * too many.
 *   joins    the positions of a group that continue the run of the one before, if both are kept
 *   seconds  of a convolution with a stride, those that do so only together with the next position
 *   offsets  of the positions of a group from its first, as entries have them */
typedef struct {
  int32_t positions, group, kernel_w, row_step, column_step;
  uint32_t joins, seconds;
  uint16_t offsets[DTMM_RUN_GROUP];
} window;

static void describe_window(const dtmm_conv_params *conv, const dtmm_tensor *in, window *w) {
  w->positions = conv->kernel_h * conv->kernel_w;
  w->kernel_w = conv->kernel_w;
  w->row_step = conv->dilation_h * in->row_stride / DTMM_RUN_UNIT;
  w->column_step = conv->dilation_w * in->pixel_stride / DTMM_RUN_UNIT;
  w->group = 1;
  if (conv->kernel_w <= DTMM_RUN_GROUP) w->group = DTMM_RUN_GROUP / conv->kernel_w * conv->kernel_w;
  w->group = dtmm_min(w->group, w->positions);
  w->joins = w->seconds = 0;
  DTMM_NO_UNROLL
  for (int32_t i = 0, x = 0, row = 0; i < w->group; ++i) {
    w->offsets[i] = (uint16_t)(row + x * w->column_step);
    if (dtmm_runs_join(conv)) {
      const uint32_t bit = 1u << i;
      if (x % DTMM_RUN_LONGEST != 0) w->joins |= bit;
      if (x % DTMM_RUN_LONGEST == 1 && conv->stride_w != 1) w->seconds |= bit;
    }
    if (++x == w->kernel_w) {
      x = 0;
      row += w->row_step;
    }
  }
}

/* `count` <= DTMM_RUN_GROUP bits of a mask from bit `first` on. */
DTMM_INLINE uint32_t mask_bits(const uint8_t *mask, int32_t first, int32_t count) {
  const uint8_t *byte = mask + (first >> 3);
  uint32_t bits = *byte;
  DTMM_NO_UNROLL
  for (int32_t have = 8; have < (first & 7) + count; have += 8) bits |= (uint32_t)*++byte << have;
  return bits >> (first & 7) & ((1u << count) - 1);
}

/* The positions of a group that continue the run of the one before. */
DTMM_INLINE uint32_t continued(const window *w, uint32_t kept) {
  const uint32_t continues = kept & kept << 1 & w->joins;
  if (w->seconds == 0) return continues;
  const uint32_t both = continues & continues >> 1 & w->seconds;
  return both | both << 1;
}

/* What is kept of the group that begins at a position; `mask` NULL keeps all. */
DTMM_INLINE uint32_t kept_of_group(const window *w, const uint8_t *mask, int32_t at) {
  const int32_t count = dtmm_min(w->group, w->positions - at);
  return mask == NULL ? (1u << count) - 1 : mask_bits(mask, at, count);
}

/* Lists the runs of a group, whose offset is `base`; `first` is added to the kind of the first one.
 * Returns their end. */
DTMM_INLINE uint16_t *list_group(const window *w, uint32_t kept, uint32_t base, uint32_t first,
                                 uint16_t *to) {
  /* by whether the two positions behind a run's first continue it */
  static const uint8_t kinds[8] = {1, 2, 1, 3, DTMM_RUN_FIRST | 1, DTMM_RUN_FIRST | 2,
                                   DTMM_RUN_FIRST | 1, DTMM_RUN_FIRST | 3};
  const uint32_t continues = continued(w, kept), behind = continues >> 1;
  DTMM_NO_UNROLL
  for (uint32_t starts = kept & ~continues; starts != 0; starts &= starts - 1) {
    const int32_t start = __builtin_ctz(starts);
    *to++ = (uint16_t)(w->offsets[start] + base + kinds[(behind >> start & 3u) | first]);
    first = 0;
  }
  return to;
}

/* Lists the runs of a filter, at most one for each position; `mask` NULL keeps all. */
DTMM_INLINE uint16_t *list_filter(const window *w, const uint8_t *mask, uint16_t *to) {
  const uint16_t *begin = to;
  for (int32_t at = 0; at < w->positions; at += w->group) {
    const int32_t base = at / w->kernel_w * w->row_step + at % w->kernel_w * w->column_step;
    const uint32_t first = to == begin ? DTMM_RUN_FIRST : 0;
    to = list_group(w, kept_of_group(w, mask, at), (uint32_t)base, first, to);
  }
  if (to == begin) *to++ = DTMM_RUN_FIRST;
  return to;
}

/* The same for `filters` in the usual case, one group and two bytes of mask. */
DTMM_NO_INLINE static uint16_t *list_small_filters(const window *w, const uint8_t *mask,
                                                   int32_t filters, uint16_t *to) {
  DTMM_NO_UNROLL
  for (; filters > 0; --filters, mask += 2) {
    const uint32_t kept = mask[0] | (uint32_t)mask[1] << 8;
    *to = DTMM_RUN_FIRST; /* of an empty one */
    to += kept == 0;
    to = list_group(w, kept, 0, DTMM_RUN_FIRST, to);
  }
  return to;
}

/* How many entries that makes. */
DTMM_NO_INLINE static int32_t count_entries(const window *w, const uint8_t *mask) {
  int32_t count = 0;
  DTMM_NO_UNROLL
  for (int32_t at = 0; at < w->positions; at += w->group) {
    const uint32_t kept = kept_of_group(w, mask, at);
    count += __builtin_popcount(kept & ~continued(w, kept));
  }
  return dtmm_max(count, 1);
}

static int32_t listed_filters(const dtmm_conv_weights *weights) {
  const int32_t filters = weights->out_channels;
  return weights->index != NULL ? filters : dtmm_min(filters, DTMM_RUN_DENSE_FILTERS);
}

size_t dtmm_conv_list_runs(const dtmm_conv_params *conv, const dtmm_conv_weights *weights,
                           const dtmm_tensor *in, uint16_t *stream, size_t entries) {
  window w;
  describe_window(conv, in, &w);
  const int32_t mask_bytes = (w.positions + 7) / 8;
  const int small = weights->index != NULL && mask_bytes == 2 && w.group == w.positions;
  const uint16_t *end = stream + entries;
  const uint8_t *mask = weights->index;
  uint16_t *to = stream;
  for (int32_t left = listed_filters(weights), now; left > 0; left -= now) {
    const int32_t room = (int32_t)(end - to - 1) / w.positions; /* filters that fit, come what may */
    now = small ? dtmm_max(dtmm_min(room, left), 1) : 1;
    if (room < 1 && end - to <= count_entries(&w, mask)) return 0;
    to = small ? list_small_filters(&w, mask, now, to) : list_filter(&w, mask, to);
    if (mask != NULL) mask += now * mask_bytes;
  }
  if (to == end) return 0;
  *to++ = DTMM_RUN_STOP;
  return (size_t)(to - stream);
}

static void fill_job(const dtmm_conv_params *conv, const dtmm_conv_weights *weights,
                     const dtmm_tensor *in, const dtmm_tensor *out, dtmm_run_job *job) {
  const dtmm_conv_kernel *kernel = weights->kernel;
  job->kernel = kernel;
  job->weights = weights->weights;
  job->params = weights->params;
  job->in_step = kernel->columns * conv->stride_w * in->pixel_stride;
  job->out_step = kernel->columns * out->pixel_stride;
  job->in_row = conv->stride_h * in->row_stride;
  dtmm_run_set_output(job, &conv->output);
  for (int32_t i = 0; i < DTMM_RUN_PIXELS; ++i) {
    const int32_t pixel = i / 2 + (i & 1) * (DTMM_RUN_PIXELS / 2);
    const int32_t y = pixel / kernel->columns, x = pixel % kernel->columns;
    job->offsets[i] = (uint16_t)(y * out->row_stride + x * out->pixel_stride);
  }
}

/* Tiles beside each other, `tiles` of them, the first at output pixel (y, x). */
static void run_tiles(const dtmm_conv_params *conv, const dtmm_tensor *in, const dtmm_tensor *out,
                      int32_t y, int32_t x, int32_t tiles, dtmm_run_job *job) {
  job->in = dtmm_pixel(in, y * conv->stride_h - conv->pad_top, x * conv->stride_w - conv->pad_left);
  job->out = dtmm_pixel(out, y, x);
  job->tiles = tiles;
  job->kernel->run(job);
}

dtmm_status dtmm_conv_runs(const dtmm_conv_params *conv, const dtmm_conv_weights *weights,
                           const dtmm_tensor *in, const dtmm_tensor *out, uint16_t *stream,
                           size_t entries) {
  if (!dtmm_conv_kernel_fits(conv, weights, in, out)) return DTMM_UNSUPPORTED;
  dtmm_run_job job;
  fill_job(conv, weights, in, out, &job);
  job.rounds = 1;
  job.stream = job.again = weights->stream;
  if (weights->stream == NULL) {
    const size_t count = dtmm_conv_list_runs(conv, weights, in, stream, entries);
    if (count == 0) return DTMM_NO_SPACE;
    /* The first round does without the filters that the rounds have too many. */
    const int32_t filters = weights->out_channels, listed = listed_filters(weights);
    job.rounds = (filters + listed - 1) / listed;
    job.again = stream;
    job.stream = stream + ((int32_t)count - 1) / listed * (job.rounds * listed - filters);
  }
  const int32_t rows = weights->kernel->rows, columns = weights->kernel->columns;
  /* Where tiles do not divide the output, the last ones begin earlier and compute pixels twice. */
  for (int32_t top = 0; top < out->height; top += rows) {
    const int32_t y = dtmm_min(top, out->height - rows);
    run_tiles(conv, in, out, y, 0, out->width / columns, &job);
    if (out->width % columns != 0) run_tiles(conv, in, out, y, out->width - columns, 1, &job);
  }
  dtmm_fill_halo(out, conv->output.zero_point);
  return DTMM_OK;
}
