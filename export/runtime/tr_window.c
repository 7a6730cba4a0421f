/* Windows of convolutions, gathered a run of taps at a time. */
#include "tr_window.h"

/* newlib-nano's memcpy takes five instructions a byte. */
static int8_t *copy(int8_t *to, const int8_t *from, uint32_t count)
{
#ifndef __OPTIMIZE_SIZE__
    for (; count >= 16U; count -= 16U) {
        memcpy(to, from, 4U);
        memcpy(to + 4, from + 4, 4U);
        memcpy(to + 8, from + 8, 4U);
        memcpy(to + 12, from + 12, 4U);
        to += 16;
        from += 16;
    }
#endif
    for (; count >= 4U; count -= 4U) {
        memcpy(to, from, 4U);
        to += 4;
        from += 4;
    }
    while (count-- != 0U) {
        *to++ = *from++;
    }
    return to;
}

static int8_t *fill(int8_t *to, int8_t value, uint32_t count)
{
    while (count-- != 0U) {
        *to++ = value;
    }
    return to;
}

const int8_t *tr_window_at(const tr_conv *layer, const int8_t *in, uint32_t pixel, int8_t *buffer)
{
    const tr_window *shape = &layer->window;
    const int32_t top = (int32_t)(pixel / shape->out.width * shape->stride_h) - shape->pad_top;
    const int32_t left = (int32_t)(pixel % shape->out.width * shape->stride_w) - shape->pad_left;
    const uint32_t channels = shape->in.channels;
    /* Taps of a row that lie side by side in the input are one run. */
    const uint32_t run = shape->dilation_w == 1U ? shape->width : 1U;
    int8_t *next = buffer;
    for (uint32_t i = 0; i < shape->height; i++) {
        const int32_t row = top + (int32_t)(i * shape->dilation_h);
        for (uint32_t j = 0; j < shape->width; j += run) {
            const int32_t column = left + (int32_t)(j * shape->dilation_w);
            const int32_t end = column + (int32_t)run;
            const int32_t first = column < 0 ? 0 : column;
            const int32_t last = end > shape->in.width ? shape->in.width : end;
            if ((uint32_t)row >= shape->in.height || first >= last) {
                next = fill(next, layer->in_zero, run * channels);
                continue;
            }
            const int8_t *from = in + ((uint32_t)row * shape->in.width + (uint32_t)first) * channels;
            if (shape->height * shape->width == 1) {
                return from;
            }
            next = fill(next, layer->in_zero, (uint32_t)(first - column) * channels);
            next = copy(next, from, (uint32_t)(last - first) * channels);
            next = fill(next, layer->in_zero, (uint32_t)(end - last) * channels);
        }
    }
    return buffer;
}

void tr_finish(const tr_conv *layer, uint32_t channel, uint32_t channels, int32_t *sums, uint32_t pixels, int8_t *out)
{
    const tr_requant *requant = &layer->requant;
    const uint32_t stride = layer->window.out.channels;
    if (pixels != TR_FAST_PIXELS) {
        for (uint32_t i = 0; i < channels * pixels; i++) {
            sums[i] = sums[i / pixels * TR_FAST_PIXELS + i % pixels];
        }
    }
    requant->apply(requant, channel, channels, sums, pixels, out, stride);
}
