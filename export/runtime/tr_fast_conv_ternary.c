/* CONV_2D and FULLY_CONNECTED with ternary or binary weights, by tables of sums.
 *
 * Three inputs and three trits have 27 sums. For a block of inputs and eight pixels at once they are built into a table; each
 * output then finds the eight sums of three inputs with one index: seven instructions for 24 multiply-accumulates. Two
 * pixels share a word, as first + 65536 * second in plain 32-bit arithmetic, so that no DSP instruction is needed.
 * The idea is public: T-MAC, and ggml's ternary formats.
 */
#include "tr_pairs.h"
#include "tr_window.h"

#define PIXELS 8U     /* output pixels of a group: all of a group's input is read before any of its output is written */
#define PAIRS 4U      /* words that hold them */
#define SUMS 27U
#define TABLES 5U     /* tables at a time: look_up's code names each */
#define CARRIED 85U   /* tables, a multiple of TABLES, whose sums fit 16 bits: 255 inputs */
#define SLACK 4U      /* bytes that decode overwrites on either side */
#define INDICES 2048U /* bytes of decoded weights that are kept, */
#define LEAST 48U     /* if they are those of so many outputs or of all; */
#define TILE 64U      /* else outputs whose weights are decoded again for each group, TABLES tables at a time */

typedef struct {
    uint32_t pairs[SUMS][PAIRS];
} tr_table;

/* Whether weights, `width` indices an output, are decoded for each group of pixels: tables for a few outputs cost more. */
static int decodes_again(uint32_t channels, uint32_t width)
{
    return INDICES / width < LEAST && INDICES / width < channels;
}

/* Outputs at a time: no more than `most`, and about as many each time. */
static uint32_t tile_of(uint32_t channels, uint32_t most)
{
    const uint32_t tiles = (channels + most - 1U) / most;
    return (channels + tiles - 1U) / tiles;
}

/* `count` threes of weights from the one at `first` on, `width` an output, as indices into the entries of TABLES tables.
 * Overwrites up to SLACK bytes before and after the indices. */
typedef void tr_decode(const uint8_t *next, uint32_t first, uint32_t count, uint32_t width, uint8_t *indices);

/* Three bytes, the low one first, and on some processors another one. */
TR_INLINE uint32_t bits_at(const uint8_t *bytes)
{
#ifdef TR_PAIRS_FAST
    uint32_t word;
    memcpy(&word, bytes, sizeof word);
    return word;
#else
    return bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16;
#endif
}

/* Three bits are an octal digit, low bits first. Reads up to three bytes past their end. */
static void decode_bits(const uint8_t *next, uint32_t first, uint32_t count, uint32_t width, uint8_t *indices)
{
    static const uint8_t entries[8] = {0, 18, 6, 24, 2, 20, 8, 26}; /* of signs */
    uint32_t position = 3U * first;
    for (const uint8_t *const end = indices + count; indices < end;) {
        for (uint32_t left = width; left != 0U;) {
            uint32_t digits = bits_at(next + position / 8U) >> (position % 8U);
            if (left >= TABLES) {
                indices[0] = entries[digits & 7U];
                indices[1] = (uint8_t)(entries[digits >> 3 & 7U] + SUMS);
                indices[2] = (uint8_t)(entries[digits >> 6 & 7U] + 2U * SUMS);
                indices[3] = (uint8_t)(entries[digits >> 9 & 7U] + 3U * SUMS);
                indices[4] = (uint8_t)(entries[digits >> 12 & 7U] + 4U * SUMS);
                indices += TABLES;
                position += 3U * TABLES;
                left -= TABLES;
                continue;
            }
            for (uint32_t entry = 0; left != 0U; left--, entry += SUMS, digits >>= 3, position += 3U) {
                *indices++ = (uint8_t)(entries[digits & 7U] + entry);
            }
        }
    }
}

/* Three bytes hold five threes; see tr_unpack_trit for a byte. An output's threes begin a byte where width is TABLES. */
TR_NOINLINE static void decode_trits(const uint8_t *next, uint32_t first, uint32_t count, uint32_t width, uint8_t *indices)
{
    const uint8_t *const end = indices + count;
    next += first / 5U * 3U;
    /* Where an output has as many, each byte of a step belongs to one table. */
    const uint32_t step = width == TABLES ? SUMS : 0U;
    for (uint8_t *index = indices - first % 5U; index < end; index += 5, next += 3) {
        uint32_t a = 27U * next[0], b = 3U * next[1], c = 9U * next[2];
        index[0] = (uint8_t)(a >> 8);
        a = 9U * (a & 255U);
        index[1] = (uint8_t)(3U * (a >> 8) + (b >> 8) + step);
        b = 27U * (b & 255U);
        index[2] = (uint8_t)((b >> 8) + 2U * step);
        b = 3U * (b & 255U);
        index[3] = (uint8_t)(9U * (b >> 8) + (c >> 8) + 3U * step);
        c = 27U * (c & 255U);
        index[4] = (uint8_t)((c >> 8) + 4U * step);
    }
    for (; step == 0U && indices < end; indices += width) {
        uint32_t i = 0;
        for (; i + TABLES <= width; i += TABLES) {
            uint8_t *index = indices + i;
            index[1] = (uint8_t)(index[1] + SUMS);
            index[2] = (uint8_t)(index[2] + 2U * SUMS);
            index[3] = (uint8_t)(index[3] + 3U * SUMS);
            index[4] = (uint8_t)(index[4] + 4U * SUMS);
        }
        for (uint32_t entry = 0; i < width; i++, entry += SUMS) {
            indices[i] = (uint8_t)(indices[i] + entry);
        }
    }
}

/* Inputs of two windows as first + 65536 * second. */
TR_INLINE uint32_t pair(int8_t first, int8_t second)
{
    return (uint32_t)first + ((uint32_t)second << 16);
}

#ifdef TR_PAIRS_FAST
/* Stores half an entry and steps to the next. */
#define ENTRY(step)                               \
    "strd   %[sum0], %[sum1], [%[entry]], #16\n" \
    "add    %[sum0], %[sum0], %[" #step "0]\n"   \
    "add    %[sum1], %[sum1], %[" #step "1]\n"
#endif

/* Two words of each entry of a table, from `entry` on: inputs `tap` to `tap + 2` of four windows; what lies beyond `taps` counts
 * as 0. */
TR_NOINLINE static void build(const int8_t *const *windows, uint32_t tap, uint32_t taps, uint32_t *entry)
{
    const int8_t *a = windows[0] + tap, *b = windows[1] + tap, *c = windows[2] + tap, *d = windows[3] + tap;
    uint32_t x0 = pair(a[0], b[0]), x1 = pair(c[0], d[0]), y0 = 0, y1 = 0, z0 = 0, z1 = 0;
    tap++;
    if (tap != taps) {
        y0 = pair(a[1], b[1]);
        y1 = pair(c[1], d[1]);
        tap++;
        if (tap != taps) {
            z0 = pair(a[2], b[2]);
            z1 = pair(c[2], d[2]);
        }
    }
    uint32_t sum0 = 0U - x0 - y0 - z0, sum1 = 0U - x1 - y1 - z1;
    /* From one entry to the next: the last trit rises, or the one before and the last falls back, or the first. */
    x0 -= 2U * (y0 + z0);
    x1 -= 2U * (y1 + z1);
    y0 -= 2U * z0;
    y1 -= 2U * z1;
#ifdef TR_PAIRS_FAST
    const uint32_t *end = entry + PAIRS * SUMS;
    __asm__ volatile(
        "1:\n"
        ENTRY(z) ENTRY(z) ENTRY(y) ENTRY(z) ENTRY(z) ENTRY(y) ENTRY(z) ENTRY(z) ENTRY(x)
        "cmp    %[entry], %[end]\n"
        "bne    1b\n"
        : [entry] "+&l"(entry), [sum0] "+&l"(sum0), [sum1] "+&l"(sum1)
        : [x0] "r"(x0), [x1] "r"(x1), [y0] "r"(y0), [y1] "r"(y1), [z0] "r"(z0), [z1] "r"(z1), [end] "r"(end)
        : "cc", "memory");
#else
    for (uint32_t i = 1; i <= SUMS; i++, entry += PAIRS) {
        entry[0] = sum0;
        entry[1] = sum1;
        sum0 += i % 9U == 0U ? x0 : i % 3U == 0U ? y0 : z0;
        sum1 += i % 9U == 0U ? x1 : i % 3U == 0U ? y1 : z1;
    }
#endif
}

#ifdef TR_PAIRS_FAST
/* The 18 bytes for one table: r4 takes the index, then the place of its sums, then they r4, r5, r6 and r8. */
#define LOOK_UP(index)                      \
    "ldrb.n r4, [%[row], #" #index "]\n"    \
    "add.w  r4, %[tables], r4, lsl #4\n"    \
    "ldm.w  r4, {r4, r5, r6, r8}\n"         \
    "add.n  r9, r4\n"                       \
    "add.n  r10, r5\n"                      \
    "add.n  r11, r6\n"                      \
    "add.n  lr, r8\n"

/* Adds to the eight sums of each of `outputs` outputs what `count` tables give it; their rows of indices lie `stride` bytes
 * apart. Compilers spill what this keeps in registers, and make it half as slow again. */
TR_NOINLINE static void look_up(const uint8_t *row, uint32_t stride, uint32_t outputs, const tr_table *tables,
                                uint32_t count, uint32_t *lanes)
{
    const uint32_t *end = lanes + PAIRS * outputs;
    uint32_t enter = 18U * count;
    uint32_t place;
    __asm__ volatile(
        ".balign 4\n" /* ADR counts from a multiple of 4, which -Os does not align functions to */
        "adr.w  r4, 2f\n"
        "ldr    r5, %[enter]\n"
        "sub    r4, r4, r5\n"
        "adds   r4, #1\n"
        "str    r4, %[place]\n"
        "1:\n"
        "ldm    %[lanes], {r9, r10, r11, lr}\n"
        "ldr.w  pc, %[place]\n"
        LOOK_UP(4)
        LOOK_UP(3)
        LOOK_UP(2)
        LOOK_UP(1)
        LOOK_UP(0)
        "2:\n"
        "stm    %[lanes]!, {r9, r10, r11, lr}\n"
        "add    %[row], %[row], %[stride]\n"
        "cmp    %[lanes], %[end]\n"
        "bne    1b\n"
        : [row] "+&l"(row), [lanes] "+&r"(lanes), [place] "=m"(place)
        : [stride] "r"(stride), [tables] "r"(tables), [end] "r"(end), [enter] "m"(enter)
        : "r4", "r5", "r6", "r8", "r9", "r10", "r11", "lr", "cc", "memory");
}
#else
static void look_up(const uint8_t *row, uint32_t stride, uint32_t outputs, const tr_table *tables, uint32_t count,
                    uint32_t *lanes)
{
    for (; outputs != 0U; outputs--) {
        for (uint32_t word = 0; word < PAIRS; word++) {
            for (uint32_t i = 0; i < count; i++) {
                *lanes += tables->pairs[row[i]][word];
            }
            lanes++;
        }
        row += stride;
    }
}
#endif

/* The sums of `outputs` outputs out of their lanes, which are cleared, into `sums`, `step` apart; plus those in `more`, which
 * lie PIXELS apart and may be `sums`, where it is not null. */
TR_NOINLINE static void widen(uint32_t *lanes, uint32_t outputs, const int32_t *more, int32_t *sums, uint32_t step)
{
    for (const uint32_t *end = lanes + PAIRS * outputs; lanes != end; sums += step) {
        for (uint32_t i = 0; i < PIXELS; i += 2U) {
            const uint32_t both = *lanes;
            int32_t first = (int16_t)(both & 0xFFFFU);
            int32_t second = (int32_t)(both - (uint32_t)first) >> 16;
            *lanes++ = 0;
            if (more != NULL) {
                first += *more++;
                second += *more++;
            }
            sums[i] = first;
            sums[i + 1U] = second;
        }
    }
}

#ifdef TR_PAIRS_FAST
/* Four sums, which are cleared, to the outputs of four pixels. */
#define TWO_PAIRS                                    \
    "ldrd   r4, r5, [%[lanes]]\n"                    \
    TR_PAIR(r4, r6)                                  \
    "strb   r6, [%[out]]\n"                          \
    "strb   r4, [%[out], %[stride]]\n"               \
    "add    %[out], %[out], %[stride], lsl #1\n"     \
    TR_PAIR(r5, r6)                                  \
    "strb   r6, [%[out]]\n"                          \
    "strb   r5, [%[out], %[stride]]\n"               \
    "add    %[out], %[out], %[stride], lsl #1\n"     \
    "movs   r6, #0\n"                                \
    "strd   r6, r6, [%[lanes]], #8\n"

/* Requantizes whole groups straight from their lanes, which are cleared. */
TR_NOINLINE static void finish_pairs(const tr_requant *requant, uint32_t channel, uint32_t outputs, uint32_t *lanes,
                                     int8_t *out, uint32_t stride)
{
    for (const uint32_t *end = lanes + PAIRS * outputs; lanes != end; channel++, out++) {
        const tr_pair_scale scale = tr_pair_scale_of(requant, channel);
        int8_t *next = out;
        __asm__ volatile(
            TWO_PAIRS TWO_PAIRS
            : [lanes] "+&r"(lanes), [out] "+&r"(next)
            : [stride] "r"(stride), TR_PAIR_OPERANDS(scale)
            : "r4", "r5", "r6", "cc", "memory");
    }
}
#endif

/* Requantizes a group of `pixels` pixels, by way of `room` words at `sums`, which are no fewer than PIXELS. */
static void finish(const tr_conv *layer, uint32_t channel, uint32_t outputs, uint32_t *lanes, const int32_t *more,
                   uint32_t pixels, int8_t *out, int32_t *sums, uint32_t room)
{
    const tr_requant *requant = &layer->requant;
    const uint32_t stride = layer->window.out.channels;
#ifdef TR_PAIRS_FAST
    if (requant->pairs && more == NULL && pixels == PIXELS) {
        finish_pairs(requant, channel, outputs, lanes, out, stride);
        return;
    }
#endif
    for (uint32_t count; outputs != 0U; outputs -= count) {
        count = outputs < room / PIXELS ? outputs : room / PIXELS;
        widen(lanes, count, more, sums, pixels);
        requant->apply(requant, channel, count, sums, pixels, out, stride);
        lanes += PAIRS * count;
        more = more == NULL ? NULL : more + PIXELS * count;
        channel += count;
        out += count;
    }
}

/* Three bytes of weights hold `threes` threes. */
static void convolve(const tr_conv *layer, const int8_t *in, int8_t *out, void *scratch, tr_decode *decode, uint32_t threes)
{
    const tr_window *shape = &layer->window;
    const uint32_t channels = shape->out.channels;
    const uint32_t total = (uint32_t)shape->out.height * shape->out.width;
    const uint32_t taps = (uint32_t)shape->height * shape->width * shape->in.channels;
    const uint32_t width = (taps + 2U) / 3U;
    const int again = decodes_again(channels, width);
    const uint32_t tile = tile_of(channels, again ? TILE : INDICES / width);
    tr_table *tables = scratch;
    uint32_t *lanes = (uint32_t *)(tables + (width < TABLES ? width : TABLES));
    int32_t *carried = (int32_t *)(lanes + PAIRS * tile);
    uint8_t *indices = (uint8_t *)(width > CARRIED ? carried + PIXELS * tile : carried) + SLACK;
    int8_t *buffer = (int8_t *)(indices + tile * (again ? TABLES : width) + SLACK);
    int32_t *more = width > CARRIED ? carried : NULL;
    const uint32_t room = (uint32_t)(lanes - (uint32_t *)scratch);
    const uint8_t *weights = layer->weights;

    memset(lanes, 0, sizeof *lanes * PAIRS * tile);
    for (uint32_t channel = 0; channel < channels; channel += tile) {
        const uint32_t outputs = channels - channel < tile ? channels - channel : tile;
        if (!again) {
            decode(weights, channel * width, outputs * width, width, indices);
        }
        for (uint32_t pixel = 0; pixel < total; pixel += PIXELS) {
            const uint32_t pixels = total - pixel < PIXELS ? total - pixel : PIXELS;
            const int8_t *const window = tr_window_at(layer, in, pixel, buffer);
            const int8_t *windows[PIXELS];
            for (uint32_t i = 0; i < PIXELS; i++) {
                windows[i] = i == 0U || i >= pixels ? window : tr_window_at(layer, in, pixel + i, buffer + i * taps);
            }
            if (more != NULL) {
                memset(more, 0, sizeof *more * PIXELS * outputs);
            }
            for (uint32_t first = 0; first < width; first += TABLES) {
                const uint32_t count = width - first < TABLES ? width - first : TABLES;
                if (first != 0U && first % CARRIED == 0U) {
                    widen(lanes, outputs, carried, carried, PIXELS);
                }
                for (uint32_t i = 0; i < count; i++) {
                    build(windows, 3U * (first + i), taps, tables[i].pairs[0]);
                    build(windows + 4, 3U * (first + i), taps, tables[i].pairs[0] + 2);
                }
                if (again) {
                    decode(weights, first * outputs, count * outputs, count, indices);
                    look_up(indices, count, outputs, tables, count, lanes);
                } else {
                    look_up(indices + first, width, outputs, tables, count, lanes);
                }
            }
            finish(layer, channel, outputs, lanes, more, pixels, out + pixel * channels + channel, scratch, room);
        }
        if (again) {
            weights += (outputs * width + threes - 1U) / threes * 3U;
        }
    }
}

void tr_fast_conv_ternary(const tr_conv *layer, const int8_t *in, int8_t *out, void *scratch)
{
    convolve(layer, in, out, scratch, decode_trits, 5U);
}

void tr_fast_conv_binary(const tr_conv *layer, const int8_t *in, int8_t *out, void *scratch)
{
    convolve(layer, in, out, scratch, decode_bits, 8U);
}
