/* SPDX-License-Identifier: Apache-2.0 */
#include "sim/attack/attacker.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/mem.h"

enum sl_code sl_attacker_init(struct sl_attacker *a, const struct sl_attack *attack,
                              const struct sl_codec *codec, struct sl_err *err)
{
    size_t n = codec->n_values;
    *a = (struct sl_attacker){.attack = attack, .codec = codec};
    a->update = sl_calloc(n, sizeof(float));
    a->one = sl_calloc(n, sizeof(float));
    a->bytes = sl_calloc(codec->n_bytes, 1);
    if (attack->ops->colludes) {
        a->mean = sl_calloc(n, sizeof(float));
        a->sd = sl_calloc(n, sizeof(float));
    }
    if (a->update != NULL && a->one != NULL && a->bytes != NULL &&
        (!attack->ops->colludes || (a->mean != NULL && a->sd != NULL)))
        return SL_OK;
    sl_attacker_deinit(a);
    return sl_err_set(err, SL_E_NOMEM, "attacker");
}

void sl_attacker_deinit(struct sl_attacker *a)
{
    if (a == NULL)
        return;
    free(a->update);
    free(a->one);
    free(a->mean);
    free(a->sd);
    free(a->bytes);
    *a = (struct sl_attacker){0};
}

void sl_attacker_begin(struct sl_attacker *a)
{
    a->n_seen = 0;
    for (size_t i = 0; a->mean != NULL && i < a->codec->n_values; i++)
        a->mean[i] = a->sd[i] = 0;
}

static enum sl_code decode(const struct sl_codec *c, const uint8_t *bytes, float *ret,
                           struct sl_err *err)
{
    struct sl_decoder d;
    struct sl_codec_piece p;
    enum sl_code rc = sl_decoder_init(c, &d, err);
    if (rc == SL_OK)
        rc = sl_decoder_header(&d, bytes, err);
    for (size_t at = 0; rc == SL_OK && at < c->n_values; at += p.n) {
        p = sl_codec_piece(c, at, (c->n_values / 16 + 1) * 16);
        rc = sl_decoder_piece(&d, &p, bytes + p.offset, ret + at, err);
    }
    sl_decoder_deinit(&d);
    return rc;
}

enum sl_code sl_attacker_add(struct sl_attacker *a, const uint8_t *bytes, bool own,
                             struct sl_err *err)
{
    size_t n = a->codec->n_values;
    enum sl_code rc = decode(a->codec, bytes, a->one, err);
    if (rc != SL_OK)
        return rc;
    if (own)
        memcpy(a->update, a->one, n * sizeof(float));
    a->n_seen++;
    for (size_t i = 0; a->mean != NULL && i < n; i++) { /* Welford */
        float d = a->one[i] - a->mean[i];
        a->mean[i] += d / (float)a->n_seen;
        a->sd[i] += d * (a->one[i] - a->mean[i]);
    }
    return SL_OK;
}

enum sl_code sl_attacker_send(struct sl_attacker *a, const struct sl_codec_noise *noise,
                              const uint8_t **ret, struct sl_err *err)
{
    size_t n = a->codec->n_values;
    for (size_t i = 0; a->sd != NULL && i < n; i++)
        a->sd[i] = sqrtf(a->sd[i] / (float)a->n_seen);
    if (a->attack->ops->alter != NULL)
        a->attack->ops->alter(a->attack, a->mean, a->sd, n, a->update);
    enum sl_code rc = sl_codec_encode(a->codec, noise, a->update, NULL, a->bytes, err);
    if (rc == SL_OK)
        *ret = a->bytes;
    return rc;
}
