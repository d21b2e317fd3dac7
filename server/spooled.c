/* SPDX-License-Identifier: Apache-2.0 */
/* Single updates out of the spool, for rules that need them. */
#include <stdlib.h>

#include "common/mem.h"
#include "server/core.h"

static size_t stretch(void *ctx, size_t first, size_t most)
{
    const struct spooled *s = ctx;
    return sl_codec_piece(&s->r->codec, first, most).n;
}

static enum sl_code read_piece(void *ctx, size_t update, size_t first, size_t n, float *ret,
                               struct sl_err *err)
{
    struct spooled *s = ctx;
    struct sl_store *store = s->r->c->env.store;
    const struct upload *u = s->upload[update];
    /* a stretch ends with its tensor or after a multiple of 16, so this is the same one again */
    struct sl_codec_piece p = sl_codec_piece(&s->r->codec, first, (n + 15) / 16 * 16);
    enum sl_code rc =
        store->ops->spool_read(store, u->position, p.offset, s->bytes, p.n_bytes, err);
    if (rc == SL_OK)
        rc = sl_decoder_piece(&s->decoder[update], &p, s->bytes, ret, err);
    for (size_t i = 0; rc == SL_OK && u->clip < 1 && i < n; i++)
        ret[i] = (float)(u->clip * (double)ret[i]);
    return rc;
}

static enum sl_code open_decoder(struct spooled *s, size_t i, struct sl_err *err)
{
    const struct sl_codec *codec = &s->r->codec;
    struct sl_store *store = s->r->c->env.store;
    enum sl_code rc = sl_decoder_init(codec, &s->decoder[i], err);
    if (rc == SL_OK && codec->header_bytes > 0)
        rc = store->ops->spool_read(store, s->upload[i]->position, 0, s->bytes,
                                    (size_t)codec->header_bytes, err);
    return rc == SL_OK ? sl_decoder_header(&s->decoder[i], s->bytes, err) : rc;
}

static enum sl_code reserve(struct spooled *s, size_t n, struct sl_err *err)
{
    uint64_t most = SL_CODEC_PIECE_BYTES(TILE_VALUES), header = s->r->codec.header_bytes;
    s->upload = sl_calloc(n, sizeof(*s->upload));
    s->weight = sl_calloc(n, sizeof(*s->weight));
    s->decoder = sl_calloc(n, sizeof(*s->decoder));
    s->bytes = malloc(header > most ? header : most);
    if (s->upload == NULL || s->weight == NULL || s->decoder == NULL || s->bytes == NULL)
        return sl_err_set(err, SL_E_NOMEM, "%zu spooled updates", n);
    return SL_OK;
}

enum sl_code spooled_open(struct run *r, struct spooled *ret, struct sl_err *err)
{
    *ret = (struct spooled){.r = r};
    enum sl_code rc = reserve(ret, r->round.n_members, err);
    size_t k = 0;
    for (size_t i = 0; rc == SL_OK && i < r->round.n_members; i++) { /* ascending by client */
        if (r->round.members[i].state != SL_MEMBER_ACCEPTED)
            continue;
        ret->upload[k] = &r->uploads[i];
        ret->weight[k] = (double)r->uploads[i].meta.weight;
        rc = open_decoder(ret, k++, err);
    }
    ret->source = (struct sl_update_source){.ctx = ret,
                                            .k = k,
                                            .n_values = r->n_values,
                                            .weight = ret->weight,
                                            .stretch = stretch,
                                            .read = read_piece};
    return rc;
}

void spooled_close(struct spooled *s)
{
    for (size_t i = 0; s->decoder != NULL && i < s->source.k; i++)
        sl_decoder_deinit(&s->decoder[i]);
    free(s->upload);
    free(s->weight);
    free(s->decoder);
    free(s->bytes);
    *s = (struct spooled){0};
}
