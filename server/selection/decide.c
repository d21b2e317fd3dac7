/* SPDX-License-Identifier: Apache-2.0 */
#include "server/selection/decide.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/fdmath.h"
#include "common/mem.h"
#include "common/rng.h"

/* Streams of a round beside the clients' own. */
enum { DRAW_ROUND = 1, DRAW_CLIENT = 2 };

enum sl_code sl_decide_work_new(size_t n, const struct sl_fedmarl_policy *policy,
                                struct sl_decide_work *ret, struct sl_err *err)
{
    struct sl_decide_work w = {.capacity = n};
    w.score = sl_calloc(n + 1, 2 * sizeof(double));
    w.order = sl_calloc(n + 1, sizeof(*w.order));
    w.decisions = sl_calloc(n + 1, sizeof(*w.decisions));
    w.net = policy == NULL ? NULL : sl_calloc(sl_fedmarl_scratch(policy, n) + 1, sizeof(float));
    if (w.score == NULL || w.order == NULL || w.decisions == NULL ||
        (policy != NULL && w.net == NULL)) {
        sl_decide_work_free(&w);
        return sl_err_set(err, SL_E_NOMEM, "decisions about %zu clients", n);
    }
    *ret = w;
    return SL_OK;
}

void sl_decide_work_free(struct sl_decide_work *w)
{
    if (w == NULL)
        return;
    free(w->score);
    free(w->order);
    free(w->decisions);
    free(w->net);
    *w = (struct sl_decide_work){0};
}

double sl_decide_rest_s(const struct sl_round_facts *r, const struct sl_client_facts *f)
{
    double upload_s = 0, probe_s = f->n_probe > 0 ? f->probe_s[0] : r->mean_probe_s;
    for (uint32_t i = 0; i < f->n_upload; i++)
        upload_s += f->upload_s[i];
    upload_s = f->n_upload > 0 ? upload_s / f->n_upload : r->mean_upload_s;
    uint32_t probed = r->probe_epochs > 0 ? r->probe_epochs : 1;
    uint32_t left = r->epochs > probed ? r->epochs - probed : 0;
    return probe_s * left / probed + upload_s;
}

static double uniform(const struct sl_round_facts *r, uint32_t what, uint32_t client)
{
    struct sl_rng rng;
    sl_rng_init(&rng, &(struct sl_rng_id){.seed = r->seed,
                                          .purpose = SL_RNG_POLICY,
                                          .client = client,
                                          .round = r->round,
                                          .step = what});
    return sl_rng_f64(&rng);
}

static bool silent(const struct sl_client_facts *f)
{
    return !f->reported || !isfinite(f->probe_loss);
}

/* --- policies that keep the k highest scores -------------------------------------------------- */

struct ranking {
    const struct sl_client_facts *rows;
    const double *score;
};

static int descending(const void *pa, const void *pb, void *ctx)
{
    const struct ranking *r = ctx;
    uint32_t a = *(const uint32_t *)pa, b = *(const uint32_t *)pb;
    if (r->score[a] != r->score[b])
        return r->score[a] > r->score[b] ? -1 : 1;
    return r->rows[a].client < r->rows[b].client ? -1 : r->rows[a].client > r->rows[b].client;
}

static void keep_best(const struct sl_decide_input *in, struct sl_decide_work *w,
                      uint8_t *ret_accept)
{
    size_t n = 0, k = (size_t)(in->accept + uniform(in->round, DRAW_ROUND, 0));
    assert(in->n <= w->capacity);
    for (size_t i = 0; i < in->n; i++)
        if (!silent(&in->rows[i]))
            w->order[n++] = (uint32_t)i;
    qsort_r(w->order, n, sizeof(w->order[0]), descending,
            &(struct ranking){.rows = in->rows, .score = w->score});
    memset(ret_accept, 0, in->n);
    if (k < 1)
        k = 1;
    for (size_t i = 0; i < n && i < k; i++)
        ret_accept[w->order[i]] = 1;
}

static void decide_all(const struct sl_decide_input *in, struct sl_decide_work *w,
                       uint8_t *ret_accept)
{
    for (size_t i = 0; i < in->n; i++)
        ret_accept[i] = !silent(&in->rows[i]);
}

static void decide_random(const struct sl_decide_input *in, struct sl_decide_work *w,
                          uint8_t *ret_accept)
{
    for (size_t i = 0; i < in->n; i++)
        w->score[i] = uniform(in->round, DRAW_CLIENT, in->rows[i].client);
    keep_best(in, w, ret_accept);
}

static void decide_drop_slowest(const struct sl_decide_input *in, struct sl_decide_work *w,
                                uint8_t *ret_accept)
{
    for (size_t i = 0; i < in->n; i++)
        w->score[i] = -sl_decide_rest_s(in->round, &in->rows[i]);
    keep_best(in, w, ret_accept);
}

static void by_loss(const struct sl_decide_input *in, double sign, double *ret)
{
    for (size_t i = 0; i < in->n; i++)
        ret[i] = silent(&in->rows[i]) ? 0 : sign * in->rows[i].probe_loss;
}

static void decide_highest_loss(const struct sl_decide_input *in, struct sl_decide_work *w,
                                uint8_t *ret_accept)
{
    by_loss(in, 1, w->score);
    keep_best(in, w, ret_accept);
}

static void decide_lowest_loss(const struct sl_decide_input *in, struct sl_decide_work *w,
                               uint8_t *ret_accept)
{
    by_loss(in, -1, w->score);
    keep_best(in, w, ret_accept);
}

/* Cho, Wang, Joshi 2020: d candidates with a chance in proportion to samples (keys ln(u) / samples
 * of Efraimidis and Spirakis 2006), then the highest losses. Who is not drawn comes last. */
static void decide_power_of_choice(const struct sl_decide_input *in, struct sl_decide_work *w,
                                   uint8_t *ret_accept)
{
    size_t n = 0;
    for (size_t i = 0; i < in->n; i++) {
        double u = uniform(in->round, DRAW_CLIENT, in->rows[i].client);
        w->score[i] = sl_log(u > 0 ? u : 0x1p-53) / (double)in->rows[i].samples;
        if (!silent(&in->rows[i]))
            w->order[n++] = (uint32_t)i;
    }
    qsort_r(w->order, n, sizeof(w->order[0]), descending,
            &(struct ranking){.rows = in->rows, .score = w->score});
    size_t d = in->candidates > 0 && in->candidates < n ? in->candidates : n;
    for (size_t i = 0; i < n; i++) {
        uint32_t row = w->order[i];
        w->score[row] = i < d ? in->rows[row].probe_loss : -INFINITY;
    }
    keep_best(in, w, ret_accept);
}

static void decide_oort(const struct sl_decide_input *in, struct sl_decide_work *w,
                        uint8_t *ret_accept)
{
    sl_oort_score(in, w->score + w->capacity, w->score);
    keep_best(in, w, ret_accept);
}

static void decide_fedmarl(const struct sl_decide_input *in, struct sl_decide_work *w,
                           uint8_t *ret_accept)
{
    assert(in->policy != NULL && w->net != NULL && in->n <= w->capacity);
    sl_fedmarl_decide(in->policy, &in->rails, in->round, in->rows, in->n, w->net, w->decisions);
    for (size_t i = 0; i < in->n; i++)
        ret_accept[i] = w->decisions[i].accept;
}

static const struct sl_decide_ops policies[] = {
    {"all", false, decide_all},
    {"random", true, decide_random},
    {"drop-slowest", true, decide_drop_slowest},
    {"highest-loss", true, decide_highest_loss},
    {"lowest-loss", true, decide_lowest_loss},
    {"power-of-choice", true, decide_power_of_choice},
    {"oort", true, decide_oort},
    {"fedmarl", false, decide_fedmarl},
};

const struct sl_decide_ops *sl_decide_at(size_t i)
{
    return i < sizeof(policies) / sizeof(policies[0]) ? &policies[i] : NULL;
}

const struct sl_decide_ops *sl_decide_find(const char *name)
{
    for (size_t i = 0; i < sizeof(policies) / sizeof(policies[0]); i++)
        if (strcmp(policies[i].name, name) == 0)
            return &policies[i];
    return NULL;
}
