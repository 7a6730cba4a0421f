/* Convolution and residual addition in one: the last step of each output adds it to what lies in its place. */
#include <stddef.h>

#include "tr_internal.h"

#define BLOCK 64U /* outputs at a time */

void tr_requant_sum(const tr_requant *requant, uint32_t first, uint32_t channels, const int32_t *sums, uint32_t pixels,
                    int8_t *out, uint32_t stride)
{
    const tr_conv_sum *layer =
        (const tr_conv_sum *)(const void *)((const uint8_t *)requant - offsetof(tr_conv_sum, conv.requant));
    const uint32_t most = pixels < BLOCK ? BLOCK / pixels : 1U; /* channels, of all pixels or of BLOCK */
    int8_t values[BLOCK];
    for (uint32_t count; channels != 0U; channels -= count, first += count, out += count) {
        int8_t *place = out;
        count = channels < most ? channels : most;
        for (uint32_t left = pixels, some; left != 0U; left -= some) {
            const int8_t *value = values;
            some = left < BLOCK ? left : BLOCK;
            layer->apply(requant, first, count, sums, some, values, count);
            sums += count * some;
            for (const int8_t *const end = values + count * some; value != end; place += stride - count) {
                for (const int8_t *const last = value + count; value != last; place++) {
                    const int32_t sum = *value++ * layer->multiplier + *place * layer->there_multiplier + layer->offset;
                    *place = tr_clamp(sum >> layer->shift, layer->low, layer->high);
                }
            }
        }
    }
}
