/* SPDX-License-Identifier: Apache-2.0 */
/* Values as they are, and their upper halves. */
#include "accel/codec/codec_kinds.h"

#define LITTLE_ENDIAN_HERE (__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__)

static uint64_t no_header(const struct sl_codec *c)
{
    (void)c;
    return 0;
}

static uint64_t bytes_fp32(const struct sl_codec *c, size_t n)
{
    (void)c;
    return (uint64_t)n * 4;
}

static uint64_t bytes_bf16(const struct sl_codec *c, size_t n)
{
    (void)c;
    return (uint64_t)n * 2;
}

static enum sl_code encode_fp32(const struct sl_codec *c, const struct sl_codec_noise *noise,
                                size_t i, const float *x, uint8_t *blob, struct sl_err *err)
{
    (void)noise;
    (void)err;
    const struct sl_codec_tensor *t = &c->tensor[i];
    if (LITTLE_ENDIAN_HERE)
        memcpy(blob + t->at, x, t->size * sizeof(*x));
    for (size_t k = 0; !LITTLE_ENDIAN_HERE && k < t->size; k++)
        sl_put_word(blob + t->at + 4 * k, sl_float_bits(x[k]));
    return SL_OK;
}

static enum sl_code decode_fp32(const struct sl_decoder *d, const struct sl_codec_piece *p,
                                const uint8_t *bytes, float *ret, struct sl_err *err)
{
    (void)d;
    (void)err;
    if (LITTLE_ENDIAN_HERE)
        memcpy(ret, bytes, p->n * sizeof(*ret));
    for (size_t k = 0; !LITTLE_ENDIAN_HERE && k < p->n; k++)
        ret[k] = sl_get_float(bytes + 4 * k);
    return SL_OK;
}

static enum sl_code encode_bf16(const struct sl_codec *c, const struct sl_codec_noise *noise,
                                size_t i, const float *x, uint8_t *blob, struct sl_err *err)
{
    (void)noise;
    (void)err;
    const struct sl_codec_tensor *t = &c->tensor[i];
    uint8_t *to = blob + t->at;
    for (size_t k = 0; k < t->size; k++) {
        uint32_t bits = sl_float_bits(x[k]);
        bits += 0x7fff + (bits >> 16 & 1);
        to[2 * k] = (uint8_t)(bits >> 16);
        to[2 * k + 1] = (uint8_t)(bits >> 24);
    }
    return SL_OK;
}

static enum sl_code decode_bf16(const struct sl_decoder *d, const struct sl_codec_piece *p,
                                const uint8_t *bytes, float *ret, struct sl_err *err)
{
    (void)d;
    (void)err;
    for (size_t k = 0; k < p->n; k++)
        ret[k] = sl_bits_float((uint32_t)bytes[2 * k] << 16 | (uint32_t)bytes[2 * k + 1] << 24);
    return SL_OK;
}

const struct sl_codec_kind sl_codec_fp32 = {no_header, bytes_fp32, encode_fp32, decode_fp32};
const struct sl_codec_kind sl_codec_bf16 = {no_header, bytes_bf16, encode_bf16, decode_bf16};
