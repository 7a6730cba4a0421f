/* CONCATENATION and PAD: bytes go elsewhere. */
#include "tr_runtime.h"

void tr_copy_rows(const int8_t *in, int8_t *out, uint32_t outer, uint32_t from, uint32_t to, uint32_t at)
{
    for (uint32_t row = 0; row < outer; row++) {
        memcpy(out + row * to + at, in + row * from, from);
    }
}

void tr_pad(const tr_pad_layer *layer, const int8_t *in, int8_t *out)
{
    const uint16_t *to = layer->out_shape;
    const uint16_t *from = layer->in_shape;
    const uint16_t *before = layer->before;
    memset(out, layer->value, (uint32_t)to[0] * to[1] * to[2] * to[3]);
    for (uint32_t a = 0; a < from[0]; a++) {
        for (uint32_t b = 0; b < from[1]; b++) {
            for (uint32_t c = 0; c < from[2]; c++) {
                const uint32_t row = ((a + before[0]) * to[1] + b + before[1]) * to[2] + c + before[2];
                memcpy(out + row * to[3] + before[3], in, from[3]);
                in += from[3];
            }
        }
    }
}
