/* Sums to int8, in five forms: see tr_runtime.h. */
#include "tr_internal.h"

#if defined(__thumb2__) && defined(__OPTIMIZE__)
#define FAST
#if defined(__ARM_FEATURE_DSP) && !defined(__OPTIMIZE_SIZE__) /* 350 bytes */
#define FAST_WIDE
#endif

/* Four outputs, `stride` apart. */
#define STORE_FOUR                                        \
    "strb   r4, [%[out]]\n"                               \
    "strb   r5, [%[out], %[stride]]\n"                    \
    "strb   r6, [%[out], %[stride], lsl #1]\n"            \
    "add    %[out], %[out], %[stride]\n"                  \
    "strb   r8, [%[out], %[stride], lsl #1]\n"            \
    "add    %[out], %[out], %[stride]\n"                  \
    "add    %[out], %[out], %[stride], lsl #1\n"

#define SCALE(sum)                                        \
    "mla    " #sum ", " #sum ", %[multiplier], %[bias]\n" \
    "asr    " #sum ", " #sum ", %[shift]\n"               \
    "ssat   " #sum ", #8, " #sum "\n"
#endif

TR_INLINE int8_t saturate(int32_t value)
{
#ifdef __ARM_FEATURE_SAT
    int32_t result;
    __asm__("ssat %0, #8, %1" : "=r"(result) : "r"(value));
    return (int8_t)result;
#else
    return tr_clamp(value, INT8_MIN, INT8_MAX);
#endif
}

/* a * b * 2^-32, rounded to nearest, halves up, + base. */
TR_INLINE int32_t add_high_product(int32_t base, int32_t a, int32_t b)
{
#ifdef __ARM_FEATURE_DSP
    int32_t result;
    __asm__("smmlar %0, %1, %2, %3" : "=r"(result) : "r"(a), "r"(b), "r"(base));
    return result;
#else
    return base + (int32_t)(((int64_t)a * b + INT64_C(0x80000000)) >> 32);
#endif
}

/* Brings outputs, saturated so far, within the fused activation where that is narrower than int8. */
static void clamp_channels(const tr_requant *requant, uint32_t channels, uint32_t pixels, int8_t *out, uint32_t stride)
{
    if (requant->high - requant->low == UINT8_MAX) {
        return;
    }
    for (; pixels != 0U; pixels--, out += stride) {
        for (uint32_t i = 0; i < channels; i++) {
            out[i] = tr_clamp(out[i], requant->low, requant->high);
        }
    }
}

/* One channel; `shift` 0 to 31. */
TR_INLINE void scale_channel(int32_t multiplier, int32_t bias, uint32_t shift, const int32_t *sums, uint32_t pixels,
                             int8_t *out, uint32_t stride)
{
#ifdef FAST
    for (; pixels >= 4U; pixels -= 4U) {
        __asm__ volatile(
            "ldm    %[sums]!, {r4, r5, r6, r8}\n"
            SCALE(r4) SCALE(r5) SCALE(r6) SCALE(r8)
            STORE_FOUR
            : [sums] "+&r"(sums), [out] "+&r"(out)
            : [multiplier] "r"(multiplier), [bias] "r"(bias), [shift] "r"(shift), [stride] "r"(stride)
            : "r4", "r5", "r6", "r8", "memory");
    }
#endif
    for (; pixels != 0U; pixels--, out += stride) {
        *out = saturate((*sums++ * multiplier + bias) >> shift);
    }
}

/* A signed number of three bytes, the lowest first. */
TR_INLINE int32_t three_bytes(const uint8_t *bytes)
{
    return (int32_t)(bytes[0] | (uint32_t)bytes[1] << 8) + (int8_t)bytes[2] * 0x10000;
}

void tr_requant_shared(const tr_requant *requant, uint32_t first, uint32_t channels, const int32_t *sums, uint32_t pixels,
                       int8_t *out, uint32_t stride)
{
    const uint8_t *bytes = requant->bytes + 3U * first;
    const int32_t multiplier = requant->multiplier;
    const uint32_t shift = requant->shift, bias_shift = requant->bias_shift;
    for (uint32_t i = 0; i < channels; i++, bytes += 3) {
        const int32_t bias = (int32_t)((uint32_t)three_bytes(bytes) << bias_shift);
        scale_channel(multiplier, bias, shift, sums + i * pixels, pixels, out + i, stride);
    }
    clamp_channels(requant, channels, pixels, out, stride);
}

void tr_requant_narrow(const tr_requant *requant, uint32_t first, uint32_t channels, const int32_t *sums, uint32_t pixels,
                       int8_t *out, uint32_t stride)
{
    const int32_t *words = requant->words + first;
    const uint32_t shift = requant->shift, bias_shift = requant->bias_shift;
    for (uint32_t i = 0; i < channels; i++) {
        const int32_t word = *words++;
        const int32_t bias = (int32_t)((uint32_t)(word >> 16) << bias_shift);
        scale_channel((int16_t)(word & 0xFFFF), bias, shift, sums + i * pixels, pixels, out + i, stride);
    }
    clamp_channels(requant, channels, pixels, out, stride);
}

#ifdef FAST_WIDE
/* Of scale 1, with twice the bias, where values below zero are clamped, however they are rounded. */
#define CLAMPED(sum, bias, multiplier, offset, shift)                                   \
    "add    " #sum ", " bias ", " #sum ", lsl #1\n"                                     \
    "smmlar " #sum ", " #sum ", " multiplier ", " offset "\n"                           \
    "asr    " #sum ", " #sum ", " shift "\n"                                            \
    "ssat   " #sum ", #8, " #sum "\n"

#define ONE(sum) CLAMPED(sum, "%[bias]", "%[multiplier]", "%[offset]", "%[shift]")
#define NEXT(sum) CLAMPED(sum, "r10", "r9", "r12", "lr")

/* Leave twice the bias in r10, the multiplier in r9 and the shift in lr. */
#define DECODE_WIDE                                                 \
    "ldrh   r4, [%[bytes]], #2\n"                                   \
    "ldrsb  r5, [%[bytes]], #1\n"                                   \
    "ldr    r6, %[bias_shift]\n"                                    \
    "ldr    lr, %[shift]\n"                                         \
    "orr    r4, r4, r5, lsl #16\n"                                  \
    "asr    r10, r4, r6\n"                                          \
    "lsl    r5, r10, r6\n"                                          \
    "sub    r4, r4, r5\n"                                           \
    "add    lr, lr, r4\n"                                           \
    "lsl    r10, r10, #1\n"                                         \
    "ldr    r9, [%[words]], #4\n"

#define DECODE_BROAD                                                \
    "ldrd   r10, r9, [%[words]], #8\n"                              \
    "ldrb   lr, [%[bytes]], #1\n"                                   \
    "lsl    r10, r10, #1\n"

/* Four pixels of each channel. What differs from channel to channel is decoded here, too: compilers would spend more on that than
 * on the outputs. */
#define CHANNELS(decode)                                                                                                \
    __asm__ volatile(                                                                                                   \
        "1:\n"                                                                                                          \
        decode                                                                                                          \
        "ldr    r12, %[offset]\n"                                                                                       \
        "ldm    %[sums]!, {r4, r5, r6, r8}\n"                                                                           \
        "lsl    r12, r12, lr\n"                                                                                         \
        "asr    r12, r12, #1\n"                                                                                         \
        NEXT(r4) NEXT(r5) NEXT(r6) NEXT(r8)                                                                             \
        "add    r9, %[out], %[stride]\n"                                                                                \
        "strb   r5, [%[out], %[stride]]\n"                                                                              \
        "strb   r6, [%[out], %[stride], lsl #1]\n"                                                                      \
        "strb   r8, [r9, %[stride], lsl #1]\n"                                                                          \
        "strb   r4, [%[out]], #1\n"                                                                                     \
        "ldr    r4, %[end]\n"                                                                                           \
        "cmp    %[sums], r4\n"                                                                                          \
        "bne    1b\n"                                                                                                   \
        : [sums] "+&r"(sums), [out] "+&r"(out), [bytes] "+&r"(bytes), [words] "+&r"(words)                              \
        : [stride] "r"(stride), [bias_shift] "m"(bias_shift), [shift] "m"(shift), [offset] "m"(offset), [end] "m"(end)   \
        : "r4", "r5", "r6", "r8", "r9", "r10", "r12", "lr", "cc", "memory")

TR_NOINLINE static void scale_wide_fours(const tr_requant *requant, const uint8_t *bytes, const int32_t *words,
                                         const int32_t *sums, const int32_t *end, int8_t *out, uint32_t stride)
{
    const uint32_t bias_shift = requant->bias_shift, shift = requant->shift;
    const int32_t offset = 2 * requant->zero + 1;
    CHANNELS(DECODE_WIDE);
}

TR_NOINLINE static void scale_broad_fours(const tr_requant *requant, const uint8_t *bytes, const int32_t *words,
                                          const int32_t *sums, const int32_t *end, int8_t *out, uint32_t stride)
{
    const uint32_t bias_shift = 0, shift = 0;
    const int32_t offset = 2 * requant->zero + 1;
    CHANNELS(DECODE_BROAD);
}
#else
#define scale_wide_fours(requant, bytes, words, sums, end, out, stride) ((void)(end))
#define scale_broad_fours(requant, bytes, words, sums, end, out, stride) ((void)(end))
#endif

/* Whether the functions above take it. */
TR_INLINE int in_fours(const tr_requant *requant, uint32_t pixels)
{
#ifdef FAST_WIDE
    return pixels == 4U && requant->scale == 1 && requant->words != NULL && requant->low >= requant->zero;
#else
    (void)requant;
    (void)pixels;
    return 0;
#endif
}

/* One channel, with twice the bias: times the multiplier, rounded to the high word, that is the first rounding. */
TR_NOINLINE static void scale_twice(const tr_requant *requant, int32_t bias, int32_t multiplier, uint32_t shift,
                                    const int32_t *sums, uint32_t pixels, int8_t *out, uint32_t stride)
{
    const int32_t scale = 2 * requant->scale;
    const int32_t offset = requant->zero * (1 << shift) + (1 << (shift - 1U));
    const int32_t *const end = sums + pixels;
#ifdef FAST_WIDE
    if (requant->low >= requant->zero && scale == 2) {
        for (const int32_t *last = sums + (pixels & ~3U); sums != last;) {
            __asm__ volatile(
                "ldm    %[sums]!, {r4, r5, r6, r8}\n"
                ONE(r4) ONE(r5) ONE(r6) ONE(r8)
                STORE_FOUR
                : [sums] "+&r"(sums), [out] "+&r"(out)
                : [bias] "r"(bias), [multiplier] "r"(multiplier), [offset] "r"(offset), [shift] "r"(shift),
                  [stride] "r"(stride)
                : "r4", "r5", "r6", "r8", "memory");
        }
    }
#endif
    for (; sums != end; out += stride) {
        const int32_t value = add_high_product(0, *sums++ * scale + bias, multiplier);
        *out = saturate((value - (int32_t)((uint32_t)value >> 31) + offset) >> shift); /* halves away from zero */
    }
}

void tr_requant_wide(const tr_requant *requant, uint32_t first, uint32_t channels, const int32_t *sums, uint32_t pixels,
                     int8_t *out, uint32_t stride)
{
    const int32_t *words = requant->words == NULL ? NULL : requant->words + first;
    const uint8_t *bytes = requant->bytes + 3U * first;
    int32_t multiplier = requant->multiplier;
    if (in_fours(requant, pixels)) {
        scale_wide_fours(requant, bytes, words, sums, sums + 4U * channels, out, stride);
    } else {
        for (uint32_t i = 0; i < channels; i++, bytes += 3, sums += pixels) {
            const int32_t packed = three_bytes(bytes);
            const uint32_t more = (uint32_t)packed & ((1U << requant->bias_shift) - 1U);
            if (words != NULL) {
                multiplier = *words++;
            }
            scale_twice(requant, 2 * (packed >> requant->bias_shift), multiplier, requant->shift + more, sums, pixels, out + i,
                        stride);
        }
    }
    clamp_channels(requant, channels, pixels, out, stride);
}

void tr_requant_broad(const tr_requant *requant, uint32_t first, uint32_t channels, const int32_t *sums, uint32_t pixels,
                      int8_t *out, uint32_t stride)
{
    const int32_t *words = requant->words + 2U * first;
    const uint8_t *bytes = requant->bytes + first;
    if (in_fours(requant, pixels)) {
        scale_broad_fours(requant, bytes, words, sums, sums + 4U * channels, out, stride);
    } else {
        for (uint32_t i = 0; i < channels; i++, words += 2, sums += pixels) {
            scale_twice(requant, 2 * words[0], words[1], bytes[i], sums, pixels, out + i, stride);
        }
    }
    clamp_channels(requant, channels, pixels, out, stride);
}

void tr_requant_exact(const tr_requant *requant, uint32_t first, uint32_t channels, const int32_t *sums, uint32_t pixels,
                      int8_t *out, uint32_t stride)
{
    const int32_t *words = requant->words + 2U * first;
    for (uint32_t channel = 0; channel < channels; channel++) {
        const int32_t bias = *words++;
        const int32_t multiplier = *words++;
        const int8_t shift = (int8_t)requant->bytes[first + channel];
        for (uint32_t pixel = 0; pixel < pixels; pixel++) {
            const int32_t value = tr_multiply(*sums++ * requant->scale + bias, multiplier, shift) + requant->zero;
            out[pixel * stride + channel] = tr_clamp(value, requant->low, requant->high);
        }
    }
}
