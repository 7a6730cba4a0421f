/* A front end written from nothing but the exported header, held against the exported test vectors. Slow and plain. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "model_frontend.h"
#include "model_frontend_vectors.h"

#define FFT TONES_FRONTEND_FFT_SIZE
#define BINS TONES_FRONTEND_BINS
#define BANDS TONES_FRONTEND_BANDS
#define FRAMES TONES_FRONTEND_FRAMES
#define COEFFICIENTS TONES_FRONTEND_COEFFICIENTS

static double cosine[FFT];
static double loudness[FRAMES][BANDS];

static double power_at(const int16_t *frame, int bin) {
  double re = 0, im = 0;
  for (int i = 0; i < FFT; ++i) {
    const double x = (double)tones_frontend_window[i] * frame[i] / 32768.0;
    re += x * cosine[(i * bin) % FFT];
    im += x * cosine[(i * bin + FFT / 4) % FFT];
  }
  return re * re + im * im;
}

static void hear(const int16_t *audio) {
  double loudest = -1e9;
  for (int f = 0; f < FRAMES; ++f) {
    double power[BINS];
    for (int k = 0; k < BINS; ++k) power[k] = power_at(audio + f * TONES_FRONTEND_HOP, k);
    int at = 0;
    for (int m = 0; m < BANDS; ++m) {
      double band = 0;
      for (int k = 0; k < tones_frontend_filter_length[m]; ++k)
        band += (double)tones_frontend_filter_weights[at++] * power[tones_frontend_filter_start[m] + k];
      loudness[f][m] = 10.0 * log10(band > (double)TONES_FRONTEND_AMIN ? band : (double)TONES_FRONTEND_AMIN);
      if (loudness[f][m] > loudest) loudest = loudness[f][m];
    }
  }
  const double floor_db = loudest - (double)TONES_FRONTEND_TOP_DB;
  for (int f = 0; f < FRAMES; ++f)
    for (int m = 0; m < BANDS; ++m)
      if (loudness[f][m] < floor_db) loudness[f][m] = floor_db;
}

int main(void) {
  for (int i = 0; i < FFT; ++i) cosine[i] = cos(2 * 3.14159265358979323846 * i / FFT);
  int different = 0, most = 0;
  for (int v = 0; v < TONES_VECTORS; ++v) {
    hear(tones_vector_audio[v]);
    for (int f = 0; f < FRAMES; ++f)
      for (int c = 0; c < COEFFICIENTS; ++c) {
        double sum = 0;
        for (int m = 0; m < BANDS; ++m) sum += (double)tones_frontend_transform[c][m] * loudness[f][m];
        double step = floor((sum - (double)tones_frontend_low[c]) * (double)tones_frontend_steps[c] + 0.5);
        if (step < 0) step = 0;
        if (step > 255) step = 255;
        const int off = abs((int)step - 128 - tones_vector_features[v][f * COEFFICIENTS + c]);
        different += off > 0;
        if (off > most) most = off;
      }
  }
  printf("%d %d %d\n", TONES_VECTORS * FRAMES * COEFFICIENTS, different, most);
  return 0;
}
