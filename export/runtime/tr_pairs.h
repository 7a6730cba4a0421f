/* Two sums of a channel that share a word, as first + 65536 * second in plain 32-bit arithmetic, to two outputs: for layers
 * whose requantization says `pairs`. In assembly, because C has no expression that compilers turn into SMLAW and SSAT. */
#ifndef TR_PAIRS_H
#define TR_PAIRS_H

#include "tr_internal.h"

#if defined(__thumb2__) && defined(__OPTIMIZE__)
#define TR_PAIRS_FAST

#ifdef __ARM_FEATURE_DSP
/* (m * sum + b) >> shift as ((m * 2^(31 - shift) * sum >> 16) + b * 2^(15 - shift)) >> 15: the first shift is a part of SMLAW,
 * the second of SSAT, and no bit of b is lost. */
typedef struct {
    int32_t multiplier;
    uint32_t bias;
} tr_pair_scale;

/* Leaves the second output in `word`. 0x8000 on the first sum keeps it from borrowing from the second. */
#define TR_PAIR(word, first)                                       \
    "smlawb " #first ", %[multiplier], " #word ", %[bias]\n"       \
    "add    " #word ", " #word ", #0x8000\n"                       \
    "smlawt " #word ", %[multiplier], " #word ", %[bias]\n"        \
    "ssat   " #first ", #8, " #first ", asr #15\n"                 \
    "ssat   " #word ", #8, " #word ", asr #15\n"

#define TR_PAIR_OPERANDS(scale) [multiplier] "r"((scale).multiplier), [bias] "r"((scale).bias)
#else
typedef struct {
    int32_t multiplier;
    uint32_t bias, lifted, shift;
} tr_pair_scale;

/* The same, with 0x8000 taken out of the bias again. */
#define TR_PAIR(word, first)                                      \
    "add    " #word ", " #word ", #0x8000\n"                      \
    "uxth   " #first ", " #word "\n"                              \
    "asr    " #word ", " #word ", #16\n"                          \
    "mla    " #first ", " #first ", %[multiplier], %[lifted]\n"   \
    "mla    " #word ", " #word ", %[multiplier], %[bias]\n"       \
    "asr    " #first ", " #first ", %[shift]\n"                   \
    "asr    " #word ", " #word ", %[shift]\n"                     \
    "ssat   " #first ", #8, " #first "\n"                         \
    "ssat   " #word ", #8, " #word "\n"

#define TR_PAIR_OPERANDS(scale)                                                                     \
    [multiplier] "r"((scale).multiplier), [bias] "r"((scale).bias), [lifted] "r"((scale).lifted), \
        [shift] "r"((scale).shift)
#endif

/* The constants of a channel: those of tr_requant_shared, or those of tr_requant_narrow, which has words. */
TR_INLINE tr_pair_scale tr_pair_scale_of(const tr_requant *requant, uint32_t channel)
{
    const uint8_t *bytes = requant->bytes + 3U * channel;
    int32_t multiplier = requant->multiplier, bias;
    if (requant->words != NULL) {
        bias = requant->words[channel];
        multiplier = (int16_t)(bias & 0xFFFF);
        bias >>= 16;
    } else {
        bias = (int32_t)(bytes[0] | (uint32_t)bytes[1] << 8) + (int8_t)bytes[2] * 0x10000;
    }
#ifdef __ARM_FEATURE_DSP
    return (tr_pair_scale){(int32_t)((uint32_t)multiplier << (31U - requant->shift)),
                           (uint32_t)bias << (requant->bias_shift + 15U - requant->shift)};
#else
    const uint32_t shifted = (uint32_t)bias << requant->bias_shift;
    return (tr_pair_scale){multiplier, shifted, shifted - ((uint32_t)multiplier << 15), requant->shift};
#endif
}
#endif

#endif
