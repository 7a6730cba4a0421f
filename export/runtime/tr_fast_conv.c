/* CONV_2D and FULLY_CONNECTED: four output pixels for each pass over the weights.
 *
 * With the DSP instructions, inputs are widened once for all outputs, the even and the odd bytes of a word apart. Weights that the
 * generator laid out in lanes serve two outputs at once, as in tr_fast_dense.c: 27 instructions do 32 multiply-accumulates. Packed
 * weights are unpacked, for as many outputs at a time as there is room for, and widened by the word: fifteen instructions do
 * sixteen.
 */
#include "tr_window.h"

#define CHANNELS 16U    /* whose sums are requantized at a time; even */
#define UNPACKED 4096U  /* bytes of weights that are unpacked at a time, */
#define LEAST 8U        /* or those of so many outputs: each time, all windows are gathered */

/* The windows of a group, as `multiply` reads them. */
typedef struct {
    const void *windows;
    uint32_t taps;
} tr_group;

#if defined(__ARM_FEATURE_DSP) && defined(__thumb2__) && defined(__OPTIMIZE__)
/* Four inputs of each pixel of a group, as 16-bit lanes: the first and third, the second and fourth. */
typedef struct {
    uint32_t even[TR_FAST_PIXELS], odd[TR_FAST_PIXELS];
} tr_lanes;

/* Puts `taps` bytes of a pixel among those of the others; zeros fill up the last word. */
static void widen_window(const int8_t *window, uint32_t taps, tr_lanes *lanes, uint32_t pixel)
{
    const int8_t *const end = window + (taps & ~3U);
    uint32_t *place = lanes->even + pixel;
    if (window != end) {
        uint32_t word, odd;
        __asm__ volatile(
            "1:\n"
            "ldr    %[word], [%[window]], #4\n"
            "sxtb16 %[odd], %[word], ror #8\n"
            "sxtb16 %[word], %[word]\n"
            "str    %[word], [%[place]], #16\n"
            "str    %[odd], [%[place]], #16\n"
            "cmp    %[window], %[end]\n"
            "bne    1b\n"
            : [window] "+r"(window), [place] "+r"(place), [word] "=&r"(word), [odd] "=&r"(odd)
            : [end] "r"(end)
            : "cc", "memory");
    }
    if (taps % 4U != 0U) {
        uint32_t word = 0;
        for (taps %= 4U; taps-- != 0U;) {
            word = word << 8 | (uint8_t)window[taps];
        }
        __asm__("sxtb16 %0, %1" : "=r"(place[0]) : "r"(word));
        __asm__("sxtb16 %0, %1, ror #8" : "=r"(place[TR_FAST_PIXELS]) : "r"(word));
    }
}

/* Gathers a group by way of the bytes after it. */
static void gather(const tr_conv *layer, const int8_t *in, uint32_t pixel, uint32_t pixels, void *scratch, tr_group *group)
{
    int8_t *buffer = (int8_t *)scratch + (group->taps + 3U) / 4U * sizeof(tr_lanes);
    group->windows = scratch;
    for (uint32_t i = 0; i < TR_FAST_PIXELS; i++) {
        widen_window(tr_window_at(layer, in, pixel + (i < pixels ? i : 0U), buffer), group->taps, scratch, i);
    }
}

/* Two pixels: a word of lanes is in r12, and its low bytes are in lr. */
#define TWO(both0, first0, both1, first1)               \
    "ldrd   r2, r3, [r1], #8\n"                         \
    "smlad  " both0 ", r2, r12, " both0 "\n"            \
    "smlad  " first0 ", r2, lr, " first0 "\n"           \
    "smlad  " both1 ", r3, r12, " both1 "\n"            \
    "smlad  " first1 ", r3, lr, " first1 "\n"

#define WORD                                            \
    "ldr    r12, [r0], #4\n"                            \
    "sxtb16 lr, r12\n"                                  \
    TWO("r4", "r8", "r5", "r9")                         \
    TWO("r6", "r10", "r7", "r11")

/* The sums of a group for two outputs, whose weights are lanes: for each four taps two words. Needs all registers, also the one
 * that may be the frame pointer. Gives the next weights. */
TR_NOINLINE static const int32_t *multiply_lanes(const int32_t *weights, const tr_group *group, int32_t *sums)
{
    register const int32_t *next __asm__("r0") = weights;
    /* cppcheck-suppress constStatement ; it takes the register for a statement */
    register const tr_lanes *lanes __asm__("r1") = group->windows;
    register const tr_lanes *end __asm__("r2") = lanes + (group->taps + 3U) / 4U;
    register int32_t *out __asm__("r3") = sums;
    __asm__ volatile(
        "push   {r2, r3, r7}\n"
        "movs   r4, #0\n"
        "movs   r5, #0\n"
        "movs   r6, #0\n"
        "movs   r7, #0\n"
        "mov    r8, r4\n"
        "mov    r9, r4\n"
        "mov    r10, r4\n"
        "mov    r11, r4\n"
        "1:\n"
        WORD
        WORD
        "ldr    r2, [sp]\n"
        "cmp    r1, r2\n"
        "bne    1b\n"
        "pop    {r2, r3}\n"
        "sub    r4, r4, r8\n"
        "sub    r5, r5, r9\n"
        "sub    r6, r6, r10\n"
        "sub    r7, r7, r11\n"
        "asrs   r4, r4, #8\n"
        "asrs   r5, r5, #8\n"
        "asrs   r6, r6, #8\n"
        "asrs   r7, r7, #8\n"
        "stm    r3!, {r8, r9, r10, r11}\n"
        "stm    r3!, {r4, r5, r6, r7}\n"
        "pop    {r7}\n"
        : "+r"(next), "+r"(lanes), "+r"(end), "+r"(out)
        :
        : "r4", "r5", "r6", "r8", "r9", "r10", "r11", "r12", "lr", "cc", "memory");
    return next;
}

/* The sums of a group for one output. Weights are read in words. */
static void multiply(const int8_t *weights, const tr_group *group, int32_t *sums)
{
    const int8_t *const end = weights + ((group->taps + 3U) & ~3U);
    const tr_lanes *lanes = group->windows;
    int32_t a = 0, b = 0, c = 0, d = 0;
    __asm__(
        "1:\n"
        "ldr    r9, [%[weights]], #4\n"
        "ldm    %[lanes]!, {r4, r5, r6, r8}\n"
        "sxtb16 lr, r9, ror #8\n"
        "sxtb16 r9, r9\n"
        "smlad  %[a], r4, r9, %[a]\n"
        "smlad  %[b], r5, r9, %[b]\n"
        "smlad  %[c], r6, r9, %[c]\n"
        "smlad  %[d], r8, r9, %[d]\n"
        "ldm    %[lanes]!, {r4, r5, r6, r8}\n"
        "smlad  %[a], r4, lr, %[a]\n"
        "smlad  %[b], r5, lr, %[b]\n"
        "smlad  %[c], r6, lr, %[c]\n"
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
/* Windows lie one after the other, each in whole words: copies, as outputs may take the place of inputs before all are computed. */
static void gather(const tr_conv *layer, const int8_t *in, uint32_t pixel, uint32_t pixels, void *scratch, tr_group *group)
{
    int8_t *next = scratch;
    group->windows = next;
    for (uint32_t i = 0; i < TR_FAST_PIXELS; i++, next += (group->taps + 3U) & ~3U) {
        const int8_t *window = tr_window_at(layer, in, pixel + (i < pixels ? i : 0U), next);
        for (uint32_t tap = 0; tap < group->taps; tap++) {
            next[tap] = window[tap];
        }
    }
}

#if defined(__thumb2__) && defined(__OPTIMIZE__)
/* A lane is in r4; its tap is `at` bytes behind the last one of both windows. */
#define TAP(at)                          \
    "ldrsb  r5, [%[one], #" at "]\n"     \
    "ldrsb  r6, [%[two], #" at "]\n"     \
    "mla    r8, r5, r4, r8\n"            \
    "mla    r9, r6, r4, r9\n"            \
    "sxtb   r4, r4\n"                    \
    "mla    r10, r5, r4, r10\n"          \
    "mla    r12, r6, r4, r12\n"

#define WORD(low, high)                  \
    "ldr    lr, [%[next]], #4\n"         \
    "sxth   r4, lr\n"                    \
    TAP(low)                             \
    "asr    r4, lr, #16\n"               \
    TAP(high)

/* The sums of two windows for two outputs, `both` and then of the first alone. */
TR_INLINE const int32_t *multiply_two(const int32_t *next, const int8_t *one, const int8_t *two, const int8_t *end,
                                      int32_t *both, int32_t *first)
{
    int32_t sums[4], *const place = sums;
    __asm__ volatile(
        "movs   r4, #0\n"
        "mov    r8, r4\n"
        "mov    r9, r4\n"
        "mov    r10, r4\n"
        "mov    r12, r4\n"
        "1:\n"
        WORD("0", "2")
        WORD("1", "3")
        "adds   %[one], %[one], #4\n"
        "adds   %[two], %[two], #4\n"
        "cmp    %[one], %[end]\n"
        "bne    1b\n"
        "ldr    r4, %[place]\n"
        "stm    r4, {r8, r9, r10, r12}\n"
        : [next] "+&r"(next), [one] "+&l"(one), [two] "+&l"(two)
        : [end] "r"(end), [place] "m"(place)
        : "r4", "r5", "r6", "r8", "r9", "r10", "r12", "lr", "cc", "memory");
    both[0] = sums[0];
    both[1] = sums[1];
    first[0] = sums[2];
    first[1] = sums[3];
    return next;
}
#else
/* The same. */
TR_INLINE const int32_t *multiply_two(const int32_t *next, const int8_t *one, const int8_t *two, const int8_t *end,
                                      int32_t *both, int32_t *first)
{
    uint32_t both_one = 0, both_two = 0;
    int32_t first_one = 0, first_two = 0;
    for (; one != end; one += 4, two += 4, next += 2) {
        for (uint32_t i = 0; i < 2U; i++) {
            const int32_t lane = (int16_t)(next[i] & 0xFFFF), other = next[i] >> 16;
            const int32_t low = (int8_t)(lane & 0xFF), high = (int8_t)(other & 0xFF);
            both_one += (uint32_t)(one[i] * lane) + (uint32_t)(one[i + 2U] * other);
            both_two += (uint32_t)(two[i] * lane) + (uint32_t)(two[i + 2U] * other);
            first_one += one[i] * low + one[i + 2U] * high;
            first_two += two[i] * low + two[i + 2U] * high;
        }
    }
    both[0] = (int32_t)both_one;
    both[1] = (int32_t)both_two;
    first[0] = first_one;
    first[1] = first_two;
    return next;
}
#endif

/* The sums of a group for two outputs, whose weights are lanes: for each four taps two words. Gives the next weights. */
TR_NOINLINE static const int32_t *multiply_lanes(const int32_t *weights, const tr_group *group, int32_t *sums)
{
    const uint32_t taps = (group->taps + 3U) & ~3U;
    const int8_t *window = group->windows;
    const int32_t *next = weights;
    for (uint32_t pixel = 0; pixel < TR_FAST_PIXELS; pixel += 2U, sums += 2, window += 2U * taps) {
        int32_t both[2];
        next = multiply_two(weights, window, window + taps, window + taps, both, sums);
        sums[TR_FAST_PIXELS] = (int32_t)((uint32_t)both[0] - (uint32_t)sums[0]) >> 8;
        sums[TR_FAST_PIXELS + 1U] = (int32_t)((uint32_t)both[1] - (uint32_t)sums[1]) >> 8;
    }
    return next;
}

/* The sums of a group for one output: not inlined, because at -Os what is in the loop would be spilled. */
TR_NOINLINE static void multiply(const int8_t *weights, const tr_group *group, int32_t *sums)
{
    const uint32_t stride = (group->taps + 3U) & ~3U;
    const int8_t *first = group->windows, *second = first + stride, *third = second + stride, *fourth = third + stride;
    int32_t a = 0, b = 0, c = 0, d = 0;
    for (const int8_t *end = weights + group->taps; weights != end;) {
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

/* Outputs `first` to `first + outputs - 1`; their weights begin at `lanes` or, where that is null, at `bytes`. Inlined: each has a
 * simpler loop. */
TR_INLINE void convolve(const tr_conv *layer, const int8_t *in, int8_t *out, void *scratch, const int32_t *lanes,
                        const int8_t *bytes, uint32_t first, uint32_t outputs)
{
    const tr_window *shape = &layer->window;
    const uint32_t channels = shape->out.channels;
    const uint32_t total = (uint32_t)shape->out.height * shape->out.width;
    tr_group group;
    int32_t sums[CHANNELS * TR_FAST_PIXELS];

    group.taps = (uint32_t)shape->height * shape->width * shape->in.channels;
    for (uint32_t pixel = 0; pixel < total; pixel += TR_FAST_PIXELS) {
        const uint32_t pixels = total - pixel < TR_FAST_PIXELS ? total - pixel : TR_FAST_PIXELS;
        const int32_t *pair = lanes;
        const int8_t *weights = bytes;
        gather(layer, in, pixel, pixels, scratch, &group);
        for (uint32_t channel = first; channel < first + outputs; channel += CHANNELS) {
            const uint32_t left = first + outputs - channel;
            const uint32_t count = left < CHANNELS ? left : CHANNELS;
            for (uint32_t i = 0; i < count; i += lanes != NULL ? 2U : 1U) {
                if (lanes != NULL) {
                    pair = multiply_lanes(pair, &group, sums + i * TR_FAST_PIXELS);
                } else {
                    multiply(weights, &group, sums + i * TR_FAST_PIXELS);
                    weights += group.taps;
                }
            }
            tr_finish(layer, channel, count, sums, pixels, out + pixel * channels + channel);
        }
    }
}

void tr_fast_conv(const tr_conv *layer, const int8_t *in, int8_t *out, void *scratch)
{
    convolve(layer, in, out, scratch, (const int32_t *)(const void *)layer->weights, NULL, 0, layer->window.out.channels);
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
        convolve(layer, in, out, scratch, NULL, weights, channel, outputs);
    }
}
