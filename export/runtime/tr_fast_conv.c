/* CONV_2D and FULLY_CONNECTED with int8 weights: four output pixels for each pass over the weights.
 *
 * Inputs are widened once for all outputs, the even and the odd bytes of a word apart, as SXTB16 splits the weights. Fifteen
 * instructions then do sixteen multiply-accumulates.
 */
#include "tr_window.h"

#define CHANNELS 16U /* whose sums are requantized at a time */

/* Four inputs of one pixel, as 16-bit lanes: the first and third, the second and fourth. */
typedef struct {
    uint32_t even, odd;
} tr_lanes;

TR_INLINE tr_lanes widen(uint32_t word)
{
    tr_lanes lanes;
#ifdef __ARM_FEATURE_DSP
    __asm__("sxtb16 %0, %1" : "=r"(lanes.even) : "r"(word));
    __asm__("sxtb16 %0, %1, ror #8" : "=r"(lanes.odd) : "r"(word));
#else
    /* Bit 7 of a byte, 65280 times over, is its sign extension. */
    lanes.even = (word & 0x00FF00FFU) | (word >> 7 & 0x00010001U) * 0xFF00U;
    lanes.odd = (word >> 8 & 0x00FF00FFU) | (word >> 15 & 0x00010001U) * 0xFF00U;
#endif
    return lanes;
}

/* Puts `taps` bytes among those of the other pixels of a group; zeros fill up the last word. */
static void widen_window(const int8_t *window, uint32_t taps, tr_lanes *lanes)
{
    uint32_t word = 0;
    for (; taps >= 4U; taps -= 4U) {
        memcpy(&word, window, 4U);
        *lanes = widen(word);
        lanes += TR_FAST_PIXELS;
        window += 4;
    }
    if (taps != 0U) {
        word = 0;
        while (taps-- != 0U) {
            word = word << 8 | (uint8_t)window[taps];
        }
        *lanes = widen(word);
    }
}

/* Four products, without instructions for it. */
TR_INLINE int32_t dot(int32_t sum, const int8_t *weights, tr_lanes inputs)
{
    sum += weights[0] * (int16_t)(inputs.even & 0xFFFFU);
    sum += weights[1] * (int16_t)(inputs.odd & 0xFFFFU);
    sum += weights[2] * (int16_t)(inputs.even >> 16);
    return sum + weights[3] * (int16_t)(inputs.odd >> 16);
}

/* The sums of a group for one output, whose weights are read in words up to `end`. */
static void multiply(const int8_t *weights, const int8_t *end, const tr_lanes *lanes, int32_t *sums)
{
    int32_t a = 0, b = 0, c = 0, d = 0;
#if defined(__ARM_FEATURE_DSP) && defined(__thumb2__) && defined(__OPTIMIZE__)
    __asm__(
        "1:\n"
        "ldr    r9, [%[weights]], #4\n"
        "ldm    %[lanes]!, {r4, r5, r6, r8}\n"
        "sxtb16 lr, r9, ror #8\n"
        "sxtb16 r9, r9\n"
        "smlad  %[a], r4, r9, %[a]\n"
        "smlad  %[b], r6, r9, %[b]\n"
        "smlad  %[a], r5, lr, %[a]\n"
        "smlad  %[b], r8, lr, %[b]\n"
        "ldm    %[lanes]!, {r4, r5, r6, r8}\n"
        "smlad  %[c], r4, r9, %[c]\n"
        "smlad  %[d], r6, r9, %[d]\n"
        "smlad  %[c], r5, lr, %[c]\n"
        "smlad  %[d], r8, lr, %[d]\n"
        "cmp    %[weights], %[end]\n"
        "bne    1b\n"
        : [weights] "+r"(weights), [lanes] "+r"(lanes), [a] "+r"(a), [b] "+r"(b), [c] "+r"(c), [d] "+r"(d)
        : [end] "r"(end)
        : "r4", "r5", "r6", "r8", "r9", "lr", "cc", "memory");
#else
    for (; weights != end; weights += 4, lanes += TR_FAST_PIXELS) {
        a = dot(a, weights, lanes[0]);
        b = dot(b, weights, lanes[1]);
        c = dot(c, weights, lanes[2]);
        d = dot(d, weights, lanes[3]);
    }
#endif
    sums[0] = a;
    sums[1] = b;
    sums[2] = c;
    sums[3] = d;
}

void tr_fast_conv(const tr_conv *layer, const int8_t *in, int8_t *out, void *scratch)
{
    const tr_window *shape = &layer->window;
    const uint32_t channels = shape->out.channels;
    const uint32_t total = (uint32_t)shape->out.height * shape->out.width;
    const uint32_t taps = (uint32_t)shape->height * shape->width * shape->in.channels;
    const uint32_t padded = (taps + 3U) & ~3U;
    tr_lanes *lanes = scratch;
    int8_t *buffer = (int8_t *)(lanes + padded / 4U * TR_FAST_PIXELS);
    int32_t sums[CHANNELS * TR_FAST_PIXELS];

    for (uint32_t pixel = 0; pixel < total; pixel += TR_FAST_PIXELS) {
        const uint32_t pixels = total - pixel < TR_FAST_PIXELS ? total - pixel : TR_FAST_PIXELS;
        const int8_t *weights = (const int8_t *)layer->weights;
        for (uint32_t i = 0; i < TR_FAST_PIXELS; i++) {
            widen_window(tr_window_at(layer, in, pixel + (i < pixels ? i : 0U), buffer), taps, lanes + i);
        }
        for (uint32_t channel = 0; channel < channels; channel += CHANNELS) {
            const uint32_t count = channels - channel < CHANNELS ? channels - channel : CHANNELS;
            for (uint32_t i = 0; i < count; i++) {
                multiply(weights, weights + padded, lanes, sums + i * TR_FAST_PIXELS);
                weights += taps;
            }
            tr_finish(layer, channel, count, sums, pixels, out + pixel * channels + channel);
        }
    }
}
