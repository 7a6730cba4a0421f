/* What is computed of two values, and everything that maps one value to one value. */
#include "tr_internal.h"

/* Element i of the output, j of a and k of b: the smaller begins anew where it ends. */
#define FOR_EACH(layer, i, j, k)                                        \
    for (uint32_t i = 0, j = 0, k = 0; i < (layer)->count; i++,         \
                  j = j + 1U == (layer)->a_count ? 0U : j + 1U,         \
                  k = k + 1U == (layer)->b_count ? 0U : k + 1U)

TR_INLINE void add(const tr_binary *layer, const int8_t *a, const int8_t *b, int8_t *out, int32_t sign)
{
    FOR_EACH(layer, i, j, k)
    {
        const int32_t left = (a[j] + layer->a_offset) * (1 << 20);
        const int32_t right = (b[k] + layer->b_offset) * (1 << 20);
        const int32_t sum = tr_multiply(left, layer->a_multiplier, layer->a_shift)
                            + sign * tr_multiply(right, layer->b_multiplier, layer->b_shift);
        out[i] = tr_clamp(tr_multiply(sum, layer->multiplier, layer->shift) + layer->zero, layer->low, layer->high);
    }
}

void tr_add(const tr_binary *layer, const int8_t *a, const int8_t *b, int8_t *out)
{
    add(layer, a, b, out, 1);
}

void tr_sub(const tr_binary *layer, const int8_t *a, const int8_t *b, int8_t *out)
{
    add(layer, a, b, out, -1);
}

void tr_add_plain(const tr_plain_add *layer, const int8_t *a, const int8_t *b, int8_t *out)
{
    FOR_EACH(layer, i, j, k)
    {
        const int32_t sum = a[j] * layer->a_multiplier + b[k] * layer->b_multiplier + layer->offset;
        out[i] = tr_clamp(sum >> layer->shift, layer->low, layer->high);
    }
}

void tr_mul(const tr_binary *layer, const int8_t *a, const int8_t *b, int8_t *out)
{
    FOR_EACH(layer, i, j, k)
    {
        const int32_t product = (a[j] + layer->a_offset) * (b[k] + layer->b_offset);
        out[i] = tr_clamp(tr_multiply(product, layer->multiplier, layer->shift) + layer->zero, layer->low, layer->high);
    }
}

void tr_prelu(const tr_binary *layer, const int8_t *a, const int8_t *b, int8_t *out)
{
    FOR_EACH(layer, i, j, k)
    {
        const int32_t value = a[j] + layer->a_offset;
        const int32_t scaled = value >= 0 ? tr_multiply(value, layer->a_multiplier, layer->a_shift)
                                          : tr_multiply(value * (b[k] + layer->b_offset), layer->multiplier, layer->shift);
        out[i] = tr_clamp(scaled + layer->zero, layer->low, layer->high);
    }
}

void tr_minimum(const tr_binary *layer, const int8_t *a, const int8_t *b, int8_t *out)
{
    FOR_EACH(layer, i, j, k)
    {
        out[i] = a[j] < b[k] ? a[j] : b[k];
    }
}

void tr_maximum(const tr_binary *layer, const int8_t *a, const int8_t *b, int8_t *out)
{
    FOR_EACH(layer, i, j, k)
    {
        out[i] = a[j] > b[k] ? a[j] : b[k];
    }
}

void tr_lookup(const int8_t *table, uint32_t count, const int8_t *in, int8_t *out)
{
    for (uint32_t i = 0; i < count; i++) {
        out[i] = table[in[i] + 128];
    }
}
