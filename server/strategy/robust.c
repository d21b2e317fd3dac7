/* SPDX-License-Identifier: Apache-2.0 */
#include "server/strategy/robust.h"

#include <stdlib.h>
#include <string.h>

#include "accel/kernels/cpu.h"
#include "accel/kernels/order_ops.h"
#include "common/mem.h"

#define MULTIPLE 16
#define TILE_MAX 65536
#define DISTANCE_BLOCK 1024 /* values of all rows that stay in the cache while pairs are compared */

/* --- sorting --------------------------------------------------------------------------------------- */

/* Merge exchange (Knuth, TAOCP volume 3, algorithm 5.2.2M): which rows are compared does not depend on
 * what they hold, so whole rows are exchanged at once. */
void sl_robust_sort(float *rows, size_t k, size_t stride, size_t n)
{
    const struct sl_order_ops *ops = sl_order_ops(sl_cpu_usable());
    size_t top = 1;
    while (top * 2 < k)
        top *= 2;
    for (size_t p = k < 2 ? 0 : top; p > 0; p /= 2) {
        size_t q = top, r = 0, d = p;
        for (;;) {
            for (size_t i = 0; i + d < k; i++)
                if ((i & p) == r)
                    ops->exchange(rows + i * stride, rows + (i + d) * stride, n);
            if (q == p)
                break;
            d = q - p;
            q /= 2;
            r = p;
        }
    }
}

/* --- distances -------------------------------------------------------------------------------------- */

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

static enum sl_code read_rows(struct sl_robust *r, size_t first, size_t n, struct sl_err *err)
{
    const struct sl_update_source *s = r->source;
    enum sl_code rc = SL_OK;
    for (size_t i = 0; rc == SL_OK && i < s->k; i++)
        if (r->share == NULL || r->share[i] != 0)
            rc = s->read(s->ctx, i, first, n, r->rows + i * r->tile, err);
    return rc;
}

static void add_distances(const struct sl_robust *r, size_t n, double *square)
{
    const struct sl_order_ops *ops = sl_order_ops(sl_cpu_usable());
    size_t k = r->source->k;
    for (size_t at = 0; at < n; at += DISTANCE_BLOCK) {
        size_t m = smaller(n - at, DISTANCE_BLOCK);
        for (size_t i = 0; i < k; i++)
            for (size_t j = i + 1; j < k; j++)
                square[i * k + j] +=
                    ops->distance(r->rows + i * r->tile + at, r->rows + j * r->tile + at, m);
    }
}

static enum sl_code measure(struct sl_robust *r, double *square, struct sl_err *err)
{
    const struct sl_update_source *s = r->source;
    enum sl_code rc = SL_OK;
    for (size_t at = 0; rc == SL_OK && at < s->n_values;) {
        size_t n = s->stretch(s->ctx, at, r->tile);
        rc = read_rows(r, at, n, err);
        if (rc == SL_OK)
            add_distances(r, n, square);
        at += n;
    }
    for (size_t i = 0; i < s->k; i++)
        for (size_t j = 0; j < i; j++)
            square[i * s->k + j] = square[j * s->k + i];
    return rc;
}

static enum sl_code choose(struct sl_robust *r, struct sl_err *err)
{
    size_t k = r->source->k;
    if (k > SL_PLAN_PAIRED_MAX)
        return sl_err_set(err, SL_E_LIMIT, "%s of %zu updates (at most %d)", r->rule->name, k,
                          SL_PLAN_PAIRED_MAX);
    double *square = sl_calloc(k * k, sizeof(*square));
    double *share = sl_calloc(2 * k, sizeof(*share));
    enum sl_code rc = square == NULL || share == NULL
                          ? sl_err_set(err, SL_E_NOMEM, "distances of %zu updates", k)
                          : measure(r, square, err);
    if (rc == SL_OK) {
        r->rule->choose(r->plan, square, r->source->weight, k, share + k, share);
        r->share = share;
        share = NULL;
    }
    free(square);
    free(share);
    return rc;
}

/* --- the result ------------------------------------------------------------------------------------- */

enum sl_code sl_robust_init(struct sl_robust *r, const struct sl_rule *rule,
                            const struct sl_plan *plan, const struct sl_update_source *source,
                            struct sl_err *err)
{
    *r = (struct sl_robust){.rule = rule, .plan = plan, .source = source};
    size_t k = source->k, least = rule->least(plan);
    if (k < least)
        return sl_err_set(err, SL_E_FAILED, "%s needs %zu updates, the round has %zu", rule->name,
                          least, k);
    size_t fits = SL_ROBUST_TILE_BYTES / sizeof(float) / k / MULTIPLE * MULTIPLE;
    r->tile = fits < MULTIPLE ? MULTIPLE : smaller(fits, TILE_MAX);
    r->rows = malloc(k * r->tile * sizeof(*r->rows));
    if (r->rows == NULL)
        return sl_err_set(err, SL_E_NOMEM, "rows of %zu updates", k);
    return rule->combine != NULL ? SL_OK : choose(r, err);
}

void sl_robust_deinit(struct sl_robust *r)
{
    if (r == NULL)
        return;
    free(r->rows);
    free(r->share);
    *r = (struct sl_robust){0};
}

/* Sum of n values of the rows by their shares, in double, in the updates' order. */
static void weigh_block(const struct sl_robust *r, size_t at, size_t n, float *ret)
{
    double sum[SL_ROBUST_BLOCK] = {0};
    for (size_t j = 0; j < r->source->k; j++) {
        const float *row = r->rows + j * r->tile + at;
        for (size_t i = 0; r->share[j] != 0 && i < n; i++)
            sum[i] += r->share[j] * (double)row[i];
    }
    for (size_t i = 0; i < n; i++)
        ret[i] = (float)sum[i];
}

enum sl_code sl_robust_tile(struct sl_robust *r, size_t first, size_t most_values, float *ret,
                            size_t *ret_n, struct sl_err *err)
{
    const struct sl_update_source *s = r->source;
    size_t n = s->stretch(s->ctx, first, smaller(most_values, r->tile));
    enum sl_code rc = read_rows(r, first, n, err);
    if (rc != SL_OK)
        return rc;
    for (size_t at = 0; at < n; at += SL_ROBUST_BLOCK) {
        size_t m = smaller(n - at, SL_ROBUST_BLOCK);
        if (r->rule->combine != NULL)
            r->rule->combine(r->plan, r->rows + at, s->k, r->tile, m, ret + at);
        else
            weigh_block(r, at, m, ret + at);
    }
    *ret_n = n;
    return SL_OK;
}
