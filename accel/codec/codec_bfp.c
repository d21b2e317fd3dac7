/* SPDX-License-Identifier: Apache-2.0 */
/* FAST's block floating point as a wire format: planes of 16 bits, so that packing is a few
 * operations on words, and dropping the last planes of a group drops precision. */
#include "accel/codec/codec_kinds.h"
#include "accel/kernels/bfp_ops.h"
#include "accel/kernels/cpu.h"

#define G SL_BFP_GROUP
#define ZERO_GROUP (-128)
#define TENSOR_DELTA 3 /* "tensor" and "use" of the key: an uploaded update */
#define USE_UPLOAD 3
#define CODE_MAX 255 /* e unlimited */

#define LOW_BITS UINT64_C(0x0101010101010101)

static uint64_t no_header(const struct sl_codec *c)
{
    (void)c;
    return 0;
}

static size_t group_bytes(const struct sl_codec *c)
{
    return 1 + 2 * (1 + (size_t)c->m);
}

static uint64_t bytes(const struct sl_codec *c, size_t n)
{
    return ((uint64_t)n + G - 1) / G * group_bytes(c);
}

static uint64_t load8(const uint8_t *b)
{
    return (uint64_t)sl_get_word(b) | (uint64_t)sl_get_word(b + 4) << 32;
}

/* Bit 0 of each of 8 bytes, the first lowest. */
static unsigned gather(uint64_t x)
{
    return (unsigned)((x & LOW_BITS) * UINT64_C(0x0102040810204080) >> 56);
}

/* 8 bits to 8 bytes of 0 or 1. */
static uint64_t scatter(unsigned bits)
{
    uint64_t x = bits * LOW_BITS & UINT64_C(0x8040201008040201);
    return (x + UINT64_C(0x7f7f7f7f7f7f7f7f)) >> 7 & LOW_BITS;
}

static void put_plane(uint8_t *to, uint64_t low, uint64_t high)
{
    to[0] = (uint8_t)gather(low);
    to[1] = (uint8_t)gather(high);
}

/* Sixteen mantissas + 16 to planes. */
static void put_group(const struct sl_codec *c, const uint8_t mantissa[G], float scale,
                      uint8_t *to)
{
    /* x = M + 16: negative without bit 4; |M| = low bits of x, or of 32 - x */
    uint64_t half[2], sign[2];
    for (int h = 0; h < 2; h++) {
        uint64_t x = load8(mantissa + 8 * h);
        sign[h] = ~(x >> 4) & LOW_BITS;
        half[h] = (x ^ sign[h] * 0x1f) + sign[h];
    }
    int e = (int)(sl_float_bits(scale) >> 23) - 127 + (int)c->m - 1;
    to[0] = (uint8_t)(scale == 0 ? ZERO_GROUP : e);
    put_plane(to + 1, sign[0], sign[1]);
    for (unsigned b = 0; b < c->m; b++) {
        unsigned bit = c->m - 1 - b;
        put_plane(to + 3 + 2 * b, half[0] >> bit, half[1] >> bit);
    }
}

static uint64_t key_of(const struct sl_codec_noise *noise, size_t tensor)
{
    const uint64_t v[] = {noise->seed,  noise->client, (uint64_t)noise->round << 32,
                          tensor,       TENSOR_DELTA,  USE_UPLOAD};
    return sl_hash64(v, sizeof(v) / sizeof(v[0]));
}

static int32_t largest_exponent(uint32_t bits)
{
    int32_t e = (int32_t)(bits >> 23) - 127;
    return e > SL_BFP_EXPONENT_MAX    ? SL_BFP_EXPONENT_MAX
           : e < -SL_BFP_EXPONENT_MAX ? -SL_BFP_EXPONENT_MAX
                                      : e;
}

static enum sl_code encode(const struct sl_codec *c, const struct sl_codec_noise *noise,
                           size_t i, const float *x, uint8_t *blob, struct sl_err *err)
{
    (void)err;
    const struct sl_codec_tensor *t = &c->tensor[i];
    uint8_t mantissa[SL_CODEC_BLOCK], *to = blob + t->at;
    float scale[SL_CODEC_BLOCK / G];
    struct sl_bfp_ops ops;
    sl_bfp_ops_init(&ops, sl_cpu_usable());
    struct sl_bfp_rows rows = {.mantissa = mantissa, .scale = scale};
    struct sl_bfp_source s = {.lines = 1,
                              .k_step = 1,
                              .exponent_t = largest_exponent(ops.largest(x, t->size)),
                              .code_max = CODE_MAX,
                              .m = c->m,
                              .round = SL_BFP_CTR,
                              .key = key_of(noise, i)};
    for (size_t at = 0; at < t->size; at += SL_CODEC_BLOCK) {
        s.x = x + at;
        s.first = at;
        s.k = t->size - at < SL_CODEC_BLOCK ? t->size - at : SL_CODEC_BLOCK;
        s.line_step = s.k;
        rows.step = (s.k + G - 1) / G;
        ops.pack_rows(&s, &rows);
        for (size_t j = 0; j < rows.step; j++, to += group_bytes(c))
            put_group(c, mantissa + G * j, scale[j], to);
    }
    return SL_OK;
}

/* Planes to M 2^(E' - m + 1); false for bytes that put_group does not write. */
static bool take_group(const struct sl_codec *c, const uint8_t *from, float ret[G])
{
    int e = from[0] < 128 ? from[0] : from[0] - 256;
    unsigned sign = from[1] | (unsigned)from[2] << 8, any = 0;
    uint64_t half[2] = {0, 0};
    for (unsigned b = 0; b < c->m; b++) {
        const uint8_t *plane = from + 3 + 2 * b;
        any |= plane[0] | (unsigned)plane[1] << 8;
        half[0] = half[0] << 1 | scatter(plane[0]);
        half[1] = half[1] << 1 | scatter(plane[1]);
    }
    bool zero = e == ZERO_GROUP;
    if ((sign & ~any) != 0 || (zero && any != 0) ||
        (!zero && (e < -SL_BFP_EXPONENT_MAX || e > SL_BFP_EXPONENT_MAX)))
        return false;
    float scale = zero ? 0 : sl_bits_float((uint32_t)(e - (int)c->m + 1 + 127) << 23);
    for (unsigned j = 0; j < G; j++) {
        int magnitude = (int)(half[j / 8] >> 8 * (j % 8) & 0xff);
        int negative = (int)(sign >> j & 1);
        ret[j] = (float)((magnitude ^ -negative) + negative) * scale;
    }
    return true;
}

static enum sl_code decode(const struct sl_decoder *d, const struct sl_codec_piece *p,
                           const uint8_t *bytes, float *ret, struct sl_err *err)
{
    const struct sl_codec *c = d->codec;
    for (size_t at = 0; at < p->n; at += G, bytes += group_bytes(c)) {
        size_t n = p->n - at < G ? p->n - at : G;
        float last[G];
        float *to = n == G ? ret + at : last;
        bool good = take_group(c, bytes, to);
        for (size_t j = n; good && j < G; j++)
            good = last[j] == 0;
        if (!good)
            return sl_err_set(err, SL_E_REJECTED,
                              "group at value %zu of the update: no block of bfp m = %u",
                              p->first + at, (unsigned)c->m);
        if (n < G)
            memcpy(ret + at, last, n * sizeof(*last));
    }
    return SL_OK;
}

const struct sl_codec_kind sl_codec_bfp = {no_header, bytes, encode, decode};
