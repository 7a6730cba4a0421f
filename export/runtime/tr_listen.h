/* From the outputs of a keyword spotter for one window after another to words that are reported, once each: posteriors are
 * averaged over the last windows (Chen, Parada and Heigold 2014, section 2.3); the class with the highest average is reported
 * when it is a keyword's and reaches the threshold, not within the refractory time after a report, and not the same word again
 * before its average has fallen below the threshold. */
#ifndef TR_LISTEN_H
#define TR_LISTEN_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
    uint16_t classes;           /* outputs of the network */
    uint16_t windows;           /* that are averaged */
    uint16_t hop_ms;            /* from one window to the next */
    uint16_t refractory_ms;
    float threshold;            /* of the average, 0 to 1 */
    float scale;                /* of an output */
    int zero_point;             /* of an output */
    int softmax;                /* 1: outputs are logits, of which posteriors are made; 0: they are posteriors */
    const uint8_t *keyword;     /* [classes]: 1 where the class is a keyword's */
} tr_listen_settings;

typedef struct {
    const tr_listen_settings *settings;
    float *posteriors;          /* [windows][classes] of the last windows */
    float *average;             /* [classes] */
    uint32_t heard;             /* windows so far, at most `windows` */
    uint32_t next;              /* where the next one goes */
    uint32_t quiet_ms;          /* that are left of the refractory time */
    int held;                   /* the class that was reported last and has not fallen yet; -1: none */
} tr_listener;

/* Floats of memory that a listener needs. */
#define TR_LISTEN_MEMORY(windows, classes) (((windows) + 1) * (classes))

/* To be called before the first window, and where another stream begins. */
void tr_listen_start(tr_listener *listener, const tr_listen_settings *settings, float *memory);

/* The network's outputs for the next window to the class that is reported, or -1. */
int tr_listen(tr_listener *listener, const int8_t *outputs);

#ifdef __cplusplus
}
#endif
#endif
