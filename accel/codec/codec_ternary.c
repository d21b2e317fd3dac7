/* SPDX-License-Identifier: Apache-2.0 */
/* RTN's ternary weights as a wire format: a scale and two bits a value. */
#include "accel/codec/codec_kinds.h"

#include <assert.h>

#include "accel/units/rtn.h"

#define PER_BYTE 4

enum { ZERO, PLUS, MINUS, NO_CODE };

static uint64_t header_bytes(const struct sl_codec *c)
{
    return 4 * (uint64_t)c->n_tensors;
}

static uint64_t bytes(const struct sl_codec *c, size_t n)
{
    (void)c;
    return ((uint64_t)n + PER_BYTE - 1) / PER_BYTE;
}

/* Without a branch: signs of updates can't be predicted. */
static unsigned code_of(float x, float d)
{
    static_assert(ZERO == 0 && PLUS == 1 && MINUS == 2, "bits of the two comparisons");
    return (unsigned)(x > d) | (unsigned)(x < -d) << 1;
}

static enum sl_code encode(const struct sl_codec *c, const struct sl_codec_noise *noise,
                           size_t i, const float *x, uint8_t *blob, struct sl_err *err)
{
    (void)noise;
    const struct sl_codec_tensor *t = &c->tensor[i];
    struct sl_rtn_weights w = {.w = x, .k = t->size, .n = 1, .step_k = 1};
    float d, gamma;
    enum sl_code rc = sl_rtn_threshold(&w, &d, &gamma, err);
    if (rc != SL_OK)
        return rc;
    sl_put_word(blob + 4 * i, sl_float_bits(gamma));
    uint8_t *to = blob + t->at;
    for (size_t k = 0; k < t->size; k += PER_BYTE) {
        size_t n = t->size - k < PER_BYTE ? t->size - k : PER_BYTE;
        unsigned byte = 0;
        for (size_t j = 0; j < n; j++)
            byte |= code_of(x[k + j], d) << 2 * j;
        to[k / PER_BYTE] = (uint8_t)byte;
    }
    return SL_OK;
}

static enum sl_code decode(const struct sl_decoder *d, const struct sl_codec_piece *p,
                           const uint8_t *bytes, float *ret, struct sl_err *err)
{
    float scale = d->scale[p->tensor];
    const float value[] = {0, scale, -scale};
    for (size_t k = 0; k < p->n; k += PER_BYTE) {
        size_t n = p->n - k < PER_BYTE ? p->n - k : PER_BYTE;
        unsigned byte = bytes[k / PER_BYTE];
        if ((byte & byte >> 1 & 0x55) != 0 || byte >> 2 * (n - 1) >> 2 != 0)
            return sl_err_set(err, SL_E_REJECTED,
                              "value %zu of the update: byte %u is no ternary code",
                              p->first + k, byte);
        for (size_t j = 0; j < n; j++)
            ret[k + j] = value[byte >> 2 * j & 3];
    }
    return SL_OK;
}

const struct sl_codec_kind sl_codec_ternary = {header_bytes, bytes, encode, decode};
