/* DEPTHWISE_CONV_2D of any shape: a channel's plane is copied out, so that the output may take its place; or is read where it
 * lies, where RAM is short. */
#include "tr_internal.h"

/* Values of a plane are `pitch` bytes apart. */
static int32_t sum_of_window(const tr_conv *layer, const int8_t *plane, uint32_t pitch, const int8_t *weights, uint32_t y,
                             uint32_t x)
{
    const tr_window *shape = &layer->window;
    int32_t sum = 0;
    for (uint32_t i = 0; i < shape->height; i++) {
        const int32_t row = (int32_t)(y * shape->stride_h + i * shape->dilation_h) - shape->pad_top;
        for (uint32_t j = 0; j < shape->width; j++) {
            const int32_t column = (int32_t)(x * shape->stride_w + j * shape->dilation_w) - shape->pad_left;
            const int inside = row >= 0 && row < shape->in.height && column >= 0 && column < shape->in.width;
            const uint32_t place = (uint32_t)row * shape->in.width + (uint32_t)column;
            sum += *weights++ * (inside ? plane[place * pitch] : layer->in_zero);
        }
    }
    return sum;
}

static void convolve(const tr_conv *layer, const int8_t *plane, uint32_t pitch, const int8_t *weights, uint32_t channel,
                     int8_t *out)
{
    const tr_window *shape = &layer->window;
    int8_t *pixel = out + channel;
    for (uint32_t y = 0; y < shape->out.height; y++) {
        for (uint32_t x = 0; x < shape->out.width; x++) {
            const int32_t sum = sum_of_window(layer, plane, pitch, weights, y, x);
            layer->requant.apply(&layer->requant, channel, 1U, &sum, 1U, pixel, shape->out.channels);
            pixel += shape->out.channels;
        }
    }
}

void tr_depthwise(const tr_conv *layer, const int8_t *in, int8_t *out, void *scratch)
{
    const tr_window *shape = &layer->window;
    const uint32_t channels = shape->out.channels;
    const uint32_t multiplier = channels / shape->in.channels;
    const uint32_t taps = (uint32_t)shape->height * shape->width;
    const uint32_t area = (uint32_t)shape->in.height * shape->in.width;
    int8_t *plane = scratch;
    for (uint32_t channel = 0; channel < channels; channel++) {
        const int8_t *weights = layer->unpack(layer->weights, channel * taps, taps, plane + area);
        if (channel % multiplier == 0U) {
            for (uint32_t i = 0; i < area; i++) {
                plane[i] = in[i * shape->in.channels + channel / multiplier];
            }
        }
        convolve(layer, plane, 1U, weights, channel, out);
    }
}

void tr_lean_depthwise(const tr_conv *layer, const int8_t *in, int8_t *out, void *scratch)
{
    const tr_window *shape = &layer->window;
    const uint32_t channels = shape->out.channels;
    const uint32_t multiplier = channels / shape->in.channels;
    const uint32_t taps = (uint32_t)shape->height * shape->width;
    for (uint32_t channel = 0; channel < channels; channel++) {
        const int8_t *weights = layer->unpack(layer->weights, channel * taps, taps, scratch);
        convolve(layer, in + channel / multiplier, shape->in.channels, weights, channel, out);
    }
}
