/* SPDX-License-Identifier: Apache-2.0 */
/* Going through an update piece by piece, as it lies in memory or in the spool: to check its hash and its
 * values, or to add it to the sum. */
#include <math.h>
#include <stdlib.h>

#include "server/core.h"

static enum sl_code check_values(const struct run *r, const struct sl_update_meta *m,
                                 const float *x, size_t offset, size_t n, struct sl_err *err)
{
    double scale = r->strategy->scale(&r->plan, m);
    size_t bad = sl_update_check(x, n, scale, r->plan.aggregation.max_abs);
    if (bad == n)
        return SL_OK;
    return sl_err_set(err, SL_E_REJECTED, "value %zu is %s (finite and within %g allowed)",
                      offset + bad,
                      isnan(x[bad])   ? "NaN"
                      : isinf(x[bad]) ? "infinite"
                                      : "beyond the bound",
                      r->plan.aggregation.max_abs);
}

static enum sl_code checksum_error(struct sl_err *err)
{
    return sl_err_set(err, SL_E_REJECTED, "checksum of the update does not match its name");
}

/* What going through an update is for. */
struct walk {
    struct run *r;
    struct source from;
    const struct sl_update_meta *meta;
    const struct sl_blob_id *check; /* hash and values are checked; NULL: added to the sum */
    double scale;                   /* when added */
    double square;                  /* when checked: of the norm, so far */
    struct sl_decoder decoder;
    struct sl_xxh3 hash;
    float *values;  /* [TILE_VALUES] */
    uint8_t *bytes; /* of the header, or of a piece */
};

/* n bytes of the update, in order. */
static enum sl_code fetch(struct walk *w, uint64_t offset, size_t n, const uint8_t **ret,
                          struct sl_err *err)
{
    struct sl_store *s = w->r->c->env.store;
    enum sl_code rc = SL_OK;
    *ret = w->from.bytes != NULL ? w->from.bytes + offset : w->bytes;
    if (w->from.bytes == NULL)
        rc = s->ops->spool_read(s, w->from.slot, offset, w->bytes, n, err);
    if (rc == SL_OK && w->check != NULL)
        sl_xxh3_update(&w->hash, *ret, n);
    return rc;
}

static enum sl_code walk_piece(struct walk *w, const struct sl_codec_piece *p, struct sl_err *err)
{
    struct run *r = w->r;
    const uint8_t *bytes;
    enum sl_code rc = fetch(w, p->offset, p->n_bytes, &bytes, err);
    if (rc == SL_OK)
        rc = sl_decoder_piece(&w->decoder, p, bytes, w->values, err);
    if (rc == SL_OK && w->check != NULL)
        rc = check_values(r, w->meta, w->values, p->first, p->n, err);
    if (rc == SL_OK && w->check == NULL)
        sl_sum_add_tile(&r->sum, p->first, w->values, p->n, w->meta->weight, w->scale);
    else if (rc == SL_OK && r->plan.aggregation.clip_norm > 0)
        w->square += sl_norm_square(w->values, p->n);
    return rc;
}

static enum sl_code walk_open(struct walk *w, struct sl_err *err)
{
    const struct sl_codec *codec = &w->r->codec;
    size_t most = SL_CODEC_PIECE_BYTES(TILE_VALUES);
    size_t room = codec->header_bytes > most ? (size_t)codec->header_bytes : most;
    const uint8_t *header = NULL;
    w->values = malloc(TILE_VALUES * sizeof(*w->values));
    w->bytes = w->from.bytes == NULL ? malloc(room) : NULL;
    if (w->values == NULL || (w->from.bytes == NULL && w->bytes == NULL))
        return sl_err_set(err, SL_E_NOMEM, "no memory for a piece of an update");
    sl_xxh3_init(&w->hash);
    enum sl_code rc = sl_decoder_init(codec, &w->decoder, err);
    if (rc == SL_OK && codec->header_bytes > 0)
        rc = fetch(w, 0, (size_t)codec->header_bytes, &header, err);
    return rc == SL_OK ? sl_decoder_header(&w->decoder, header, err) : rc;
}

/* Hash and content of statistics: checked as a whole; adding them is left to the close (calibrate.c). */
static enum sl_code check_statistics(const struct run *r, struct source from, uint32_t client,
                                     const struct sl_update_meta *meta,
                                     const struct sl_blob_id *id, struct sl_err *err)
{
    size_t n = (size_t)r->calib.bytes;
    struct sl_store *s = r->c->env.store;
    struct sl_blob_id found;
    uint8_t *bytes = from.bytes == NULL ? malloc(n) : NULL;
    if (from.bytes == NULL && bytes == NULL)
        return sl_err_set(err, SL_E_NOMEM, "no memory for statistics");
    enum sl_code rc =
        bytes == NULL ? SL_OK : s->ops->spool_read(s, from.slot, 0, bytes, n, err);
    const uint8_t *all = bytes == NULL ? from.bytes : bytes;
    if (rc == SL_OK) {
        sl_xxh3_128(all, n, &found);
        rc = sl_blob_id_equal(&found, id) ? calibrate_check(r, client, meta, all, n, err)
                                          : checksum_error(err);
    }
    free(bytes);
    return rc;
}

static enum sl_code walk_update(struct walk *w, struct sl_err *err)
{
    const struct sl_codec *codec = &w->r->codec;
    enum sl_code rc = walk_open(w, err);
    for (size_t at = 0; rc == SL_OK && at < codec->n_values;) {
        struct sl_codec_piece p = sl_codec_piece(codec, at, TILE_VALUES);
        rc = walk_piece(w, &p, err);
        at += p.n;
    }
    sl_decoder_deinit(&w->decoder);
    free(w->values);
    free(w->bytes);
    return rc;
}

enum sl_code walk_check(struct run *r, struct source from, uint32_t client,
                        const struct sl_update_meta *meta, const struct sl_blob_id *id,
                        double *ret_clip, struct sl_err *err)
{
    if (calibrate_under_way(r)) {
        *ret_clip = 1;
        return check_statistics(r, from, client, meta, id, err);
    }
    struct walk w = {.r = r, .from = from, .meta = meta, .check = id};
    double most = r->plan.aggregation.clip_norm;
    struct sl_blob_id found;
    enum sl_code rc = walk_update(&w, err);
    if (rc != SL_OK)
        return rc;
    sl_xxh3_final(&w.hash, &found);
    if (!sl_blob_id_equal(&found, id))
        return checksum_error(err);
    *ret_clip = most > 0 && w.square > most * most ? most / sqrt(w.square) : 1;
    return SL_OK;
}

/* Rules that need the single updates, and calibrations, read them when the round is closed. */
enum sl_code walk_add(const struct upload *u, struct source from, struct sl_err *err)
{
    struct run *r = u->run;
    struct walk w = {.r = r,
                     .from = from,
                     .meta = &u->meta,
                     .scale = r->strategy->scale(&r->plan, &u->meta) * u->clip * buffer_damping(u)};
    return calibrate_under_way(r) || r->strategy->rule != NULL ? SL_OK : walk_update(&w, err);
}
