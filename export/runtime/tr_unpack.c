/* Packed weights to int8. */
#include "tr_internal.h"

const int8_t *tr_unpack_int8(const uint8_t *packed, uint32_t first, uint32_t count, int8_t *buffer)
{
    (void)count;
    (void)buffer;
    return (const int8_t *)packed + first;
}

/* A table of 2^bits values, then codes of `bits` bits. Reads no byte before it needs it, so none past the end. */
TR_INLINE const int8_t *look_up(const uint8_t *packed, uint32_t first, uint32_t count, int8_t *buffer, uint32_t bits)
{
    const int8_t *const values = (const int8_t *)packed;
    const uint32_t skipped = first * bits % 8U;
    packed += (1U << bits) + first * bits / 8U;
    uint32_t held = 8U - skipped;
    uint32_t codes = (uint32_t)*packed++ >> skipped;
    for (const int8_t *const end = buffer + count;; held -= bits) {
        if (held < bits) {
            codes |= (uint32_t)*packed++ << held;
            held += 8U;
        }
        *buffer++ = values[codes & ((1U << bits) - 1U)];
        codes >>= bits;
        if (buffer == end) {
            return end - count;
        }
    }
}

const int8_t *tr_unpack_nibble(const uint8_t *packed, uint32_t first, uint32_t count, int8_t *buffer)
{
    return look_up(packed, first, count, buffer, 4U);
}

const int8_t *tr_unpack_octal(const uint8_t *packed, uint32_t first, uint32_t count, int8_t *buffer)
{
    return look_up(packed, first, count, buffer, 3U);
}

const int8_t *tr_unpack_quad(const uint8_t *packed, uint32_t first, uint32_t count, int8_t *buffer)
{
    return look_up(packed, first, count, buffer, 2U);
}

const int8_t *tr_unpack_crumb(const uint8_t *packed, uint32_t first, uint32_t count, int8_t *buffer)
{
    for (uint32_t i = 0; i < count; i++) {
        const uint32_t position = first + i;
        buffer[i] = (int8_t)(((packed[position / 4U] >> (2U * (position % 4U))) & 3U) - 1U);
    }
    return buffer;
}

const int8_t *tr_unpack_bit(const uint8_t *packed, uint32_t first, uint32_t count, int8_t *buffer)
{
    for (uint32_t i = 0; i < count; i++) {
        const uint32_t position = first + i;
        buffer[i] = (int8_t)(2 * ((packed[position / 8U] >> (position % 8U)) & 1) - 1);
    }
    return buffer;
}

const int8_t *tr_unpack_trit(const uint8_t *packed, uint32_t first, uint32_t count, int8_t *buffer)
{
    /* A byte is a fraction of 256: times 3, the whole part is the next trit, and the rest is the fraction that follows. */
    uint32_t skipped = first % 5U;
    packed += first / 5U;
    for (uint32_t i = 0; i < count;) {
        uint32_t fraction = *packed++;
        for (uint32_t digit = 0; digit < 5U && i < count; digit++) {
            fraction *= 3U;
            if (digit >= skipped) {
                buffer[i++] = (int8_t)((int32_t)(fraction >> 8) - 1);
            }
            fraction &= 255U;
        }
        skipped = 0;
    }
    return buffer;
}
