/* SPDX-License-Identifier: Apache-2.0 */
#include "accel/codec/codec.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "accel/codec/codec_kinds.h"
#include "common/mem.h"

static const struct sl_codec_kind *kind_of(const struct sl_codec *c)
{
    switch (c->encoding) {
    case SL_ENC_BF16:
        return &sl_codec_bf16;
    case SL_ENC_BFP:
        return &sl_codec_bfp;
    case SL_ENC_TERNARY:
        return &sl_codec_ternary;
    case SL_ENC_FP32:
        break;
    }
    return &sl_codec_fp32;
}

enum sl_code sl_codec_init(const struct sl_codec_options *o, const struct sl_layout *l,
                           unsigned vectors, struct sl_codec *ret, struct sl_err *err)
{
    if (o->encoding == SL_ENC_BFP && (o->m < 2 || o->m > 4))
        return sl_err_set(err, SL_E_RANGE, "bfp updates with m = %u (2 to 4)", (unsigned)o->m);
    struct sl_codec c = {.encoding = o->encoding, .m = o->m};
    c.tensor = sl_calloc(vectors * l->n_tensors + 1, sizeof(*c.tensor));
    if (c.tensor == NULL)
        return sl_err_set(err, SL_E_NOMEM, "codec of %zu tensors", l->n_tensors);
    for (size_t i = 0; i < vectors * l->n_tensors; i++) {
        const struct sl_tensor *t = &l->tensors[i % l->n_tensors];
        if (t->role == SL_TENSOR_FIXED)
            continue;
        c.tensor[c.n_tensors++] = (struct sl_codec_tensor){.first = c.n_values, .size = t->size};
        c.n_values += t->size;
    }
    const struct sl_codec_kind *kind = kind_of(&c);
    c.header_bytes = kind->header_bytes(&c);
    c.n_bytes = c.header_bytes;
    for (size_t i = 0; i < c.n_tensors; i++) {
        c.tensor[i].at = c.n_bytes;
        c.n_bytes += kind->bytes(&c, c.tensor[i].size);
    }
    *ret = c;
    return SL_OK;
}

void sl_codec_deinit(struct sl_codec *c)
{
    if (c == NULL)
        return;
    free(c->tensor);
    *c = (struct sl_codec){0};
}

static enum sl_code check_finite(const float *x, size_t n, struct sl_err *err)
{
    for (size_t i = 0; i < n; i++)
        if (!isfinite(x[i]))
            return sl_err_set(err, SL_E_FAILED, "value %zu of the update is %s", i,
                              isnan(x[i]) ? "NaN" : "infinite");
    return SL_OK;
}

/* residual = x - what the blob says. */
static enum sl_code take_residual(const struct sl_codec *c, const float *x,
                                  const uint8_t *bytes, float *residual, struct sl_err *err)
{
    struct sl_decoder d;
    enum sl_code rc = sl_decoder_init(c, &d, err);
    if (rc == SL_OK)
        rc = sl_decoder_header(&d, bytes, err);
    for (size_t at = 0; rc == SL_OK && at < c->n_values;) {
        struct sl_codec_piece p = sl_codec_piece(c, at, SL_CODEC_BLOCK);
        rc = sl_decoder_piece(&d, &p, bytes + p.offset, residual + at, err);
        for (size_t i = 0; i < p.n; i++)
            residual[at + i] = x[at + i] - residual[at + i];
        at += p.n;
    }
    sl_decoder_deinit(&d);
    return rc;
}

enum sl_code sl_codec_encode(const struct sl_codec *c, const struct sl_codec_noise *noise,
                             float *x, float *residual, uint8_t *ret, struct sl_err *err)
{
    for (size_t i = 0; residual != NULL && i < c->n_values; i++)
        x[i] += residual[i];
    enum sl_code rc = check_finite(x, c->n_values, err);
    const struct sl_codec_kind *kind = kind_of(c);
    for (size_t i = 0; rc == SL_OK && i < c->n_tensors; i++)
        rc = kind->encode(c, noise, i, x + c->tensor[i].first, ret, err);
    if (rc == SL_OK && residual != NULL)
        rc = take_residual(c, x, ret, residual, err);
    return rc;
}

enum sl_code sl_decoder_init(const struct sl_codec *c, struct sl_decoder *ret,
                             struct sl_err *err)
{
    struct sl_decoder d = {.codec = c};
    if (c->header_bytes > 0) {
        d.scale = sl_calloc(c->n_tensors, sizeof(*d.scale));
        if (d.scale == NULL)
            return sl_err_set(err, SL_E_NOMEM, "decoder of %zu tensors", c->n_tensors);
    }
    *ret = d;
    return SL_OK;
}

void sl_decoder_deinit(struct sl_decoder *d)
{
    if (d == NULL)
        return;
    free(d->scale);
    *d = (struct sl_decoder){0};
}

enum sl_code sl_decoder_header(struct sl_decoder *d, const uint8_t *bytes, struct sl_err *err)
{
    for (size_t i = 0; d->scale != NULL && i < d->codec->n_tensors; i++) {
        float scale = sl_get_float(bytes + 4 * i);
        if (!isfinite(scale) || signbit(scale))
            return sl_err_set(err, SL_E_REJECTED,
                              "scale %zu of the update is %g (finite and not negative)", i,
                              (double)scale);
        d->scale[i] = scale;
    }
    return SL_OK;
}

/* The tensor that holds value `first`. */
static size_t tensor_of(const struct sl_codec *c, size_t first)
{
    size_t lo = 0, hi = c->n_tensors;
    while (hi - lo > 1) {
        size_t mid = lo + (hi - lo) / 2;
        if (c->tensor[mid].first <= first)
            lo = mid;
        else
            hi = mid;
    }
    return lo;
}

struct sl_codec_piece sl_codec_piece(const struct sl_codec *c, size_t first, size_t most)
{
    size_t i = tensor_of(c, first);
    const struct sl_codec_tensor *t = &c->tensor[i];
    size_t inside = first - t->first, left = t->size - inside;
    const struct sl_codec_kind *kind = kind_of(c);
    size_t n = left < most ? left : most;
    return (struct sl_codec_piece){.first = first,
                                   .n = n,
                                   .offset = t->at + kind->bytes(c, inside),
                                   .n_bytes = (size_t)kind->bytes(c, n),
                                   .tensor = i};
}

enum sl_code sl_decoder_piece(const struct sl_decoder *d, const struct sl_codec_piece *p,
                              const uint8_t *bytes, float *ret, struct sl_err *err)
{
    return kind_of(d->codec)->decode(d, p, bytes, ret, err);
}
