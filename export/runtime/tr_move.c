/* Operators that compute nothing: bytes go elsewhere. */
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

void tr_move(const tr_move_layer *layer, const int8_t *in, int8_t *out)
{
    const uint32_t *shape = layer->shape;
    const int32_t *stride = layer->stride;
    in += layer->start;
    for (uint32_t a = 0; a < shape[0]; a++) {
        for (uint32_t b = 0; b < shape[1]; b++) {
            for (uint32_t c = 0; c < shape[2]; c++) {
                for (uint32_t d = 0; d < shape[3]; d++) {
                    const int8_t *row = in + (int32_t)a * stride[0] + (int32_t)b * stride[1] + (int32_t)c * stride[2]
                                        + (int32_t)d * stride[3];
                    if (stride[4] == 1) {
                        memcpy(out, row, shape[4]);
                    } else {
                        for (uint32_t e = 0; e < shape[4]; e++) {
                            out[e] = row[(int32_t)e * stride[4]];
                        }
                    }
                    out += shape[4];
                }
            }
        }
    }
}

void tr_resize_nearest(const tr_resize_layer *layer, const int8_t *in, int8_t *out)
{
    for (uint32_t y = 0; y < layer->height; y++) {
        const int8_t *row = in + (uint32_t)layer->rows[y] * layer->width * layer->channels;
        for (uint32_t x = 0; x < layer->out_width; x++, out += layer->channels) {
            memcpy(out, row + (uint32_t)layer->columns[x] * layer->channels, layer->channels);
        }
    }
}
