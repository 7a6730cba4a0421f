/* The kernels that generated models call. C99, int8, bit-exact with TensorFlow Lite Micro's reference kernels.
 *
 * No heap, no floating point, nothing from libc but memcpy and memset. Tensors are NHWC with a batch of one. Everything a
 * kernel needs lies in a constant description in flash; unused kernels, formats and forms are dropped by the linker
 * (-ffunction-sections -Wl,--gc-sections), because descriptions name what they need by pointer.
 */
#ifndef TR_RUNTIME_H
#define TR_RUNTIME_H

#include <stdint.h>
#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Called before each layer in builds with -DTR_PROFILE; the last call names one past the last layer. */
#ifdef TR_PROFILE
void tr_profile(unsigned layer);
#define TR_LAYER(index) tr_profile(index)
#else
#define TR_LAYER(index) ((void)0)
#endif

/* Output pixels that tr_conv2d gathers, and whose sums it holds, at a time. The generator plans scratch with the same figure. */
#define TR_BLOCK 8U

/* ---- Weights ------------------------------------------------------------------------------------------------------ */

/* Gives weights `first` to `first + count - 1` of a packed stream as int8: in `buffer` of `count` bytes, or where they lie. */
typedef const int8_t *tr_unpack(const uint8_t *packed, uint32_t first, uint32_t count, int8_t *buffer);

tr_unpack tr_unpack_int8;   /* as stored; needs no buffer */
tr_unpack tr_unpack_nibble; /* 16 bytes of values, then indices into them of 4 bits each, low bits first */
tr_unpack tr_unpack_octal;  /* likewise of 8 values, 3 bits each */
tr_unpack tr_unpack_quad;   /* likewise of 4 values, 2 bits each */
tr_unpack tr_unpack_crumb;  /* 2 bits each, low bits first: trit + 1 */
tr_unpack tr_unpack_bit;    /* 1 bit each, low bits first: 0 for -1, 1 for 1 */
tr_unpack tr_unpack_trit;   /* 5 trits a byte, first trit most significant: ceil(256 / 243 * sum of (trit + 1) * 3^(4 - i)) */

/* ---- Requantization: sums to int8 --------------------------------------------------------------------------------- */

typedef struct tr_requant tr_requant;

/* Turns sums[channels][pixels], of output channels from `first` on, into int8: that of channel c and pixel p to
 * out[p * stride + c]. */
typedef void tr_apply(const tr_requant *requant, uint32_t first, uint32_t channels, const int32_t *sums, uint32_t pixels,
                      int8_t *out, uint32_t stride);

/* Five forms; the generator takes the first that it proves equal to TensorFlow Lite's for every reachable sum.
 *
 * shared: biases in three `bytes`; out = clamp((sum * multiplier + bias * 2^bias_shift) >> shift); nothing leaves 32 bits
 * narrow: words with the multiplier in the low 16 bits and the bias in the high ones, both signed; then as shared
 * wide:   words of multipliers, or `multiplier` where all are the same; biases * 2^bias_shift in three `bytes`; the right shift,
 *         from 1 to 22, is `shift` + the biases' low `bias_shift` bits; x = sum * scale + bias below 2^30;
 *         TensorFlow Lite's two roundings, then + zero, then clamp
 * broad:  words of {bias, multiplier}, a byte of right shift; x and the rest as in wide
 * exact:  words of {bias, multiplier}, a byte of shift, positive to the left; any x, and the rest as in wide
 *
 * Three bytes are a signed number, low byte first.
 *
 * `sum` is the sum over weights * inputs *with the input's zero point inside*: the generator has taken it out of the bias,
 * and kernels read the zero point where the window hangs over the edge. `scale` is the magnitude of ternary and binary
 * weights (the kernels add up trits and signs), else 1.
 */
struct tr_requant {
    tr_apply *apply;
    const int32_t *words;
    const uint8_t *bytes;
    int32_t multiplier; /* shared, and wide without words */
    int16_t scale;      /* wide, broad and exact */
    uint8_t shift;      /* shared, narrow and wide */
    uint8_t bias_shift; /* shared, narrow and wide */
    int8_t zero;        /* the output's zero point; wide, broad and exact */
    int8_t low, high;   /* clamp: the fused activation within int8 */
    uint8_t pairs;      /* whether the form is one that tr_pairs.h takes: shared or narrow, no clamp, 15 <= shift,
                         * shift - 15 <= bias_shift and multipliers below 2^shift */
};

tr_apply tr_requant_shared;
tr_apply tr_requant_narrow;
tr_apply tr_requant_wide;
tr_apply tr_requant_broad;
tr_apply tr_requant_exact;

/* ---- Convolutions ------------------------------------------------------------------------------------------------- */

typedef struct {
    uint16_t height, width, channels;
} tr_shape;

/* A window that moves over an image: convolutions and pools. Padding is that above and left; below and right follow. */
typedef struct {
    tr_shape in, out;
    uint8_t height, width, stride_h, stride_w, dilation_h, dilation_w, pad_top, pad_left;
} tr_window;

/* Weights of tr_conv2d: [out.channels][height][width][in.channels / groups] in one stream.
 * Weights of tr_depthwise: [out.channels][height][width] in one stream; out.channels is a multiple of in.channels.
 * A fully connected layer is a tr_conv2d of one pixel: in {1, 1, n}, window 1x1, out {1, 1, m}. */
typedef struct {
    tr_window window;
    const uint8_t *weights;
    tr_unpack *unpack;
    tr_requant requant;
    uint16_t groups; /* tr_conv2d: 1 unless input channels are split between the output channels */
    int8_t in_zero;  /* the input's zero point: what lies beyond the edges */
} tr_conv;

/* Scratch is 4-byte aligned. tr_conv2d: (TR_BLOCK + 1) * height * width * in.channels bytes; `out` may overlap `in` as far as
 * the generator's plan allows, in place for 1x1 windows of stride 1 with out.channels <= in.channels.
 * tr_depthwise: in.height * in.width + height * width bytes; `out` may be `in` when the shapes are equal. */
void tr_conv2d(const tr_conv *layer, const int8_t *in, int8_t *out, void *scratch);
void tr_depthwise(const tr_conv *layer, const int8_t *in, int8_t *out, void *scratch);
void tr_lean_depthwise(const tr_conv *layer, const int8_t *in, int8_t *out, void *scratch); /* height * width bytes */

/* A convolution that adds its outputs, requantized as ever, to what lies in their place: a residual block's sum without a tensor
 * for the convolution's own. Of tr_plain_add's form, with `there_multiplier` for what lies there. conv.requant.apply is
 * tr_requant_sum, which calls `apply`; conv.requant.pairs is 0, so that no kernel requantizes by itself. */
typedef struct {
    tr_conv conv;
    tr_apply *apply;
    int32_t multiplier, there_multiplier, offset;
    uint8_t shift;
    int8_t low, high;
} tr_conv_sum;

tr_apply tr_requant_sum;

/* The fast ones: a few lines of assembly where the processor has what it takes, plain C everywhere else, the same results.
 * They need `groups` 1; scratch and overlap are in the generator's fast.py.
 * tr_fast_dense: one pixel, int8 weights in words of lanes.
 * tr_lean_conv: weights of any encoding; int8 weights need a window of scratch, or none where windows are 1x1.
 * tr_fast_conv: int8 weights in words of lanes; _packed: of any encoding, int8 ones may be read up to 3 bytes past their end.
 * tr_fast_conv_ternary: trits, 5 a byte, each output's padded to threes with any and the stream to threes of bytes; _binary:
 * bits, 8 a byte, likewise, and may be read up to 3 bytes past their end.
 * tr_fast_depthwise_ternary: weights that are unpacked to -1, 0 and 1, and no more than 255 to a window; _3x3:
 * windows of 3x3 that move by one, without dilation; _pairs: of these, those whose requantization says `pairs`.
 * tr_fast_depthwise: likewise; _3x3: windows of 3x3 without dilation that move
 * by one horizontally; _3x3_strided: by any; _line: windows of one row that move by one.
 * tr_fast_depthwise and tr_fast_depthwise_ternary: dilation_w 1. */
void tr_fast_dense(const tr_conv *layer, const int8_t *in, int8_t *out, void *scratch);
void tr_lean_conv(const tr_conv *layer, const int8_t *in, int8_t *out, void *scratch);
void tr_fast_conv(const tr_conv *layer, const int8_t *in, int8_t *out, void *scratch);
void tr_fast_conv_packed(const tr_conv *layer, const int8_t *in, int8_t *out, void *scratch);
void tr_fast_conv_ternary(const tr_conv *layer, const int8_t *in, int8_t *out, void *scratch);
void tr_fast_conv_binary(const tr_conv *layer, const int8_t *in, int8_t *out, void *scratch);
void tr_fast_depthwise(const tr_conv *layer, const int8_t *in, int8_t *out, void *scratch);
void tr_fast_depthwise_3x3(const tr_conv *layer, const int8_t *in, int8_t *out, void *scratch);
void tr_fast_depthwise_3x3_strided(const tr_conv *layer, const int8_t *in, int8_t *out, void *scratch);
void tr_fast_depthwise_line(const tr_conv *layer, const int8_t *in, int8_t *out, void *scratch);
void tr_fast_depthwise_ternary(const tr_conv *layer, const int8_t *in, int8_t *out, void *scratch);
void tr_fast_depthwise_ternary_3x3(const tr_conv *layer, const int8_t *in, int8_t *out, void *scratch);
void tr_fast_depthwise_ternary_pairs(const tr_conv *layer, const int8_t *in, int8_t *out, void *scratch);

/* ---- Pools, means ------------------------------------------------------------------------------------------------- */

typedef struct {
    tr_window window;
    int8_t low, high;
} tr_pool;

void tr_average_pool(const tr_pool *layer, const int8_t *in, int8_t *out);
void tr_max_pool(const tr_pool *layer, const int8_t *in, int8_t *out);

/* The mean over the middle of [outer][count][inner]. */
typedef struct {
    uint32_t outer, count, inner;
    int32_t bias; /* -count * zero point of the input */
    int32_t multiplier;
    int8_t shift, zero;
} tr_mean_layer;

void tr_mean(const tr_mean_layer *layer, const int8_t *in, int8_t *out);

/* ---- Elementwise -------------------------------------------------------------------------------------------------- */

/* Broadcasting: element i reads a[i % a_count] and b[i % b_count], whichever are smaller than `count`. */
typedef struct {
    uint32_t count, a_count, b_count;
    int32_t a_multiplier, b_multiplier, multiplier;
    int8_t a_shift, b_shift, shift;
    int16_t a_offset, b_offset; /* minus the zero points */
    int8_t zero, low, high;
} tr_binary;

/* Addition where out = clamp((a * a_multiplier + b * b_multiplier + offset) >> shift) is proved for all 65,536 pairs. */
typedef struct {
    uint32_t count, a_count, b_count;
    int32_t a_multiplier, b_multiplier, offset;
    uint8_t shift;
    int8_t low, high;
} tr_plain_add;

void tr_add(const tr_binary *layer, const int8_t *a, const int8_t *b, int8_t *out);
void tr_add_plain(const tr_plain_add *layer, const int8_t *a, const int8_t *b, int8_t *out);
void tr_sub(const tr_binary *layer, const int8_t *a, const int8_t *b, int8_t *out);
void tr_mul(const tr_binary *layer, const int8_t *a, const int8_t *b, int8_t *out);
void tr_prelu(const tr_binary *layer, const int8_t *a, const int8_t *b, int8_t *out); /* `a_` where a is not negative */
void tr_minimum(const tr_binary *layer, const int8_t *a, const int8_t *b, int8_t *out); /* of the integers as they are */
void tr_maximum(const tr_binary *layer, const int8_t *a, const int8_t *b, int8_t *out);

/* out[i] = table[in[i] + 128]: rectifiers, sigmoids, quantize. */
void tr_lookup(const int8_t *table, uint32_t count, const int8_t *in, int8_t *out);

/* Rows of `width`; exponentials[d] is TensorFlow Lite's exp(beta * scale * -d) for d below `reach`, and 0 from there on. */
typedef struct {
    const int32_t *exponentials;
    uint16_t reach;
    uint32_t rows, width;
} tr_softmax_layer;

void tr_softmax(const tr_softmax_layer *layer, const int8_t *in, int8_t *out);

/* ---- Moves -------------------------------------------------------------------------------------------------------- */

/* [outer] rows of `from` bytes of `in` into rows of `to` bytes of `out`, `at` bytes from their start. */
void tr_copy_rows(const int8_t *in, int8_t *out, uint32_t outer, uint32_t from, uint32_t to, uint32_t at);

/* Pads up to four dimensions: out_shape, and where the input begins in each. */
typedef struct {
    uint16_t in_shape[4], before[4], out_shape[4];
    int8_t value;
} tr_pad_layer;

void tr_pad(const tr_pad_layer *layer, const int8_t *in, int8_t *out);

#define TR_MOVE_RANK 5

/* out[a][b]... = in[start + a * stride[0] + b * stride[1] + ...]: slices, splits, transpositions. */
typedef struct {
    uint32_t shape[TR_MOVE_RANK];
    int32_t stride[TR_MOVE_RANK];
    int32_t start;
} tr_move_layer;

void tr_move(const tr_move_layer *layer, const int8_t *in, int8_t *out);

/* out[y][x] = in[rows[y]][columns[x]] of pixels of `channels` bytes; `width` is the input's. */
typedef struct {
    const uint16_t *rows, *columns;
    uint16_t height, out_width, width, channels;
} tr_resize_layer;

void tr_resize_nearest(const tr_resize_layer *layer, const int8_t *in, int8_t *out);

#ifdef __cplusplus
}
#endif
#endif
