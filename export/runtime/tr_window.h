/* How convolutions walk: output pixels in raster order, TR_FAST_PIXELS at a time, each with the window that it looks through. */
#ifndef TR_WINDOW_H
#define TR_WINDOW_H

#include "tr_internal.h"

/* Output pixels of a group: all of a group's input is read before any of its output is written. */
#define TR_FAST_PIXELS 4U

/* The window over output pixel `pixel`, in raster order: height * width * in.channels bytes where they lie in `in` or, for
 * windows of more than one tap and those that hang over the edge, gathered into `buffer`. */
const int8_t *tr_window_at(const tr_conv *layer, const int8_t *in, uint32_t pixel, int8_t *buffer);

/* Requantizes a group: sums [channels][TR_FAST_PIXELS], which are moved, of channels `channel` and up; `out` is the first one's
 * first pixel. */
void tr_finish(const tr_conv *layer, uint32_t channel, uint32_t channels, int32_t *sums, uint32_t pixels, int8_t *out);

#endif
