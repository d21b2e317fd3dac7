/* SPDX-License-Identifier: Apache-2.0 */
/* codec_kinds.h - the encodings inside accel/codec: one const ops table each. */
#ifndef SL_ACCEL_CODEC_CODEC_KINDS_H
#define SL_ACCEL_CODEC_CODEC_KINDS_H

#include <string.h>

#include "accel/codec/codec.h"

#define SL_CODEC_BLOCK 4096 /* values that are worked on at a time; divisible by 16 */

struct sl_codec_kind {
    /* Of the whole blob; of n values that begin a tensor or a block of 16 in it. */
    uint64_t (*header_bytes)(const struct sl_codec *c);
    uint64_t (*bytes)(const struct sl_codec *c, size_t n);
    /* Tensor i, x[size], all finite, to its places in blob. */
    enum sl_code (*encode)(const struct sl_codec *c, const struct sl_codec_noise *noise,
                           size_t i, const float *x, uint8_t *blob, struct sl_err *err);
    enum sl_code (*decode)(const struct sl_decoder *d, const struct sl_codec_piece *p,
                           const uint8_t *bytes, float *ret, struct sl_err *err);
};

extern const struct sl_codec_kind sl_codec_fp32, sl_codec_bf16, sl_codec_bfp,
    sl_codec_ternary;

/* Little-endian on any machine. */
static inline uint32_t sl_get_word(const uint8_t *b)
{
    return (uint32_t)b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24;
}

static inline void sl_put_word(uint8_t *b, uint32_t w)
{
    for (int i = 0; i < 4; i++)
        b[i] = (uint8_t)(w >> 8 * i);
}

static inline uint32_t sl_float_bits(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof(bits));
    return bits;
}

static inline float sl_bits_float(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof(x));
    return x;
}

static inline float sl_get_float(const uint8_t *b)
{
    return sl_bits_float(sl_get_word(b));
}

#endif
