/* DEPTHWISE_CONV_2D of windows without horizontal dilation, four taps of a row at a time.
 *
 * A channel's plane is copied out with its padding, so that windows need no checks, the output may take the input's place, and
 * the weights stay in registers from pixel to pixel. A word of the plane holds four neighbours of one channel; its even and its
 * odd bytes, as 16-bit lanes, meet those of the weights in SMLAD or, without the DSP instructions, lane by lane.
 */
#include "tr_internal.h"

#if defined(__ARM_FEATURE_DSP) && defined(__OPTIMIZE__)
#define FAST
#endif

#define SUMS 128U /* sums that are requantized at a time, or a row's where that is more */

/* Four taps of a row, as lanes. */
typedef struct {
    uint32_t even, odd;
} tr_taps;

typedef struct {
    uint32_t height, pitch;
} tr_plane;

/* A sum with what a word of the plane adds to it. */
TR_INLINE int32_t add(int32_t sum, const int8_t *place, tr_taps taps)
{
    uint32_t word;
    memcpy(&word, place, 4U);
#ifdef FAST
    uint32_t even, odd;
    __asm__("sxtb16 %0, %1" : "=r"(even) : "r"(word));
    __asm__("sxtb16 %0, %1, ror #8" : "=r"(odd) : "r"(word));
    __asm__("smlad %0, %1, %2, %0" : "+&r"(sum) : "r"(even), "r"(taps.even));
    __asm__("smlad %0, %1, %2, %0" : "+&r"(sum) : "r"(odd), "r"(taps.odd));
#else
    sum += (int8_t)(word & 255U) * (int16_t)(taps.even & 0xFFFFU);
    sum += (int8_t)(word >> 8 & 255U) * (int16_t)(taps.odd & 0xFFFFU);
    sum += (int8_t)(word >> 16 & 255U) * (int16_t)(taps.even >> 16);
    sum += (int8_t)(word >> 24) * (int16_t)(taps.odd >> 16);
#endif
    return sum;
}

/* Four bytes as lanes, the lowest first. */
TR_INLINE tr_taps widen(uint32_t word)
{
    tr_taps lanes;
#ifdef FAST
    __asm__("sxtb16 %0, %1" : "=r"(lanes.even) : "r"(word));
    __asm__("sxtb16 %0, %1, ror #8" : "=r"(lanes.odd) : "r"(word));
#else
    lanes.even = (uint32_t)(uint16_t)(int8_t)(word & 255U) | (uint32_t)(uint16_t)(int8_t)(word >> 16 & 255U) << 16;
    lanes.odd = (uint32_t)(uint16_t)(int8_t)(word >> 8 & 255U) | (uint32_t)(uint16_t)(int8_t)(word >> 24) << 16;
#endif
    return lanes;
}

/* Up to four bytes of weights, and zeros. */
TR_INLINE uint32_t word_of(const int8_t *weights, uint32_t count)
{
    uint32_t word;
    memcpy(&word, weights, 4U);
    return count >= 4U ? word : word & ((1U << 8U * count) - 1U);
}

/* Makes taps of the rows of a channel's weights, which are read in words. */
static void prepare(const tr_window *shape, const int8_t *weights, tr_taps *taps)
{
    for (uint32_t row = shape->height; row != 0U; row--) {
        for (uint32_t left = shape->width; left != 0U;) {
            const uint32_t count = left < 4U ? left : 4U;
            *taps++ = widen(word_of(weights, count));
            weights += count;
            left -= count;
        }
    }
}

/* Copies a channel into the middle of its plane. */
TR_NOINLINE static void copy(const tr_conv *layer, const int8_t *in, tr_plane size, int8_t *plane)
{
    const tr_window *shape = &layer->window;
    const uint32_t rows = size.height - shape->pad_top, columns = size.pitch - shape->pad_left;
    const uint32_t height = rows < shape->in.height ? rows : shape->in.height;
    const uint32_t width = columns < shape->in.width ? columns : shape->in.width;
    const uint32_t channels = shape->in.channels;
    plane += shape->pad_top * size.pitch + shape->pad_left;
    for (uint32_t y = 0; y < height; y++) {
        const int8_t *from = in;
        uint32_t x = 0;
#ifndef __OPTIMIZE_SIZE__
        for (; x + 4U <= width; x += 4U) {
            const int8_t *const third = from + 2U * channels;
            int8_t *const next = plane + x;
            next[0] = from[0];
            next[1] = from[channels];
            next[2] = third[0];
            next[3] = third[channels];
            from = third + 2U * channels;
        }
#endif
        for (; x < width; x++) {
            plane[x] = *from;
            from += channels;
        }
        plane += size.pitch;
        in += shape->in.width * channels;
    }
}

/* Makes taps of a channel's weights. */
typedef void tr_prepare(const tr_window *shape, const int8_t *weights, tr_taps *taps);

/* Sums of `rows` rows of outputs, from the window at `place` on. */
typedef void tr_sum_rows(const tr_window *shape, const int8_t *place, uint32_t pitch, const tr_taps *taps, uint32_t rows,
                         int32_t *sums);

#ifdef FAST
/* sum_rows for windows of 3x3: registers hold what does not change, and at -Os compilers would not keep it there. */
TR_NOINLINE static void sum_3x3(const tr_window *shape, const int8_t *place, uint32_t pitch, const tr_taps *taps,
                                uint32_t rows, int32_t *sums)
{
    const uint32_t stride = shape->stride_w;
    for (; rows != 0U; rows--, place += pitch * shape->stride_h) {
        const int8_t *next = place;
        const int32_t *const end = sums + shape->out.width;
        const tr_taps *even = taps;
        uint32_t odd;
        int32_t sum;
        __asm__ volatile(
            "ldm    %[even], {r4, r5, r6, r8, r9, r10}\n"
            "1:\n"
            "ldr    %[even], [%[next]]\n"
            "sxtb16 %[odd], %[even], ror #8\n"
            "sxtb16 %[even], %[even]\n"
            "smuad  %[sum], %[odd], r5\n"
            "smlad  %[sum], %[even], r4, %[sum]\n"
            "ldr    %[even], [%[next], %[pitch]]\n"
            "sxtb16 %[odd], %[even], ror #8\n"
            "sxtb16 %[even], %[even]\n"
            "smlad  %[sum], %[odd], r8, %[sum]\n"
            "smlad  %[sum], %[even], r6, %[sum]\n"
            "ldr    %[even], [%[next], %[pitch], lsl #1]\n"
            "sxtb16 %[odd], %[even], ror #8\n"
            "sxtb16 %[even], %[even]\n"
            "smlad  %[sum], %[odd], r10, %[sum]\n"
            "smlad  %[sum], %[even], r9, %[sum]\n"
            "ldr    %[even], %[stride]\n"
            "str    %[sum], [%[sums]], #4\n"
            "add    %[next], %[next], %[even]\n"
            "ldr    %[even], %[end]\n"
            "cmp    %[sums], %[even]\n"
            "bne    1b\n"
            : [next] "+&r"(next), [sums] "+&r"(sums), [even] "+&r"(even), [odd] "=&r"(odd), [sum] "=&r"(sum)
            : [pitch] "r"(pitch), [end] "m"(end), [stride] "m"(stride)
            : "r4", "r5", "r6", "r8", "r9", "r10", "cc", "memory");
    }
}

/* The same for windows that move by one: four bytes of a row are those of two windows. Of an odd number of outputs in a row,
 * writes one sum more. */
TR_NOINLINE static void sum_3x3_twice(const tr_window *shape, const int8_t *place, uint32_t pitch, const tr_taps *taps,
                                      uint32_t rows, int32_t *sums)
{
    for (; rows != 0U; rows--, place += pitch * shape->stride_h) {
        const int8_t *next = place;
        const int32_t *const end = sums + shape->out.width;
        const tr_taps *even = taps;
        int32_t *two = sums;
        uint32_t odd;
        int32_t sum;
        __asm__ volatile(
            "ldm    %[even], {r4, r5, r6, r8, r9, r10}\n"
            "pkhbt  r5, r5, r8, lsl #16\n"
            "1:\n"
            "ldr    %[even], [%[next]]\n"
            "sxtb16 %[odd], %[even], ror #8\n"
            "sxtb16 %[even], %[even]\n"
            "smuad  %[sum], %[even], r4\n"
            "smuad  r8, %[odd], r4\n"
            "smlabb %[sum], %[odd], r5, %[sum]\n"
            "smlatb r8, %[even], r5, r8\n"
            "ldr    %[even], [%[next], %[pitch]]\n"
            "sxtb16 %[odd], %[even], ror #8\n"
            "sxtb16 %[even], %[even]\n"
            "smlad  %[sum], %[even], r6, %[sum]\n"
            "smlad  r8, %[odd], r6, r8\n"
            "smlabt %[sum], %[odd], r5, %[sum]\n"
            "smlatt r8, %[even], r5, r8\n"
            "ldr    %[even], [%[next], %[pitch], lsl #1]\n"
            "sxtb16 %[odd], %[even], ror #8\n"
            "sxtb16 %[even], %[even]\n"
            "smlad  %[sum], %[even], r9, %[sum]\n"
            "smlad  r8, %[odd], r9, r8\n"
            "smlabb %[sum], %[odd], r10, %[sum]\n"
            "smlatb r8, %[even], r10, r8\n"
            "adds   %[next], %[next], #2\n"
            "strd   %[sum], r8, [%[two]], #8\n"
            "cmp    %[two], %[end]\n"
            "blo    1b\n"
            : [next] "+&r"(next), [two] "+&r"(two), [even] "+&r"(even), [odd] "=&r"(odd), [sum] "=&r"(sum)
            : [pitch] "r"(pitch), [end] "r"(end)
            : "r4", "r5", "r6", "r8", "r9", "r10", "cc", "memory");
        sums += shape->out.width;
    }
}

/* Taps of windows of one row that move by one: for every four bytes of the plane those of a window, and the even ones of the next,
 * whose odd ones are the even ones of the first. */
typedef struct {
    tr_taps first;
    uint32_t second;
} tr_line_taps;

static void prepare_line(const tr_window *shape, const int8_t *weights, tr_taps *taps)
{
    tr_line_taps *next = (tr_line_taps *)(void *)taps;
    uint32_t before = 0;
    for (uint32_t left = shape->width;; left -= 4U, weights += 4) {
        const uint32_t word = word_of(weights, left);
        next->first = widen(word);
        next->second = widen(word << 8 | before >> 24).even;
        next++;
        before = word;
        if (left <= 4U) {
            break;
        }
    }
    *next = (tr_line_taps){{0, 0}, widen(before >> 24).even};
}

/* sum_rows for such windows, two at a time. Of an odd number of outputs, writes one sum more. */
TR_NOINLINE static void sum_line(const tr_window *shape, const int8_t *place, uint32_t pitch, const tr_taps *taps, uint32_t rows,
                                 int32_t *sums)
{
    const tr_line_taps *const base = (const tr_line_taps *)(const void *)taps, *const last = base + (shape->width + 4U) / 4U;
    for (; rows != 0U; rows--, place += pitch * shape->stride_h, sums += shape->out.width) {
        const int32_t *const end = sums + shape->out.width;
        const int8_t *corner = place;
        int32_t *two = sums;
        const tr_line_taps *next;
        __asm__ volatile(
            "1:\n"
            "mov    lr, %[corner]\n"
            "mov    %[next], %[base]\n"
            "movs   r8, #0\n"
            "movs   r9, #0\n"
            "2:\n"
            "ldr    r10, [lr], #4\n"
            "ldm    %[next]!, {r4, r5, r6}\n"
            "sxtb16 r12, r10, ror #8\n"
            "sxtb16 r10, r10\n"
            "smlad  r8, r10, r4, r8\n"
            "smlad  r9, r12, r4, r9\n"
            "smlad  r8, r12, r5, r8\n"
            "smlad  r9, r10, r6, r9\n"
            "cmp    %[next], %[last]\n"
            "bne    2b\n"
            "strd   r8, r9, [%[two]], #8\n"
            "ldr    r4, %[end]\n"
            "adds   %[corner], %[corner], #2\n"
            "cmp    %[two], r4\n"
            "blo    1b\n"
            : [corner] "+&r"(corner), [two] "+&r"(two), [next] "=&r"(next)
            : [base] "r"(base), [last] "r"(last), [end] "m"(end)
            : "r4", "r5", "r6", "r8", "r9", "r10", "r12", "lr", "cc", "memory");
    }
}
#else
#define prepare_line prepare
#define sum_3x3_twice sum_3x3
#define sum_line sum_rows

/* Lane by lane, but with each of the nine weights at hand. */
static void sum_3x3(const tr_window *shape, const int8_t *place, uint32_t pitch, const tr_taps *taps, uint32_t rows,
                    int32_t *sums)
{
    for (; rows != 0U; rows--, place += pitch * shape->stride_h) {
        const int32_t *const end = sums + shape->out.width;
        for (const int8_t *corner = place; sums != end; corner += shape->stride_w) {
            const int8_t *row = corner;
            int32_t sum = 0;
            for (const tr_taps *next = taps; next != taps + 3; next++, row += pitch) {
                sum += row[0] * (int16_t)(next->even & 0xFFFFU) + row[1] * (int16_t)(next->odd & 0xFFFFU) +
                       row[2] * (int16_t)(next->even >> 16);
            }
            *sums++ = sum;
        }
    }
}
#endif

TR_NOINLINE static void sum_rows(const tr_window *shape, const int8_t *place, uint32_t pitch, const tr_taps *taps,
                                 uint32_t rows, int32_t *sums)
{
    for (; rows != 0U; rows--) {
        const int8_t *corner = place;
        for (const int32_t *end = sums + shape->out.width; sums != end; corner += shape->stride_w) {
            const int8_t *row = corner;
            const tr_taps *next = taps;
            int32_t sum = 0;
            for (uint32_t i = 0; i < shape->height; i++) {
                for (uint32_t j = 0; j < shape->width; j += 4U) {
                    sum = add(sum, row + j, *next++);
                }
                row += pitch * shape->dilation_h;
            }
            *sums++ = sum;
        }
        place += pitch * shape->stride_h;
    }
}

static void convolve(const tr_conv *layer, const int8_t *in, int8_t *out, void *scratch, tr_prepare *taps_of,
                     tr_sum_rows *sum)
{
    const tr_window *shape = &layer->window;
    const uint32_t channels = shape->out.channels, width = shape->out.width;
    const uint32_t multiplier = channels / shape->in.channels;
    const uint32_t count = (uint32_t)shape->height * shape->width;
    const uint32_t batch = width < SUMS ? SUMS / width : 1U; /* rows */
    const tr_plane size = {(shape->out.height - 1U) * shape->stride_h + (shape->height - 1U) * shape->dilation_h + 1U,
                           (width - 1U) * shape->stride_w + shape->width};
    tr_taps *taps = scratch;
    int32_t *sums = (int32_t *)scratch + 3U * shape->height * ((shape->width + 4U) / 4U);
    int8_t *plane = (int8_t *)(sums + (width > SUMS ? width : SUMS) + 1U);
    int8_t *buffer = plane + size.height * size.pitch + 3U;

    memset(plane, layer->in_zero, size.height * size.pitch);
    for (uint32_t channel = 0; channel < channels; channel++) {
        taps_of(shape, layer->unpack(layer->weights, channel * count, count, buffer), taps);
        if (channel % multiplier == 0U) {
            copy(layer, in + channel / multiplier, size, plane);
        }
        const int8_t *place = plane;
        int8_t *pixel = out + channel;
        for (uint32_t y = 0; y < shape->out.height; y += batch) {
            const uint32_t rows = shape->out.height - y < batch ? shape->out.height - y : batch;
            sum(shape, place, size.pitch, taps, rows, sums);
            layer->requant.apply(&layer->requant, channel, 1U, sums, rows * width, pixel, channels);
            place += rows * shape->stride_h * size.pitch;
            pixel += rows * width * channels;
        }
    }
}

void tr_fast_depthwise(const tr_conv *layer, const int8_t *in, int8_t *out, void *scratch)
{
    convolve(layer, in, out, scratch, prepare, sum_rows);
}

void tr_fast_depthwise_3x3(const tr_conv *layer, const int8_t *in, int8_t *out, void *scratch)
{
    convolve(layer, in, out, scratch, prepare, sum_3x3_twice);
}

void tr_fast_depthwise_3x3_strided(const tr_conv *layer, const int8_t *in, int8_t *out, void *scratch)
{
    convolve(layer, in, out, scratch, prepare, sum_3x3);
}

void tr_fast_depthwise_line(const tr_conv *layer, const int8_t *in, int8_t *out, void *scratch)
{
    convolve(layer, in, out, scratch, prepare_line, sum_line);
}
