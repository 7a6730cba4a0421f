/* Packed weights to int8. */
#include "tr_runtime.h"

const int8_t *tr_unpack_int8(const uint8_t *packed, uint32_t first, uint32_t count, int8_t *buffer)
{
    (void)count;
    (void)buffer;
    return (const int8_t *)packed + first;
}

const int8_t *tr_unpack_nibble(const uint8_t *packed, uint32_t first, uint32_t count, int8_t *buffer)
{
    const int8_t *values = (const int8_t *)packed;
    for (uint32_t i = 0; i < count; i++) {
        const uint32_t position = first + i;
        buffer[i] = values[(packed[16U + position / 2U] >> (4U * (position % 2U))) & 15U];
    }
    return buffer;
}

const int8_t *tr_unpack_crumb(const uint8_t *packed, uint32_t first, uint32_t count, int8_t *buffer)
{
    for (uint32_t i = 0; i < count; i++) {
        const uint32_t position = first + i;
        buffer[i] = (int8_t)(((packed[position / 4U] >> (2U * (position % 4U))) & 3U) - 1U);
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
