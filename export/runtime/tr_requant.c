/* Sums to int8, in four forms: see tr_runtime.h. */
#include "tr_internal.h"

#if defined(__thumb2__) && defined(__OPTIMIZE__)
#define FAST
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
            "strb   r4, [%[out]]\n"
            "strb   r5, [%[out], %[stride]]\n"
            "strb   r6, [%[out], %[stride], lsl #1]\n"
            "add    %[out], %[out], %[stride]\n"
            "strb   r8, [%[out], %[stride], lsl #1]\n"
            "add    %[out], %[out], %[stride]\n"
            "add    %[out], %[out], %[stride], lsl #1\n"
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

void tr_requant_wide(const tr_requant *requant, uint32_t first, uint32_t channels, const int32_t *sums, uint32_t pixels,
                     int8_t *out, uint32_t stride)
{
    const int32_t *words = requant->words == NULL ? NULL : requant->words + first;
    const uint8_t *bytes = requant->bytes + 3U * first;
    /* Twice x, times the multiplier, rounded to the high word: the first rounding. */
    const int32_t scale = 2 * requant->scale;
    const int clamped = requant->low >= requant->zero; /* values below zero are clamped, however they are rounded */
    for (uint32_t i = 0; i < channels; i++, bytes += 3) {
        const int32_t packed = three_bytes(bytes);
        const int32_t bias = 2 * (packed >> requant->bias_shift);
        const uint32_t distant = (uint32_t)packed & ((1U << requant->bias_shift) - 1U);
        const uint32_t word = (uint32_t)(words == NULL ? requant->multiplier : *words++);
        const int32_t multiplier = (int32_t)((word & 0x3FFFFFFFU) | 0x40000000U);
        const uint32_t shift = requant->shift + (word >> 30) + 4U * distant;
        const int32_t offset = requant->zero * (1 << shift) + (1 << (shift - 1U));
        const int32_t *end = sums + pixels;
        int8_t *next = out + i;
        if (clamped) {
            for (; sums != end; next += stride) {
                *next = saturate(add_high_product(offset, *sums++ * scale + bias, multiplier) >> shift);
            }
        } else {
            for (; sums != end; next += stride) {
                const int32_t value = add_high_product(0, *sums++ * scale + bias, multiplier);
                *next = saturate((value - (int32_t)((uint32_t)value >> 31) + offset) >> shift); /* halves away from zero */
            }
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
