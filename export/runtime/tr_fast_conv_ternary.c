/* CONV_2D and FULLY_CONNECTED with ternary weights, by tables of sums.
 *
 * Three inputs and three trits have 27 sums. For a block of inputs and four pixels at once they are built into a table; each
 * output then finds the four sums of three inputs with one index: five instructions for twelve multiply-accumulates. Two
 * pixels share a word, as first + 65536 * second in plain 32-bit arithmetic, so that no DSP instruction is needed.
 * The idea is public: T-MAC, and ggml's ternary formats.
 */
#include "tr_window.h"

#define SUMS 27U
#define LIFT 0x8000U  /* look_up adds this to the first of two pixels, so that it cannot borrow from the second */
#define TABLES 11U    /* tables at a time: look_up's code names each */
#define INDICES 2048U /* bytes of decoded weights at a time, and no less than one output's */

#if defined(__thumb2__) && defined(__OPTIMIZE__)
#define FAST
#endif

typedef struct {
    uint32_t pair[SUMS][2]; /* pixels 0 and 1, pixels 2 and 3 */
} tr_table;

/* Output channels whose weights, `width` indices each, are decoded at a time. */
static uint32_t tile_of(uint32_t channels, uint32_t width)
{
    const uint32_t fit = INDICES / width;
    return fit == 0U ? 1U : fit < channels ? fit : channels;
}

/* What is left of a stream of trits, 5 a byte: `left` trits as a fraction of 256, see tr_unpack_trit. */
typedef struct {
    const uint8_t *next;
    uint32_t fraction, left;
} tr_stream;

/* The next `count` trits, from one to three, as one number; first trit most significant. */
TR_INLINE uint32_t take(tr_stream *stream, uint32_t count)
{
    static const uint8_t powers[] = {1, 3, 9, 27};
    uint32_t number = 0;
    if (count > stream->left) {
        /* A fraction of no trits is 0, and so is what this makes of it. */
        count -= stream->left;
        number = (stream->fraction * powers[stream->left] >> 8) * powers[count];
        stream->fraction = *stream->next++;
        stream->left = 5;
    }
    stream->fraction *= powers[count];
    number += stream->fraction >> 8;
    stream->fraction &= 255U;
    stream->left -= count;
    return number;
}

/* The trits of `outputs` outputs as indices into tables; zeros fill up the last index of an output. */
static void decode(tr_stream *from, uint32_t outputs, uint32_t taps, uint8_t *indices)
{
    const uint32_t rest = taps % 3U;
    tr_stream stream = *from;
    for (; outputs != 0U; outputs--) {
        for (uint32_t tap = rest; tap < taps; tap += 3U) {
            *indices++ = (uint8_t)take(&stream, 3U);
        }
        if (rest != 0U) {
            const uint32_t number = take(&stream, rest);
            *indices++ = (uint8_t)(rest == 1U ? 9U * number + 4U : 3U * number + 1U);
        }
    }
    *from = stream;
}

/* Input `tap` of two windows as first + 65536 * second; what lies beyond `taps` counts as 0. */
TR_INLINE uint32_t pair_at(const int8_t *const *windows, uint32_t tap, uint32_t taps)
{
    return tap < taps ? (uint32_t)windows[0][tap] + ((uint32_t)windows[1][tap] << 16) : 0U;
}

#ifdef FAST
/* Stores an entry and steps to the next. */
#define ENTRY(step)                            \
    "strd   %[sum0], %[sum1], [%[entry]], #8\n" \
    "add    %[sum0], %[sum0], %[" #step "0]\n"   \
    "add    %[sum1], %[sum1], %[" #step "1]\n"
#endif

/* The table of inputs `tap` to `tap + 2` of four windows. */
TR_NOINLINE static void build(const int8_t *const *windows, uint32_t tap, uint32_t taps, tr_table *table)
{
    uint32_t (*entry)[2] = table->pair;
    const uint32_t z0 = pair_at(windows, tap + 2U, taps), z1 = pair_at(windows + 2, tap + 2U, taps);
    uint32_t y0 = pair_at(windows, tap + 1U, taps), y1 = pair_at(windows + 2, tap + 1U, taps);
    uint32_t x0 = pair_at(windows, tap, taps), x1 = pair_at(windows + 2, tap, taps);
    uint32_t sum0 = 0U - x0 - y0 - z0, sum1 = 0U - x1 - y1 - z1;
    /* From one entry to the next: the last trit rises, or the one before and the last falls back, or the first. */
    x0 -= 2U * (y0 + z0);
    x1 -= 2U * (y1 + z1);
    y0 -= 2U * z0;
    y1 -= 2U * z1;
#ifdef FAST
    const tr_table *end = table + 1;
    __asm__ volatile(
        "1:\n"
        ENTRY(z) ENTRY(z) ENTRY(y) ENTRY(z) ENTRY(z) ENTRY(y) ENTRY(z) ENTRY(z) ENTRY(x)
        "cmp    %[entry], %[end]\n"
        "bne    1b\n"
        : [entry] "+&l"(entry), [sum0] "+&l"(sum0), [sum1] "+&l"(sum1)
        : [x0] "r"(x0), [x1] "r"(x1), [y0] "r"(y0), [y1] "r"(y1), [z0] "r"(z0), [z1] "r"(z1), [end] "r"(end)
        : "cc", "memory");
#else
    for (uint32_t i = 1; i <= SUMS; i++, entry++) {
        (*entry)[0] = sum0;
        (*entry)[1] = sum1;
        sum0 += i % 9U == 0U ? x0 : i % 3U == 0U ? y0 : z0;
        sum1 += i % 9U == 0U ? x1 : i % 3U == 0U ? y1 : z1;
    }
#endif
}

#ifdef FAST
/* The 14 bytes for one table: r4 takes the index and then the place of its sums, r5 and r6 the sums, r9 and lr the totals. */
#define LOOK_UP(index, base, offset)       \
    "ldrb.n r4, [%[row], #" #index "]\n"   \
    "add.w  r4, %[" #base "], r4, lsl #3\n" \
    "ldrd   r5, r6, [r4, #" #offset "]\n"  \
    "add.n  r9, r5\n"                      \
    "add.n  lr, r6\n"

/* Adds to the four sums of each of `outputs` outputs what `count` tables give it; their rows of indices lie `stride` bytes
 * apart. Compilers spill what this keeps in registers, and make it half as slow again. */
TR_NOINLINE static void look_up(const uint8_t *row, uint32_t stride, uint32_t outputs, const tr_table *tables,
                                              uint32_t count, int32_t *sums)
{
    const int32_t *end = sums + TR_FAST_PIXELS * outputs;
    uint32_t enter = 14U * count;
    __asm__ volatile(
        ".balign 4\n" /* ADR counts from a multiple of 4, which -Os does not align functions to */
        "adr.w  r4, 2f\n"
        "sub    %[enter], r4, %[enter]\n"
        "adds   %[enter], #1\n"
        "1:\n"
        "mov    r9, #0x8000\n"
        "mov    lr, #0x8000\n"
        "bx     %[enter]\n"
        LOOK_UP(10, high, 432)
        LOOK_UP(9, high, 216)
        LOOK_UP(8, high, 0)
        LOOK_UP(7, high, -216)
        LOOK_UP(6, high, -432)
        LOOK_UP(5, high, -648)
        LOOK_UP(4, low, 864)
        LOOK_UP(3, low, 648)
        LOOK_UP(2, low, 432)
        LOOK_UP(1, low, 216)
        LOOK_UP(0, low, 0)
        "2:\n"
        "ldm    %[sums], {r4, r5, r6, r10}\n"
        "add    r5, r5, r9, asr #16\n"
        "uxth   r9, r9\n"
        "add    r4, r4, r9\n"
        "add    r10, r10, lr, asr #16\n"
        "uxth   lr, lr\n"
        "add    r6, r6, lr\n"
        "stm    %[sums]!, {r4, r5, r6, r10}\n"
        "add    %[row], %[row], %[stride]\n"
        "cmp    %[sums], %[end]\n"
        "bne    1b\n"
        : [row] "+&l"(row), [sums] "+&r"(sums), [enter] "+&r"(enter)
        : [stride] "r"(stride), [low] "r"(tables), [high] "r"(tables + 8), [end] "r"(end)
        : "r4", "r5", "r6", "r9", "r10", "lr", "cc", "memory");
}
#else
static void look_up(const uint8_t *row, uint32_t stride, uint32_t outputs, const tr_table *tables, uint32_t count,
                    int32_t *sums)
{
    for (; outputs != 0U; outputs--) {
        for (uint32_t half = 0; half < 2U; half++, sums += 2) {
            uint32_t pair = LIFT;
            for (uint32_t i = 0; i < count; i++) {
                pair += tables[i].pair[row[i]][half];
            }
            sums[0] += (int32_t)(pair & 0xFFFFU);
            sums[1] += (int32_t)pair >> 16;
        }
        row += stride;
    }
}
#endif

void tr_fast_conv_ternary(const tr_conv *layer, const int8_t *in, int8_t *out, void *scratch)
{
    const tr_window *shape = &layer->window;
    const uint32_t channels = shape->out.channels;
    const uint32_t total = (uint32_t)shape->out.height * shape->out.width;
    const uint32_t taps = (uint32_t)shape->height * shape->width * shape->in.channels;
    const uint32_t width = (taps + 2U) / 3U;
    const uint32_t tile = tile_of(channels, width);
    tr_table *tables = scratch;
    int32_t *sums = (int32_t *)(tables + (width < TABLES ? width : TABLES));
    uint8_t *indices = (uint8_t *)(sums + TR_FAST_PIXELS * tile);
    int8_t *buffer = (int8_t *)(indices + tile * width);
    tr_stream stream = {layer->weights, 0, 0};
    const int32_t lifted = -(int32_t)((width + TABLES - 1U) / TABLES * LIFT);

    for (uint32_t channel = 0; channel < channels; channel += tile) {
        const uint32_t outputs = channels - channel < tile ? channels - channel : tile;
        decode(&stream, outputs, taps, indices);
        for (uint32_t pixel = 0; pixel < total; pixel += TR_FAST_PIXELS) {
            const uint32_t pixels = total - pixel < TR_FAST_PIXELS ? total - pixel : TR_FAST_PIXELS;
            const int8_t *windows[TR_FAST_PIXELS];
            for (uint32_t i = 0; i < TR_FAST_PIXELS; i++) {
                windows[i] = i < pixels ? tr_window_at(layer, in, pixel + i, buffer + i * taps) : windows[0];
            }
            for (int32_t *sum = sums; sum != sums + TR_FAST_PIXELS * outputs; sum += TR_FAST_PIXELS) {
                sum[0] = lifted;
                sum[1] = 0;
                sum[2] = lifted;
                sum[3] = 0;
            }
            for (uint32_t first = 0; first < width; first += TABLES) {
                const uint32_t count = width - first < TABLES ? width - first : TABLES;
                for (uint32_t i = 0; i < count; i++) {
                    build(windows, 3U * (first + i), taps, &tables[i]);
                }
                look_up(indices + first, width, outputs, tables, count, sums);
            }
            tr_finish(layer, channel, outputs, sums, pixels, out + pixel * channels + channel);
        }
    }
}
