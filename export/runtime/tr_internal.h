/* What kernels share and models do not see. */
#ifndef TR_INTERNAL_H
#define TR_INTERNAL_H

#include "tr_runtime.h"

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "Expected a little-endian processor: kernels read weights and inputs by the word."
#endif

/* For hot loops at -Os: what has to be inlined, and what has to keep the registers to itself. */
#ifdef __GNUC__
#define TR_INLINE static inline __attribute__((always_inline))
#define TR_NOINLINE __attribute__((noinline))
#else
#define TR_INLINE static inline
#define TR_NOINLINE
#endif

static inline int8_t tr_clamp(int32_t value, int8_t low, int8_t high)
{
    return (int8_t)(value < low ? low : value > high ? high : value);
}

/* a * b * 2^-31, rounded to nearest, halves up: gemmlowp's SaturatingRoundingDoublingHighMul where it does not saturate. */
static inline int32_t tr_high_product(int32_t a, int32_t b)
{
    return (int32_t)(((int64_t)a * b + (1 << 30)) >> 31);
}

/* value * 2^-exponent, rounded to nearest, halves away from zero; exponent from 0 to 31. */
static inline int32_t tr_divide_by_power(int32_t value, uint32_t exponent)
{
    const int32_t mask = (int32_t)((UINT32_C(1) << exponent) - 1U);
    const int32_t threshold = (int32_t)((uint32_t)mask >> 1) + (value < 0);
    return (value >> exponent) + ((value & mask) > threshold);
}

/* TensorFlow Lite's MultiplyByQuantizedMultiplier with its two roundings; a positive shift is to the left, and wraps. */
static inline int32_t tr_multiply(int32_t value, int32_t multiplier, int8_t shift)
{
    const uint32_t left = shift > 0 ? (uint32_t)shift : 0U;
    const uint32_t right = shift > 0 ? 0U : (uint32_t)-shift;
    return tr_divide_by_power(tr_high_product((int32_t)((uint32_t)value << left), multiplier), right);
}

#endif
