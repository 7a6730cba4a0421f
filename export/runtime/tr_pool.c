/* AVERAGE_POOL_2D, MAX_POOL_2D and MEAN. Windows are cut at the edges: what lies beyond does not count. */
#include "tr_internal.h"

typedef struct {
    uint32_t top, bottom, left, right;
} cut;

static void clip(int32_t start, uint32_t size, uint32_t limit, uint32_t *first, uint32_t *end)
{
    const int32_t stop = start + (int32_t)size;
    *first = start < 0 ? 0U : (uint32_t)start;
    *end = stop > (int32_t)limit ? limit : (uint32_t)stop;
}

static cut cut_window(const tr_window *shape, uint32_t y, uint32_t x)
{
    cut inside;
    clip((int32_t)(y * shape->stride_h) - shape->pad_top, shape->height, shape->in.height, &inside.top, &inside.bottom);
    clip((int32_t)(x * shape->stride_w) - shape->pad_left, shape->width, shape->in.width, &inside.left, &inside.right);
    return inside;
}

/* The quotient rounded to nearest, halves away from zero. */
static int32_t divide(int32_t sum, int32_t count)
{
    return (sum + (sum > 0 ? count / 2 : -(count / 2))) / count;
}

void tr_average_pool(const tr_pool *layer, const int8_t *in, int8_t *out)
{
    const tr_window *shape = &layer->window;
    const uint32_t channels = shape->in.channels;
    for (uint32_t y = 0; y < shape->out.height; y++) {
        for (uint32_t x = 0; x < shape->out.width; x++) {
            const cut inside = cut_window(shape, y, x);
            const int32_t count = (int32_t)((inside.bottom - inside.top) * (inside.right - inside.left));
            for (uint32_t channel = 0; channel < channels; channel++) {
                int32_t sum = 0;
                for (uint32_t row = inside.top; row < inside.bottom; row++) {
                    for (uint32_t column = inside.left; column < inside.right; column++) {
                        sum += in[(row * shape->in.width + column) * channels + channel];
                    }
                }
                *out++ = tr_clamp(divide(sum, count), layer->low, layer->high);
            }
        }
    }
}

void tr_max_pool(const tr_pool *layer, const int8_t *in, int8_t *out)
{
    const tr_window *shape = &layer->window;
    const uint32_t channels = shape->in.channels;
    for (uint32_t y = 0; y < shape->out.height; y++) {
        for (uint32_t x = 0; x < shape->out.width; x++) {
            const cut inside = cut_window(shape, y, x);
            for (uint32_t channel = 0; channel < channels; channel++) {
                int32_t largest = INT8_MIN;
                for (uint32_t row = inside.top; row < inside.bottom; row++) {
                    for (uint32_t column = inside.left; column < inside.right; column++) {
                        const int32_t value = in[(row * shape->in.width + column) * channels + channel];
                        largest = value > largest ? value : largest;
                    }
                }
                *out++ = tr_clamp(largest, layer->low, layer->high);
            }
        }
    }
}

void tr_mean(const tr_mean_layer *layer, const int8_t *in, int8_t *out)
{
    for (uint32_t outer = 0; outer < layer->outer; outer++) {
        for (uint32_t inner = 0; inner < layer->inner; inner++) {
            int32_t sum = layer->bias;
            for (uint32_t i = 0; i < layer->count; i++) {
                sum += in[(outer * layer->count + i) * layer->inner + inner];
            }
            *out++ = tr_clamp(tr_multiply(sum, layer->multiplier, layer->shift) + layer->zero, INT8_MIN, INT8_MAX);
        }
    }
}
