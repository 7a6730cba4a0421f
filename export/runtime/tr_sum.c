/* Convolution and residual addition in one: the last step of each output adds it to what lies in its place. */
#include <stddef.h>

#include "tr_internal.h"

#define BLOCK 16U /* outputs at a time */

void tr_requant_sum(const tr_requant *requant, uint32_t first, uint32_t channels, const int32_t *sums, uint32_t pixels,
                    int8_t *out, uint32_t stride)
{
    const tr_conv_sum *layer =
        (const tr_conv_sum *)(const void *)((const uint8_t *)requant - offsetof(tr_conv_sum, conv.requant));
    int8_t values[BLOCK];
    for (const uint32_t end = first + channels; first != end; first++) {
        int8_t *place = out++;
        for (uint32_t left = pixels, count; left != 0U; left -= count) {
            count = left < BLOCK ? left : BLOCK;
            layer->apply(requant, first, 1U, sums, count, values, 1U);
            sums += count;
            for (uint32_t i = 0; i < count; i++, place += stride) {
                const int32_t sum = values[i] * layer->multiplier + *place * layer->there_multiplier + layer->offset;
                *place = tr_clamp(sum >> layer->shift, layer->low, layer->high);
            }
        }
    }
}
