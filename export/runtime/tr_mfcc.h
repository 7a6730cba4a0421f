/* Mel-frequency cepstral coefficients of one clip, as librosa computes them with center=False, in single precision. */
#ifndef TR_MFCC_H
#define TR_MFCC_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The settings and tables of model_frontend.h. */
typedef struct {
    uint16_t frames, coefficients, fft_size, hop, bands; /* fft_size: a power of two, from 4 on */
    float amin, top_db;
    const float *window;                           /* [fft_size] */
    const uint16_t *filter_start, *filter_length;  /* [bands] */
    const float *filter_weights;                   /* those of all bands, one after another */
    const float *transform;                        /* [coefficients][bands] */
    const float *low, *steps;                      /* [coefficients] */
} tr_mfcc_settings;

/* Floats of scratch that tr_mfcc needs. */
#define TR_MFCC_SCRATCH(frames, bands, fft_size) ((frames) * (bands) + 3 * (fft_size))

/* A clip of (frames - 1) * hop + fft_size samples to the network's input, [frames][coefficients]. */
void tr_mfcc(const tr_mfcc_settings *settings, const int16_t *clip, float *scratch, int8_t *features);

#ifdef __cplusplus
}
#endif
#endif
