/* FULLY_CONNECTED of one pixel with int8 weights: four outputs for each pass over the inputs, each weight read once.
 *
 * Two outputs share 16-bit lanes, first + 256 * second. A lane times an input gives both products in one sum; its low byte,
 * which is the first weight, gives the first product alone, and the second follows by subtraction. With the DSP instructions
 * 18 of them do sixteen multiply-accumulates, and nothing is widened beforehand.
 */
#include "tr_internal.h"

#define ROWS 4U
#define CHANNELS 16U /* whose sums are requantized at a time */

#if defined(__thumb2__) && defined(__OPTIMIZE__)
#define FAST

/* LOAD leaves the first and third of four inputs in r9 and lr, NEXT the second and fourth; LANES is what these and a word of
 * lanes add to the sum of both outputs and to that of the first. */
#ifdef __ARM_FEATURE_DSP
#define LOAD                         \
    "ldr    r10, [%[in]], #4\n"      \
    "sxtb16 r9, r10\n"

#define NEXT "sxtb16 r9, r10, ror #8\n"

#define LANES(word, both, first)                                 \
    "smlad  %[" #both "], r9, " #word ", %[" #both "]\n"         \
    "sxtb16 " #word ", " #word "\n"                              \
    "smlad  %[" #first "], r9, " #word ", %[" #first "]\n"
#else
#define LOAD                         \
    "ldrsb  lr, [%[in], #2]\n"       \
    "ldrsb  r9, [%[in]], #1\n"

#define NEXT                         \
    "ldrsb  lr, [%[in], #2]\n"       \
    "ldrsb  r9, [%[in]], #3\n"

#define LANES(word, both, first)                                 \
    "sxth   r10, " #word "\n"                                    \
    "mla    %[" #both "], r9, r10, %[" #both "]\n"               \
    "sxtb   r10, " #word "\n"                                    \
    "mla    %[" #first "], r9, r10, %[" #first "]\n"             \
    "sxtb   r10, " #word ", ror #16\n"                           \
    "mla    %[" #first "], lr, r10, %[" #first "]\n"             \
    "asr    " #word ", " #word ", #16\n"                         \
    "mla    %[" #both "], lr, " #word ", %[" #both "]\n"
#endif
#else
/* What two inputs and a word of lanes add to the sum of both outputs and to that of the first. */
TR_INLINE void add_lanes(int32_t word, int32_t low, int32_t high, uint32_t *both, int32_t *first)
{
    const int32_t lane = (int16_t)(word & 0xFFFF), other = word >> 16;
    *both += (uint32_t)(low * lane) + (uint32_t)(high * other);
    *first += low * (int8_t)(lane & 0xFF) + high * (int8_t)(other & 0xFF);
}
#endif

/* The sums of four outputs. For four inputs there are four words: of the first two outputs and inputs 0 and 2, then 1 and 3; of
 * the other two likewise. */
TR_NOINLINE static const int32_t *multiply(const int8_t *in, const int8_t *end, const int32_t *weights, int32_t *sums)
{
    uint32_t ab = 0, cd = 0;
    int32_t a = 0, c = 0;
#ifdef FAST
    __asm__(
        "1:\n"
        "ldm    %[weights]!, {r4, r5, r6, r8}\n"
        LOAD LANES(r4, ab, a) LANES(r6, cd, c)
        NEXT LANES(r5, ab, a) LANES(r8, cd, c)
        "cmp    %[in], %[end]\n"
        "bne    1b\n"
        : [in] "+r"(in), [weights] "+r"(weights), [ab] "+r"(ab), [a] "+r"(a), [cd] "+r"(cd), [c] "+r"(c)
        : [end] "r"(end)
        : "r4", "r5", "r6", "r8", "r9", "r10", "lr", "cc", "memory");
#else
    for (; in != end; in += 4, weights += 4) {
        add_lanes(weights[0], in[0], in[2], &ab, &a);
        add_lanes(weights[1], in[1], in[3], &ab, &a);
        add_lanes(weights[2], in[0], in[2], &cd, &c);
        add_lanes(weights[3], in[1], in[3], &cd, &c);
    }
#endif
    sums[0] = a;
    sums[1] = (int32_t)(ab - (uint32_t)a) >> 8;
    sums[2] = c;
    sums[3] = (int32_t)(cd - (uint32_t)c) >> 8;
    return weights;
}

void tr_fast_dense(const tr_conv *layer, const int8_t *in, int8_t *out, void *scratch)
{
    const uint32_t channels = layer->window.out.channels;
    const int8_t *const end = in + layer->window.in.channels;
    const int32_t *weights = (const int32_t *)(const void *)layer->weights;
    int32_t sums[CHANNELS];
    (void)scratch;
    for (uint32_t channel = 0; channel < channels; channel += CHANNELS) {
        const uint32_t count = channels - channel < CHANNELS ? channels - channel : CHANNELS;
        for (uint32_t i = 0; i < count; i += ROWS) {
            weights = multiply(in, end, weights, sums + i);
        }
        layer->requant.apply(&layer->requant, channel, count, sums, 1U, out + channel, channels);
    }
}
