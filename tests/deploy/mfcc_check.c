/* tr_mfcc with the exported header, held against the exported test vectors. */
#include <stdio.h>
#include <stdlib.h>

#include "model_frontend.h"
#include "model_frontend_vectors.h"
#include "tr_mfcc.h"

int main(void) {
  static const tr_mfcc_settings settings = {
      TONES_FRONTEND_FRAMES, TONES_FRONTEND_COEFFICIENTS, TONES_FRONTEND_FFT_SIZE, TONES_FRONTEND_HOP, TONES_FRONTEND_BANDS,
      TONES_FRONTEND_AMIN, TONES_FRONTEND_TOP_DB, tones_frontend_window, tones_frontend_filter_start, tones_frontend_filter_length,
      tones_frontend_filter_weights, &tones_frontend_transform[0][0], tones_frontend_low, tones_frontend_steps};
  static float scratch[TR_MFCC_SCRATCH(TONES_FRONTEND_FRAMES, TONES_FRONTEND_BANDS, TONES_FRONTEND_FFT_SIZE)];
  static int8_t features[TONES_FRONTEND_FRAMES * TONES_FRONTEND_COEFFICIENTS];
  int different = 0, most = 0;
  for (int v = 0; v < TONES_VECTORS; ++v) {
    tr_mfcc(&settings, tones_vector_audio[v], scratch, features);
    for (int i = 0; i < TONES_FRONTEND_FRAMES * TONES_FRONTEND_COEFFICIENTS; ++i) {
      const int off = abs(features[i] - tones_vector_features[v][i]);
      different += off > 0;
      if (off > most) most = off;
    }
  }
  printf("%d %d %d\n", TONES_VECTORS * TONES_FRONTEND_FRAMES * TONES_FRONTEND_COEFFICIENTS, different, most);
  return 0;
}
