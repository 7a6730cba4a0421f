/* FULLY_CONNECTED of one pixel, and CONV_2D where RAM is short: pixel by pixel, four outputs for each pass over its window,
 * straight from the weights where those are int8.
 *
 * With the DSP instructions, 25 of them do sixteen multiply-accumulates, and nothing is widened beforehand.
 */
#include "tr_window.h"

#define ROWS 4U

/* The sums of four outputs, whose weights begin `stride` bytes apart. */
TR_NOINLINE static void multiply(const int8_t *in, uint32_t taps, const int8_t *weights, uint32_t stride, int32_t *sums)
{
    const int8_t *end = in + taps, *second = weights + 2U * stride;
    int32_t a = 0, b = 0, c = 0, d = 0;
#if defined(__ARM_FEATURE_DSP) && defined(__thumb2__) && defined(__OPTIMIZE__)
    const int8_t *const words = in + (taps & ~3U);
    if (in != words) {
        __asm__(
            "1:\n"
            "ldr    r12, [%[in]], #4\n"
            "ldr    r9, [%[first], %[stride]]\n"
            "sxtb16 r8, r12\n"
            "sxtb16 r12, r12, ror #8\n"
            "sxtb16 lr, r9\n"
            "sxtb16 r9, r9, ror #8\n"
            "smlad  %[b], r8, lr, %[b]\n"
            "smlad  %[b], r12, r9, %[b]\n"
            "ldr    r9, [%[first]], #4\n"
            "sxtb16 lr, r9\n"
            "sxtb16 r9, r9, ror #8\n"
            "smlad  %[a], r8, lr, %[a]\n"
            "smlad  %[a], r12, r9, %[a]\n"
            "ldr    r9, [%[second], %[stride]]\n"
            "sxtb16 lr, r9\n"
            "sxtb16 r9, r9, ror #8\n"
            "smlad  %[d], r8, lr, %[d]\n"
            "smlad  %[d], r12, r9, %[d]\n"
            "ldr    r9, [%[second]], #4\n"
            "sxtb16 lr, r9\n"
            "sxtb16 r9, r9, ror #8\n"
            "smlad  %[c], r8, lr, %[c]\n"
            "smlad  %[c], r12, r9, %[c]\n"
            "cmp    %[in], %[end]\n"
            "bne    1b\n"
            : [in] "+r"(in), [first] "+r"(weights), [second] "+r"(second), [a] "+r"(a), [b] "+r"(b), [c] "+r"(c), [d] "+r"(d)
            : [stride] "r"(stride), [end] "r"(words)
            : "r8", "r9", "r12", "lr", "cc", "memory");
    }
#endif
    while (in != end) {
        const int32_t value = *in++;
        a += value * weights[0];
        b += value * weights[stride];
        c += value * second[0];
        d += value * second[stride];
        weights++;
        second++;
    }
    sums[0] = a;
    sums[1] = b;
    sums[2] = c;
    sums[3] = d;
}

void tr_lean_conv(const tr_conv *layer, const int8_t *in, int8_t *out, void *scratch)
{
    const tr_window *shape = &layer->window;
    const uint32_t channels = shape->out.channels, taps = (uint32_t)shape->height * shape->width * shape->in.channels;
    const uint32_t total = (uint32_t)shape->out.height * shape->out.width;
    const uint32_t rows = channels < ROWS ? 1U : ROWS;
    int32_t sums[ROWS];
    for (uint32_t pixel = 0; pixel < total; pixel++, out += channels) {
        const int8_t *window = tr_window_at(layer, in, pixel, scratch);
        int8_t *buffer = window == scratch ? (int8_t *)scratch + taps : scratch;
        for (uint32_t done = 0; done < channels; done += rows) {
            /* The last four outputs, where fewer are left: some are computed again, and none is written twice. */
            const uint32_t first = channels - done < rows ? channels - rows : done;
            const int8_t *weights = layer->unpack(layer->weights, first * taps, rows * taps, buffer);
            multiply(window, taps, weights, rows == ROWS ? taps : 0U, sums);
            layer->requant.apply(&layer->requant, done, first + rows - done, sums + (done - first), 1U, out + done, channels);
        }
    }
}
