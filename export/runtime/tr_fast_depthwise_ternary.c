/* DEPTHWISE_CONV_2D with ternary weights, of windows without horizontal dilation: two output pixels at a time.
 *
 * The lower half of the image lies beside the upper one: a word of a channel's plane is first + 65536 * second in plain 32-bit
 * arithmetic, where second is as many rows below as the upper half of the outputs needs. One multiply-accumulate then serves
 * two outputs, whatever the shape, and no DSP instruction is needed. The padding at the end of a row is that before the next;
 * windows need no checks, and the output may take the input's place. Sums take the place of words that no later window reads.
 */
#include "tr_pairs.h"

#define PLANES 4U /* of as many channels at a time, which costs less than one after the other */
#define FEW 128U  /* where they have no more words each */
#define SUMS 128U /* sums that are requantized at a time, or a row's where that is more */

/* A channel's plane: words from row to row, rows of outputs in its upper half, rows of words, words in all. */
typedef struct {
    uint32_t pitch, half, rows, words;
} tr_plane;

TR_INLINE uint32_t pair(int8_t first, int8_t second)
{
    return (uint32_t)first + ((uint32_t)second << 16);
}

/* Fills the planes of one channel or PLANES, one after the other, with these and their padding. */
TR_NOINLINE static void spread(const tr_conv *layer, const int8_t *in, const tr_plane *size, uint32_t *plane, uint32_t planes)
{
    const tr_window *shape = &layer->window;
    const uint32_t zeros = pair(layer->in_zero, layer->in_zero);
    const uint32_t channels = shape->in.channels;
    const int8_t zero[PLANES] = {layer->in_zero, layer->in_zero, layer->in_zero, layer->in_zero};
    for (uint32_t *next = plane, *end = plane + planes * size->words; next != end; next += 4) {
        next[0] = zeros;
        next[1] = zeros;
        next[2] = zeros;
        next[3] = zeros;
    }
    uint32_t row = 0U - shape->pad_top;
    const uint32_t lower = size->half * shape->stride_h;
    plane += shape->pad_left;
    for (const uint32_t end = row + size->rows; row != end; row++, plane += size->pitch) {
        const int8_t *first = zero, *second = zero;
        uint32_t first_step = 0, second_step = 0;
        if (row < shape->in.height) {
            first = in + row * shape->in.width * channels;
            first_step = channels;
        }
        if (row + lower < shape->in.height) {
            second = in + (row + lower) * shape->in.width * channels;
            second_step = channels;
        }
        for (uint32_t *next = plane, *last = plane + shape->in.width; next != last; next++) {
            next[0] = pair(first[0], second[0]);
            if (planes != 1U) {
                next[size->words] = pair(first[1], second[1]);
                next[2U * size->words] = pair(first[2], second[2]);
                next[3U * size->words] = pair(first[3], second[3]);
            }
            first += first_step;
            second += second_step;
        }
    }
}

/* Sums of the windows over a plane, over whose words they go, row by row. */
typedef void tr_sum_plane(const tr_window *shape, const tr_plane *size, const int8_t *weights, uint32_t *plane);

/* Requantizes the sums of a channel. `scratch` holds SUMS. */
typedef void tr_finish_plane(const tr_conv *layer, uint32_t channel, const tr_plane *size, const uint32_t *sums,
                             int8_t *out, int32_t *scratch);

static void sum_any(const tr_window *shape, const tr_plane *size, const int8_t *weights, uint32_t *plane)
{
    const uint32_t *corners = plane;
    for (uint32_t y = 0; y < size->half; y++) {
        const uint32_t *corner = corners;
        for (uint32_t x = 0; x < shape->out.width; x++, corner += shape->stride_w) {
            const uint32_t *row = corner;
            const int8_t *weight = weights;
            uint32_t sum = 0;
            for (uint32_t i = 0; i < shape->height; i++, row += size->pitch * shape->dilation_h) {
                uint32_t j = 0;
                for (; j + 3U <= shape->width; j += 3U, weight += 3) {
                    sum += (uint32_t)weight[0] * row[j] + (uint32_t)weight[1] * row[j + 1U] + (uint32_t)weight[2] * row[j + 2U];
                }
                for (; j < shape->width; j++) {
                    sum += (uint32_t)*weight++ * row[j];
                }
            }
            plane[x] = sum;
        }
        corners += size->pitch * shape->stride_h;
        plane += size->pitch;
    }
}

/* As many rows at a time as SUMS holds. */
static void finish_any(const tr_conv *layer, uint32_t channel, const tr_plane *size, const uint32_t *sums, int8_t *out,
                       int32_t *scratch)
{
    const tr_window *shape = &layer->window;
    const uint32_t stride = shape->out.channels, width = shape->out.width;
    for (uint32_t lower = 0; lower < 2U; lower++) {
        const uint32_t *words = sums;
        const uint32_t rows = lower == 0U ? size->half : shape->out.height - size->half;
        uint32_t count = 0;
        for (uint32_t y = 1; y <= rows; y++, words += size->pitch) {
            for (uint32_t x = 0; x < width; x++) {
                const int32_t first = (int16_t)(words[x] & 0xFFFFU);
                scratch[count++] = lower == 0U ? first : (int32_t)(words[x] - (uint32_t)first) >> 16;
            }
            if (y == rows || count + width > SUMS) {
                layer->requant.apply(&layer->requant, channel, 1U, scratch, count, out, stride);
                out += count * stride;
                count = 0;
            }
        }
    }
}

#ifdef TR_PAIRS_FAST
/* What a row of windows adds to the sums of four words, r4, r5, r6 and r8. */
#define ROW                               \
    "ldm    %[weight]!, {r9, r10, r11}\n" \
    "ldm    %[place]!, {r3, r12, lr}\n"   \
    "mla    r4, r3, r9, r4\n"             \
    "mla    r4, r12, r10, r4\n"           \
    "mla    r4, lr, r11, r4\n"            \
    "mla    r5, r12, r9, r5\n"            \
    "mla    r5, lr, r10, r5\n"            \
    "mla    r6, lr, r9, r6\n"             \
    "ldm    %[place], {r3, r12, lr}\n"    \
    "mla    r5, r3, r11, r5\n"            \
    "mla    r6, r3, r10, r6\n"            \
    "mla    r6, r12, r11, r6\n"           \
    "mla    r8, r3, r9, r8\n"             \
    "mla    r8, r12, r10, r8\n"           \
    "mla    r8, lr, r11, r8\n"

/* Four words at a time, without regard to where rows end. */
static void sum_3x3(const tr_window *shape, const tr_plane *size, const int8_t *weights, uint32_t *place)
{
    (void)shape;
    const uint32_t *const end = place + ((size->half * size->pitch + 3U) & ~3U);
    const uint32_t down = 4U * size->pitch - 12U, up = 8U * size->pitch + 12U;
    int32_t words[9];
    const int32_t *weight = words;
    for (uint32_t i = 0; i < 9U; i++) {
        words[i] = weights[i];
    }
    __asm__ volatile(
        "1:\n"
        "movs   r4, #0\n"
        "movs   r5, #0\n"
        "movs   r6, #0\n"
        "mov    r8, r4\n"
        ROW
        "add    %[place], %[place], %[down]\n"
        ROW
        "add    %[place], %[place], %[down]\n"
        ROW
        "ldr    r3, %[up]\n"
        "subs   %[weight], %[weight], #36\n"
        "sub    %[place], %[place], r3\n"
        "ldr    r3, %[end]\n"
        "stm    %[place]!, {r4, r5, r6, r8}\n"
        "cmp    %[place], r3\n"
        "bne    1b\n"
        : [weight] "+&l"(weight), [place] "+&l"(place)
        : [down] "l"(down), [up] "m"(up), [end] "m"(end)
        : "r3", "r4", "r5", "r6", "r8", "r9", "r10", "r11", "r12", "lr", "cc", "memory");
}

static void finish_pairs(const tr_conv *layer, uint32_t channel, const tr_plane *size, const uint32_t *sums, int8_t *out,
                         int32_t *scratch)
{
    const tr_window *shape = &layer->window;
    const uint32_t stride = shape->out.channels, width = shape->out.width;
    const tr_pair_scale scale = tr_pair_scale_of(&layer->requant, channel);
    const uint32_t lower = size->half * width * stride;
    (void)scratch;
    for (uint32_t y = 0; y < size->half; y++, sums += size->pitch) {
        const uint32_t *next = sums;
        /* Where the lower half has no such row, its outputs go where the upper one's overwrite them. */
        const uint32_t beside = y + size->half < shape->out.height ? lower : 0U;
        __asm__ volatile(
            "1:\n"
            "ldr    r4, [%[next]], #4\n"
            TR_PAIR(r4, r5)
            "strb   r4, [%[out], %[beside]]\n"
            "strb   r5, [%[out]]\n"
            "add    %[out], %[out], %[stride]\n"
            "cmp    %[next], %[end]\n"
            "bne    1b\n"
            : [next] "+&r"(next), [out] "+&r"(out)
            : [end] "r"(sums + width), [stride] "r"(stride), [beside] "r"(beside), TR_PAIR_OPERANDS(scale)
            : "r4", "r5", "cc", "memory");
    }
}
#else
#define sum_3x3 sum_any
#define finish_pairs finish_any
#endif

static void convolve(const tr_conv *layer, const int8_t *in, int8_t *out, void *scratch,
                     tr_sum_plane *sum_plane, tr_finish_plane *finish_plane)
{
    const tr_window *shape = &layer->window;
    const uint32_t channels = shape->out.channels;
    const uint32_t multiplier = channels / shape->in.channels;
    const uint32_t count = (uint32_t)shape->height * shape->width;
    const uint32_t half = (shape->out.height + 1U) / 2U;
    const uint32_t needed = (shape->out.width - 1U) * shape->stride_w + shape->width; /* columns, padding on both sides */
    const uint32_t right = needed > shape->in.width + shape->pad_left ? needed - shape->in.width - shape->pad_left : 0U;
    tr_plane size;
    size.pitch = shape->in.width + (shape->pad_left > right ? shape->pad_left : right);
    size.half = half;
    size.rows = (half - 1U) * shape->stride_h + (shape->height - 1U) * shape->dilation_h + 1U;
    size.words = (size.rows * size.pitch + shape->width + 6U) & ~3U;
    const uint32_t planes = multiplier == 1U && size.words <= FEW ? PLANES : 1U;
    uint32_t *plane = scratch;
    int32_t *sums = (int32_t *)(plane + planes * size.words);
    int8_t *buffer = (int8_t *)(sums + (shape->out.width > SUMS ? shape->out.width : SUMS));

    for (uint32_t channel = 0, ready = 0; channel < channels; channel++, plane += size.words) {
        if (channel == ready) {
            plane = scratch;
            ready += channels - channel < planes ? 1U : planes;
            spread(layer, in + channel / multiplier, &size, plane, ready - channel);
        }
        const int8_t *weights = layer->unpack(layer->weights, channel * count, count, buffer);
        sum_plane(shape, &size, weights, plane);
        finish_plane(layer, channel, &size, plane, out + channel, sums);
    }
}

void tr_fast_depthwise_ternary(const tr_conv *layer, const int8_t *in, int8_t *out, void *scratch)
{
    convolve(layer, in, out, scratch, sum_any, finish_any);
}

void tr_fast_depthwise_ternary_3x3(const tr_conv *layer, const int8_t *in, int8_t *out, void *scratch)
{
    convolve(layer, in, out, scratch, sum_3x3, finish_any);
}

void tr_fast_depthwise_ternary_pairs(const tr_conv *layer, const int8_t *in, int8_t *out, void *scratch)
{
    convolve(layer, in, out, scratch, sum_3x3, finish_pairs);
}
