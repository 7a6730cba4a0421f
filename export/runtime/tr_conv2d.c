/* CONV_2D of any shape, and FULLY_CONNECTED: the windows of a few pixels are gathered, then meet each channel's weights. */
#include "tr_internal.h"

/* Copies the window over output pixel (y, x), zero point where it hangs over the edge. */
static void gather(const tr_conv *layer, const int8_t *in, uint32_t y, uint32_t x, int8_t *window)
{
    const tr_window *shape = &layer->window;
    const uint32_t channels = shape->in.channels;
    for (uint32_t i = 0; i < shape->height; i++) {
        const int32_t row = (int32_t)(y * shape->stride_h + i * shape->dilation_h) - shape->pad_top;
        for (uint32_t j = 0; j < shape->width; j++) {
            const int32_t column = (int32_t)(x * shape->stride_w + j * shape->dilation_w) - shape->pad_left;
            if (row >= 0 && row < shape->in.height && column >= 0 && column < shape->in.width) {
                memcpy(window, in + ((uint32_t)row * shape->in.width + (uint32_t)column) * channels, channels);
            } else {
                memset(window, layer->in_zero, channels);
            }
            window += channels;
        }
    }
}

/* Where channel `channel` of `pixels` windows of `taps` bytes meets its weights. With groups, only a part of each tap counts. */
static void multiply(const tr_conv *layer, uint32_t channel, const int8_t *windows, uint32_t taps, uint32_t pixels,
                     int8_t *buffer, int32_t *sums)
{
    const uint32_t channels = layer->window.in.channels;
    const uint32_t depth = channels / layer->groups;
    const uint32_t count = taps / layer->groups;
    const uint32_t first = channel / (layer->window.out.channels / layer->groups) * depth;
    const int8_t *weights = layer->unpack(layer->weights, channel * count, count, buffer);
    for (uint32_t pixel = 0; pixel < pixels; pixel++) {
        const int8_t *values = windows + pixel * taps + first;
        int32_t sum = 0;
        for (uint32_t tap = 0; tap < count; tap += depth) {
            for (uint32_t i = 0; i < depth; i++) {
                sum += values[i] * weights[tap + i];
            }
            values += channels;
        }
        sums[pixel] = sum;
    }
}

void tr_conv2d(const tr_conv *layer, const int8_t *in, int8_t *out, void *scratch)
{
    const tr_window *shape = &layer->window;
    const uint32_t channels = shape->out.channels;
    const uint32_t taps = (uint32_t)shape->height * shape->width * shape->in.channels;
    const uint32_t total = (uint32_t)shape->out.height * shape->out.width;
    int8_t *windows = scratch;
    int32_t sums[TR_BLOCK];
    for (uint32_t done = 0; done < total;) {
        const uint32_t pixels = total - done < TR_BLOCK ? total - done : TR_BLOCK;
        for (uint32_t pixel = 0; pixel < pixels; pixel++) {
            gather(layer, in, (done + pixel) / shape->out.width, (done + pixel) % shape->out.width, windows + pixel * taps);
        }
        for (uint32_t channel = 0; channel < channels; channel++) {
            multiply(layer, channel, windows, taps, pixels, windows + TR_BLOCK * taps, sums);
            layer->requant.apply(&layer->requant, channel, 1U, sums, pixels, out + done * channels + channel, channels);
        }
        done += pixels;
    }
}
