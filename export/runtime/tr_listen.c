/* See tr_listen.h. */
#include "tr_listen.h"

#include <math.h>

void tr_listen_start(tr_listener *listener, const tr_listen_settings *settings, float *memory)
{
    listener->settings = settings;
    listener->posteriors = memory;
    listener->average = memory + (uint32_t)settings->windows * settings->classes;
    listener->heard = 0;
    listener->next = 0;
    listener->quiet_ms = 0;
    listener->held = -1;
}

static void posteriors_of(const tr_listen_settings *s, const int8_t *outputs, float *posteriors)
{
    float largest = -1e30f, sum = 0;

    for (uint32_t i = 0; i < s->classes; i++) {
        posteriors[i] = s->scale * (float)(outputs[i] - s->zero_point);
        largest = posteriors[i] > largest ? posteriors[i] : largest;
    }
    if (!s->softmax) {
        return;
    }
    for (uint32_t i = 0; i < s->classes; i++) {
        posteriors[i] = expf(posteriors[i] - largest);
        sum += posteriors[i];
    }
    for (uint32_t i = 0; i < s->classes; i++) {
        posteriors[i] /= sum;
    }
}

/* Averages what is there; returns the class with the highest average. */
static int averaged(tr_listener *listener)
{
    const tr_listen_settings *const s = listener->settings;
    int best = 0;

    for (uint32_t i = 0; i < s->classes; i++) {
        float sum = 0;

        for (uint32_t window = 0; window < listener->heard; window++) {
            sum += listener->posteriors[window * s->classes + i];
        }
        listener->average[i] = sum / (float)listener->heard;
        best = listener->average[i] > listener->average[best] ? (int)i : best;
    }
    return best;
}

int tr_listen(tr_listener *listener, const int8_t *outputs)
{
    const tr_listen_settings *const s = listener->settings;
    const uint32_t quiet = listener->quiet_ms;
    int best;

    posteriors_of(s, outputs, listener->posteriors + listener->next * s->classes);
    listener->next = (listener->next + 1) % s->windows;
    if (listener->heard < s->windows) {
        listener->heard++;
    }
    best = averaged(listener);
    listener->quiet_ms = quiet > s->hop_ms ? quiet - s->hop_ms : 0;
    if (listener->held >= 0 && listener->average[listener->held] < s->threshold) {
        listener->held = -1;
    }
    if (!s->keyword[best] || listener->average[best] < s->threshold || best == listener->held || quiet > 0) {
        return -1;
    }
    listener->held = best;
    listener->quiet_ms = s->refractory_ms > s->hop_ms ? s->refractory_ms - s->hop_ms : 0;
    return best;
}
