/* See tr_mfcc.h. */
#include "tr_mfcc.h"

#include <math.h>

static const float pi = 3.14159265f;

/* In place, `size` complex numbers, real and imaginary parts apart; `cosine[i]` is cos(2 pi i / size). Radix two, decimation in
 * time. */
static void transform(float *re, float *im, const float *cosine, uint32_t size)
{
    for (uint32_t i = 1, j = 0; i < size; i++) {
        uint32_t bit = size >> 1;

        for (; (j & bit) != 0; bit >>= 1) {
            j ^= bit;
        }
        j |= bit;
        if (i < j) {
            const float a = re[i], b = im[i];

            re[i] = re[j];
            im[i] = im[j];
            re[j] = a;
            im[j] = b;
        }
    }
    for (uint32_t half = 1; half < size; half *= 2) {
        const uint32_t stride = size / (2 * half);

        for (uint32_t start = 0; start < size; start += 2 * half) {
            for (uint32_t k = 0; k < half; k++) {
                const uint32_t turn = k * stride, low = start + k, high = low + half;
                const float c = cosine[turn], s = -cosine[(turn + 3 * size / 4) % size]; /* exp(-i angle) */
                const float a = re[high] * c - im[high] * s, b = re[high] * s + im[high] * c;

                re[high] = re[low] - a;
                im[high] = im[low] - b;
                re[low] += a;
                im[low] += b;
            }
        }
    }
}

/* Decibels of every band of every frame; returns the largest. */
static float loudness(const tr_mfcc_settings *s, const int16_t *clip, float *decibels, float *work)
{
    float *const re = work, *const im = re + s->fft_size, *const cosine = im + s->fft_size;
    float loudest = -1e9f;

    for (uint32_t i = 0; i < s->fft_size; i++) {
        cosine[i] = cosf(2 * pi * (float)i / (float)s->fft_size);
    }
    for (uint32_t frame = 0; frame < s->frames; frame++) {
        const int16_t *const sound = clip + frame * s->hop;
        const float *weight = s->filter_weights;

        for (uint32_t i = 0; i < s->fft_size; i++) {
            re[i] = s->window[i] * (float)sound[i] / 32768.0f;
            im[i] = 0;
        }
        transform(re, im, cosine, s->fft_size);
        for (uint32_t band = 0; band < s->bands; band++) {
            float power = 0, value;

            for (uint32_t k = s->filter_start[band]; k < (uint32_t)s->filter_start[band] + s->filter_length[band]; k++) {
                power += *weight++ * (re[k] * re[k] + im[k] * im[k]);
            }
            value = 10.0f * log10f(power > s->amin ? power : s->amin);
            decibels[frame * s->bands + band] = value;
            loudest = value > loudest ? value : loudest;
        }
    }
    return loudest;
}

void tr_mfcc(const tr_mfcc_settings *s, const int16_t *clip, float *scratch, int8_t *features)
{
    const float floor_db = loudness(s, clip, scratch, scratch + (uint32_t)s->frames * s->bands) - s->top_db;

    for (uint32_t frame = 0; frame < s->frames; frame++) {
        float *const decibels = scratch + frame * s->bands;

        for (uint32_t band = 0; band < s->bands; band++) {
            decibels[band] = decibels[band] < floor_db ? floor_db : decibels[band];
        }
        for (uint32_t c = 0; c < s->coefficients; c++) {
            float sum = 0, step;

            for (uint32_t band = 0; band < s->bands; band++) {
                sum += s->transform[c * s->bands + band] * decibels[band];
            }
            step = floorf((sum - s->low[c]) * s->steps[c] + 0.5f);
            step = step < 0 ? 0 : step > 255 ? 255 : step;
            features[frame * s->coefficients + c] = (int8_t)((int)step - 128);
        }
    }
}
