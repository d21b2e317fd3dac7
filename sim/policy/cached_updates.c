/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "accel/nn/train.h"
#include "common/mem.h"
#include "sim/policy/update_source.h"

struct cached {
    struct sl_update_source source;
    const struct sl_policy_plan *plan;
    const struct sl_update_table *table;
    uint32_t first;
    struct sl_trainer *trainer;
    uint32_t *holdout;
    const struct sl_federation *f;
    const uint32_t *cohort;
    uint32_t n, bucket;
    float *model, *next; /* [n_params] */
    double reached;      /* accuracy of next */
};

static struct cached *self(struct sl_update_source *s)
{
    return (struct cached *)s;
}

static double accuracy_of(struct cached *c, const float *values)
{
    const struct sl_samples samples = {&c->table->set, c->holdout, c->plan->data.holdout};
    struct sl_eval_result e;
    struct sl_err err;
    enum sl_code rc = sl_evaluate(c->trainer, values, &samples, &e, &err);
    if (rc == SL_OK)
        return (double)e.correct / (double)e.n;
    if (c->source.failure.code == SL_OK)
        c->source.failure = err;
    return 0;
}

static double begin(struct sl_update_source *s, uint32_t which)
{
    struct cached *c = self(s);
    c->f = &c->table->federations[c->first + which];
    s->samples = c->f->samples;
    memcpy(c->model, c->f->model, s->n_params * sizeof(float));
    c->bucket = sl_federation_bucket(c->f, c->f->accuracy[0]);
    return c->f->accuracy[0];
}

static void probe(struct sl_update_source *s, uint32_t round, const uint32_t *cohort, uint32_t n,
                  double *ret_loss)
{
    struct cached *c = self(s);
    c->cohort = cohort;
    c->n = n;
    for (uint32_t i = 0; i < n; i++)
        ret_loss[i] = c->f->probe_loss[(size_t)c->bucket * c->f->clients + cohort[i]];
}

/* Local training from the model as it stands gives the bucket's model, what the training keeps of
 * the way from there, and the cached update. */
static double reach(struct sl_update_source *s, const uint8_t *in, const float *scale)
{
    struct cached *c = self(s);
    const size_t n_params = s->n_params;
    const float *base = c->f->model + (size_t)c->bucket * n_params;
    const float keep = (float)c->plan->federation.keep * c->f->keep[c->bucket];
    double total = 0;
    for (uint32_t i = 0; i < c->n; i++)
        total += in[i] ? s->samples[c->cohort[i]] : 0;
    if (total == 0) {
        memcpy(c->next, c->model, n_params * sizeof(float));
        return c->reached = accuracy_of(c, c->next);
    }
    for (size_t v = 0; v < n_params; v++)
        c->next[v] = base[v] + keep * (c->model[v] - base[v]);
    for (uint32_t i = 0; i < c->n; i++) {
        const float share =
            (float)(s->samples[c->cohort[i]] / total) * (scale != NULL ? scale[i] : 1);
        const float *update =
            c->f->update + ((size_t)c->bucket * c->f->clients + c->cohort[i]) * n_params;
        for (size_t v = 0; in[i] && v < n_params; v++)
            c->next[v] += share * update[v];
    }
    return c->reached = accuracy_of(c, c->next);
}

/* An unlucky cohort costs accuracy, not what was learned: the next rounds repair it. So buckets
 * only rise. */
static void keep(struct sl_update_source *s)
{
    struct cached *c = self(s);
    float *model = c->next;
    c->next = c->model;
    c->model = model;
    uint32_t reached = sl_federation_bucket(c->f, c->reached);
    c->bucket = reached > c->bucket ? reached : c->bucket;
}

static void free_source(struct sl_update_source *s)
{
    struct cached *c = self(s);
    sl_trainer_free(c->trainer);
    free(c->holdout);
    free(c->model);
    free(c->next);
    free(c);
}

static const struct sl_update_source_ops ops = {begin, probe, reach, keep, free_source};

enum sl_code sl_cached_updates_new(const struct sl_policy_plan *plan,
                                   const struct sl_update_table *table, uint32_t first, uint32_t n,
                                   struct sl_update_source **ret, struct sl_err *err)
{
    const struct sl_trainer_options options = {.max_batch = 256};
    struct cached *c = sl_calloc(1, sizeof(*c));
    if (c == NULL)
        return sl_err_set(err, SL_E_NOMEM, "cached updates");
    c->source = (struct sl_update_source){.ops = &ops,
                                          .clients = plan->federation.clients,
                                          .n_classes = table->set.n_classes,
                                          .n_federations = n,
                                          .epochs = plan->local.epochs,
                                          .n_params = table->n_params};
    c->plan = plan;
    c->table = table;
    c->first = first;
    c->holdout = sl_calloc(plan->data.holdout, sizeof(*c->holdout));
    c->model = sl_calloc(table->n_params, sizeof(float));
    c->next = sl_calloc(table->n_params, sizeof(float));
    enum sl_code rc = SL_OK;
    if (c->holdout == NULL || c->model == NULL || c->next == NULL)
        rc = sl_err_set(err, SL_E_NOMEM, "cached updates");
    for (uint32_t i = 0; rc == SL_OK && i < plan->data.holdout; i++)
        c->holdout[i] = plan->data.samples + i;
    if (rc == SL_OK)
        rc = sl_trainer_new(table->model, &options, &c->trainer, err);
    if (rc != SL_OK) {
        free_source(&c->source);
        return rc;
    }
    begin(&c->source, 0);
    *ret = &c->source;
    return SL_OK;
}
