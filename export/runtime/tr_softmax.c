/* SOFTMAX in TensorFlow Lite's fixed point: Q0.31 exponentials from a table, and one reciprocal a row. */
#include "tr_internal.h"

static uint32_t leading_zeros(uint32_t value)
{
    uint32_t count = 0;
    while (count < 32U && (value & UINT32_C(0x80000000)) == 0U) {
        value <<= 1;
        count++;
    }
    return count;
}

static int32_t saturated_left(int32_t value, uint32_t bits)
{
    const int64_t shifted = (int64_t)value * (INT64_C(1) << bits);
    return (int32_t)(shifted > INT32_MAX ? INT32_MAX : shifted < INT32_MIN ? INT32_MIN : shifted);
}

/* 1 / (1 + x) in Q0.31 for x in [0, 1): three steps of Newton's method in Q2.29 on half the denominator. */
static int32_t reciprocal(int32_t x)
{
    const int32_t half = (int32_t)(((int64_t)x + INT32_MAX + 1) / 2);
    int32_t guess = 1515870810 + tr_high_product(half, -1010580540); /* 48 / 17 - 32 / 17 * half */
    for (int step = 0; step < 3; step++) {
        const int32_t error = (1 << 29) - tr_high_product(half, guess);
        guess += saturated_left(tr_high_product(guess, error), 2U);
    }
    return saturated_left(guess, 1U);
}

static int32_t exponential(const tr_softmax_layer *layer, int32_t distance)
{
    return distance < layer->reach ? layer->exponentials[distance] : 0;
}

void tr_softmax(const tr_softmax_layer *layer, const int8_t *in, int8_t *out)
{
    for (uint32_t row = 0; row < layer->rows; row++) {
        int32_t largest = INT8_MIN;
        for (uint32_t i = 0; i < layer->width; i++) {
            largest = in[i] > largest ? in[i] : largest;
        }
        int32_t sum = 0; /* Q12.19 */
        for (uint32_t i = 0; i < layer->width; i++) {
            sum += tr_divide_by_power(exponential(layer, largest - in[i]), 12U);
        }
        const uint32_t headroom = leading_zeros((uint32_t)sum);
        const int32_t scale = reciprocal((int32_t)(((uint32_t)sum << headroom) - UINT32_C(0x80000000)));
        const uint32_t exponent = 12U - headroom + 31U - 8U;
        for (uint32_t i = 0; i < layer->width; i++) {
            const int32_t share = tr_high_product(scale, exponential(layer, largest - in[i]));
            out[i] = tr_clamp(tr_divide_by_power(share, exponent) + INT8_MIN, INT8_MIN, INT8_MAX);
        }
        in += layer->width;
        out += layer->width;
    }
}
