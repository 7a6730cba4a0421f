/* CONV_2D and FULLY_CONNECTED: four output pixels for each pass over the weights, which are int8 or are unpacked, for as many
 * outputs at a time as there is room for.
 *
 * With the DSP instructions, inputs are widened once for all outputs, the even and the odd bytes of a word apart, as SXTB16
 * splits the weights: fifteen instructions then do sixteen multiply-accumulates. Without them, nothing is won by that.
 */
#include "tr_window.h"

#define CHANNELS 16U    /* whose sums are requantized at a time */
#define UNPACKED 4096U  /* bytes of weights that are unpacked at a time, */
#define LEAST 8U        /* or those of so many outputs: each time, all windows are gathered */

#if defined(__ARM_FEATURE_DSP) && defined(__thumb2__) && defined(__OPTIMIZE__)
/* Four inputs of one pixel, as 16-bit lanes: the first and third, the second and fourth. */
typedef struct {
    uint32_t even, odd;
} tr_lanes;

TR_INLINE tr_lanes widen(uint32_t word)
{
    tr_lanes lanes;
    __asm__("sxtb16 %0, %1" : "=r"(lanes.even) : "r"(word));
    __asm__("sxtb16 %0, %1, ror #8" : "=r"(lanes.odd) : "r"(word));
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

/* The windows of a group: widened, by way of the bytes after them. */
typedef struct {
    tr_lanes *lanes;
} tr_group;

TR_INLINE void gather(const tr_conv *layer, const int8_t *in, uint32_t pixel, uint32_t pixels, uint32_t taps, void *scratch,
                      tr_group *group)
{
    int8_t *buffer = (int8_t *)scratch + (taps + 3U) / 4U * TR_FAST_PIXELS * sizeof *group->lanes;
    group->lanes = scratch;
    for (uint32_t i = 0; i < TR_FAST_PIXELS; i++) {
        widen_window(tr_window_at(layer, in, pixel + (i < pixels ? i : 0U), buffer), taps, group->lanes + i);
    }
}

/* The sums of a group for one output. Weights are read in words. */
static void multiply(const int8_t *weights, uint32_t taps, const tr_group *group, int32_t *sums)
{
    const int8_t *const end = weights + ((taps + 3U) & ~3U);
    const tr_lanes *lanes = group->lanes;
    int32_t a = 0, b = 0, c = 0, d = 0;
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
    sums[0] = a;
    sums[1] = b;
    sums[2] = c;
    sums[3] = d;
}
#else
/* The windows of a group, one after the other: copies, as outputs may take the place of inputs before all are computed. */
typedef struct {
    const int8_t *windows;
} tr_group;

static void gather(const tr_conv *layer, const int8_t *in, uint32_t pixel, uint32_t pixels, uint32_t taps, void *scratch,
                   tr_group *group)
{
    int8_t *next = scratch;
    group->windows = next;
    for (uint32_t i = 0; i < TR_FAST_PIXELS; i++, next += taps) {
        const int8_t *window = tr_window_at(layer, in, pixel + (i < pixels ? i : 0U), next);
        for (uint32_t tap = 0; tap < taps; tap++) {
            next[tap] = window[tap];
        }
    }
}

/* The sums of a group for one output: not inlined, because at -Os what is in the loop would be spilled. */
TR_NOINLINE static void multiply(const int8_t *weights, uint32_t taps, const tr_group *group, int32_t *sums)
{
    const int8_t *first = group->windows, *second = first + taps, *third = second + taps, *fourth = third + taps;
    int32_t a = 0, b = 0, c = 0, d = 0;
    for (const int8_t *end = weights + taps; weights != end;) {
        const int32_t weight = *weights++;
        a += weight * *first++;
        b += weight * *second++;
        c += weight * *third++;
        d += weight * *fourth++;
    }
    sums[0] = a;
    sums[1] = b;
    sums[2] = c;
    sums[3] = d;
}
#endif

/* Outputs `first` to `first + outputs - 1`; their weights begin at `all`. Inlined: for all outputs, a simpler loop. */
TR_INLINE void convolve(const tr_conv *layer, const int8_t *in, int8_t *out, void *scratch, const int8_t *all, uint32_t first,
                        uint32_t outputs)
{
    const tr_window *shape = &layer->window;
    const uint32_t channels = shape->out.channels;
    const uint32_t total = (uint32_t)shape->out.height * shape->out.width;
    const uint32_t taps = (uint32_t)shape->height * shape->width * shape->in.channels;
    tr_group group;
    int32_t sums[CHANNELS * TR_FAST_PIXELS];

    for (uint32_t pixel = 0; pixel < total; pixel += TR_FAST_PIXELS) {
        const uint32_t pixels = total - pixel < TR_FAST_PIXELS ? total - pixel : TR_FAST_PIXELS;
        const int8_t *weights = all;
        gather(layer, in, pixel, pixels, taps, scratch, &group);
        for (uint32_t channel = first; channel < first + outputs; channel += CHANNELS) {
            const uint32_t left = first + outputs - channel;
            const uint32_t count = left < CHANNELS ? left : CHANNELS;
            for (uint32_t i = 0; i < count; i++) {
                multiply(weights, taps, &group, sums + i * TR_FAST_PIXELS);
                weights += taps;
            }
            tr_finish(layer, channel, count, sums, pixels, out + pixel * channels + channel);
        }
    }
}

void tr_fast_conv(const tr_conv *layer, const int8_t *in, int8_t *out, void *scratch)
{
    convolve(layer, in, out, scratch, (const int8_t *)layer->weights, 0, layer->window.out.channels);
}

void tr_fast_conv_packed(const tr_conv *layer, const int8_t *in, int8_t *out, void *scratch)
{
    const tr_window *shape = &layer->window;
    const uint32_t channels = shape->out.channels;
    const uint32_t taps = (uint32_t)shape->height * shape->width * shape->in.channels;
    const uint32_t most = UNPACKED / taps > LEAST ? UNPACKED / taps : LEAST;
    const uint32_t tiles = (channels + most - 1U) / most, tile = (channels + tiles - 1U) / tiles;
    int8_t *buffer = (int8_t *)scratch + (taps + 3U) / 4U * 4U * (2U * TR_FAST_PIXELS + 1U); /* behind the windows */
    for (uint32_t channel = 0; channel < channels; channel += tile) {
        const uint32_t outputs = channels - channel < tile ? channels - channel : tile;
        const int8_t *weights = layer->unpack(layer->weights, channel * taps, outputs * taps, buffer);
        convolve(layer, in, out, scratch, weights, channel, outputs);
    }
}
