/* SPDX-License-Identifier: Apache-2.0 */
#include "sim/policy/update_table.h"

#include <stdlib.h>
#include <string.h>

#include "accel/nn/train.h"
#include "common/mem.h"
#include "common/rng.h"
#include "sim/policy/partitions.h"

#define KEEP_CLIENTS 10
#define KEEP_ROUND 1000000u /* beyond every round: cohorts that displace a start */

struct making {
    const struct sl_policy_plan *plan;
    struct sl_update_table *table;
};

struct federation_job {
    struct sl_worker_job job;
    const struct making *making;
    struct sl_federation *f;
    enum sl_code rc;
    struct sl_err err;
};

/* --- data ------------------------------------------------------------------------------------- */

/* Squares of `edge` pixels become their mean; what does not fill a square at the border is left. */
static enum sl_code pool(const struct sl_dataset *from, uint32_t edge, struct sl_dataset *ret,
                         struct sl_err *err)
{
    struct sl_dataset d = {.channels = from->channels,
                           .height = from->height / edge,
                           .width = from->width / edge,
                           .n_classes = from->n_classes,
                           .n = from->n};
    if (d.height == 0 || d.width == 0)
        return sl_err_set(err, SL_E_RANGE, "data.pooling: %u (at most the image: %u x %u)", edge,
                          from->height, from->width);
    const size_t values = sl_dataset_values(from), pooled = sl_dataset_values(&d);
    float *x = sl_calloc(values, sizeof(float));
    d.features = sl_calloc(d.n, pooled * sizeof(float));
    d.labels = sl_calloc(d.n, sizeof(*d.labels));
    if (x == NULL || d.features == NULL || d.labels == NULL) {
        free(x);
        sl_dataset_deinit(&d);
        return sl_err_set(err, SL_E_NOMEM, "%zu samples", d.n);
    }
    for (uint32_t i = 0; i < d.n; i++) {
        float *y = d.features + i * pooled;
        sl_dataset_gather(from, &i, 1, x, &d.labels[i]);
        for (size_t v = 0; v < pooled; v++) {
            size_t c = v / ((size_t)d.height * d.width);
            size_t row = v / d.width % d.height * edge, col = v % d.width * edge;
            float sum = 0;
            for (uint32_t r = 0; r < edge; r++)
                for (uint32_t q = 0; q < edge; q++)
                    sum += x[(c * from->height + row + r) * from->width + col + q];
            y[v] = sum / (float)(edge * edge);
        }
    }
    free(x);
    *ret = d;
    return SL_OK;
}

static enum sl_code load_data(const struct sl_policy_plan *plan, struct sl_update_table *t,
                              struct sl_err *err)
{
    const uint64_t wanted = (uint64_t)plan->data.samples + plan->data.holdout;
    const struct sl_dataset_source src = {.kind = plan->data.dataset,
                                          .path = plan->data.path,
                                          .split = SL_SPLIT_TRAIN,
                                          .limit = wanted};
    struct sl_dataset full = {0};
    enum sl_code rc = sl_dataset_load(&src, &full, err);
    if (rc == SL_OK && full.n < wanted)
        rc = sl_err_set(err, SL_E_RANGE,
                        "data.samples + data.holdout: %llu (the training set has %zu)",
                        (unsigned long long)wanted, full.n);
    if (rc == SL_OK)
        rc = pool(&full, plan->data.pooling, &t->set, err);
    sl_dataset_deinit(&full);
    return rc;
}

static enum sl_code make_model(const struct sl_policy_plan *plan, struct sl_update_table *t,
                               struct sl_err *err)
{
    struct sl_layer_spec layers[] = {{.kind = SL_LAYER_FLATTEN},
                                     {.kind = SL_LAYER_DENSE, .out = plan->local.hidden, .bias = true},
                                     {.kind = SL_LAYER_RELU},
                                     {.kind = SL_LAYER_DENSE, .out = t->set.n_classes, .bias = true}};
    const struct sl_model_spec spec = {.layers = layers, .n_layers = 4};
    const struct sl_shape input = {.n_dims = 3,
                                   .dim = {t->set.channels, t->set.height, t->set.width}};
    enum sl_code rc =
        sl_model_new(&spec, &input, t->set.n_classes, SL_LOSS_SOFTMAX_CE, &t->model, err);
    if (rc == SL_OK)
        t->n_params = sl_model_n_params(t->model);
    return rc;
}

/* --- training --------------------------------------------------------------------------------- */

/* A worker's bench for one federation. */
struct bench {
    const struct making *m;
    struct sl_federation *f;
    struct sl_partition part;
    struct sl_trainer *trainer;
    uint32_t *holdout;  /* [data.holdout] */
    float *current, *next; /* models */
};

static enum sl_code accuracy_of(struct bench *b, const float *values, double *ret,
                                struct sl_err *err)
{
    const struct sl_samples samples = {&b->m->table->set, b->holdout, b->m->plan->data.holdout};
    struct sl_eval_result e;
    enum sl_code rc = sl_evaluate(b->trainer, values, &samples, &e, err);
    if (rc == SL_OK)
        *ret = (double)e.correct / (double)e.n;
    return rc;
}

/* One client's local training from `start`; its values stand in the trainer afterwards. */
static enum sl_code train(struct bench *b, uint32_t client, uint32_t round, const float *start,
                          float *ret_probe_loss, struct sl_err *err)
{
    const struct sl_policy_plan *p = b->m->plan;
    const struct sl_train_spec spec = {.lr = p->local.lr,
                                       .momentum = p->local.momentum,
                                       .batch_size = p->local.batch_size,
                                       .epochs = p->local.epochs,
                                       .local_steps = -1,
                                       .seed = p->seed + b->f->number,
                                       .round = round,
                                       .client = client};
    struct sl_samples samples = {.set = &b->m->table->set};
    struct sl_train_result r;
    samples.index = sl_partition_client(&b->part, client, &samples.n);
    enum sl_code rc = sl_train_begin(b->trainer, start, &samples, &spec, err);
    if (rc == SL_OK)
        rc = sl_train_run(b->trainer, 1, &r, err);
    if (rc != SL_OK)
        return rc;
    *ret_probe_loss = (float)(r.loss_sum / (double)r.samples_seen);
    return sl_train_run(b->trainer, UINT32_MAX, &r, err);
}

/* All clients in the order drawn for a round; the first are its cohort. ret[clients]. */
static void cohort_of(const struct bench *b, uint32_t round, uint32_t *ret)
{
    struct sl_rng rng;
    sl_rng_init(&rng, &(struct sl_rng_id){.seed = b->m->plan->seed,
                                          .purpose = SL_RNG_AGENT,
                                          .client = round,
                                          .round = b->f->number,
                                          .step = 3,
                                          .tensor = 10});
    for (uint32_t c = 0; c < b->f->clients; c++)
        ret[c] = c;
    sl_rng_shuffle_u32(&rng, ret, b->f->clients);
}

/* next = mean, by samples, of what a drawn cohort trains from current. */
static enum sl_code reference_round(struct bench *b, uint32_t round, struct sl_err *err)
{
    const size_t n = b->m->table->n_params, cohort = b->m->plan->federation.reference_cohort;
    uint32_t order[10000];
    double total = 0;
    cohort_of(b, round, order);
    for (size_t i = 0; i < cohort; i++)
        total += b->f->samples[order[i]];
    memset(b->next, 0, n * sizeof(float));
    for (size_t i = 0; i < cohort; i++) {
        float loss, share = (float)(b->f->samples[order[i]] / total);
        enum sl_code rc = train(b, order[i], round, b->current, &loss, err);
        if (rc != SL_OK)
            return rc;
        const float *local = sl_train_values(b->trainer);
        for (size_t v = 0; v < n; v++)
            b->next[v] += share * local[v];
    }
    memcpy(b->current, b->next, n * sizeof(float));
    return SL_OK;
}

/* Runs the reference, and keeps models whose accuracy had not been reached before: the untrained
 * one, the best, and some in between, evenly. trail[rounds + 1, n_params]. */
static enum sl_code reference(struct bench *b, float *trail, uint32_t *records, struct sl_err *err)
{
    const uint32_t rounds = b->m->plan->federation.reference_rounds;
    const size_t n = b->m->table->n_params;
    uint32_t n_records = 0;
    double best = -1, accuracy[10001];
    sl_model_init_uniform(b->m->table->model, b->m->plan->seed + b->f->number, b->current);
    for (uint32_t r = 0; r <= rounds; r++) {
        memcpy(trail + r * n, b->current, n * sizeof(float));
        enum sl_code rc = accuracy_of(b, b->current, &accuracy[r], err);
        if (rc == SL_OK && r < rounds)
            rc = reference_round(b, r, err);
        if (rc != SL_OK)
            return rc;
        if (accuracy[r] > best) {
            best = accuracy[r];
            records[n_records++] = r;
        }
    }
    if (n_records < b->f->buckets)
        b->f->buckets = n_records;
    for (uint32_t i = 0; i < b->f->buckets; i++) {
        uint32_t last = b->f->buckets > 1 ? b->f->buckets - 1 : 1;
        uint32_t r = records[i * (n_records - 1) / last];
        memcpy(b->f->model + i * n, trail + r * n, n * sizeof(float));
        b->f->accuracy[i] = accuracy[r];
    }
    return SL_OK;
}

/* The bucket's models and updates are there. What local training leaves of a displaced start: the
 * displacement is a random cohort's mean update less that of everybody, the kind there is between
 * rounds; some clients train from there, and their models' shift is projected on it. */
static enum sl_code measure_keep(struct bench *b, uint32_t bucket, struct sl_err *err)
{
    struct sl_federation *f = b->f;
    const size_t n = b->m->table->n_params;
    const uint32_t cohort = b->m->plan->federation.cohort;
    const float *base = f->model + bucket * n;
    const float *updates = f->update + (size_t)bucket * f->clients * n;
    double dots = 0, squares = 0;
    uint32_t order[10000];
    cohort_of(b, KEEP_ROUND + bucket, order);
    memset(b->next, 0, n * sizeof(float));
    for (uint32_t i = 0; i < f->clients; i++) {
        float share = (i < cohort ? 1.0f / (float)cohort : 0) - 1.0f / (float)f->clients;
        for (size_t v = 0; v < n; v++)
            b->next[v] += share * updates[order[i] * n + v];
    }
    for (size_t v = 0; v < n; v++)
        b->current[v] = base[v] + b->next[v];
    for (uint32_t i = 0; i < KEEP_CLIENTS && i < f->clients; i++) {
        const uint32_t c = order[f->clients - 1 - i];
        float loss;
        enum sl_code rc = train(b, c, b->m->plan->federation.reference_rounds + bucket,
                                b->current, &loss, err);
        if (rc != SL_OK)
            return rc;
        const float *local = sl_train_values(b->trainer), *update = updates + c * n;
        for (size_t v = 0; v < n; v++) {
            double d = b->next[v];
            dots += d * (local[v] - base[v] - update[v]);
            squares += d * d;
        }
    }
    double keep = squares > 0 ? dots / squares : 0;
    f->keep[bucket] = (float)(keep < 0 ? 0 : keep > 1 ? 1 : keep);
    return SL_OK;
}

static enum sl_code fill(struct bench *b, struct sl_err *err)
{
    struct sl_federation *f = b->f;
    const size_t n = b->m->table->n_params;
    const uint32_t rounds = b->m->plan->federation.reference_rounds;
    for (uint32_t k = 0; k < f->buckets; k++) {
        enum sl_code rc = SL_OK;
        for (uint32_t c = 0; rc == SL_OK && c < f->clients; c++) {
            const float *start = f->model + k * n;
            float *update = f->update + ((size_t)k * f->clients + c) * n;
            rc = train(b, c, rounds + k, start, &f->probe_loss[(size_t)k * f->clients + c], err);
            const float *local = sl_train_values(b->trainer);
            for (size_t v = 0; rc == SL_OK && v < n; v++)
                update[v] = local[v] - start[v];
        }
        if (rc == SL_OK)
            rc = measure_keep(b, k, err);
        if (rc != SL_OK)
            return rc;
    }
    return SL_OK;
}

static enum sl_code make_federation(struct bench *b, struct sl_err *err)
{
    const struct sl_policy_plan *p = b->m->plan;
    const size_t n = b->m->table->n_params, rounds = p->federation.reference_rounds;
    const struct sl_trainer_options options = {.max_batch = 256};
    float *trail = sl_calloc(rounds + 1, n * sizeof(float));
    uint32_t *records = sl_calloc(rounds + 1, sizeof(*records));
    b->current = sl_calloc(n, sizeof(float));
    b->next = sl_calloc(n, sizeof(float));
    b->holdout = sl_calloc(p->data.holdout, sizeof(*b->holdout));
    enum sl_code rc = SL_OK;
    if (trail == NULL || records == NULL || b->current == NULL || b->next == NULL ||
        b->holdout == NULL)
        rc = sl_err_set(err, SL_E_NOMEM, "federation %u", b->f->number);
    for (uint32_t i = 0; rc == SL_OK && i < p->data.holdout; i++)
        b->holdout[i] = p->data.samples + i;
    if (rc == SL_OK)
        rc = sl_trainer_new(b->m->table->model, &options, &b->trainer, err);
    if (rc == SL_OK)
        rc = sl_policy_partition_make((enum sl_policy_partition)(b->f->number % SL_POLICY_PARTITIONS),
                                      &b->m->table->set, p->data.samples, b->f->clients, p->seed,
                                      b->f->number, &b->part, err);
    for (uint32_t c = 0; rc == SL_OK && c < b->f->clients; c++)
        b->f->samples[c] = (uint32_t)(b->part.offset[c + 1] - b->part.offset[c]);
    if (rc == SL_OK)
        rc = reference(b, trail, records, err);
    if (rc == SL_OK)
        rc = fill(b, err);
    free(trail);
    free(records);
    return rc;
}

static void run_job(struct sl_worker_job *job, unsigned worker)
{
    struct federation_job *j = (struct federation_job *)job;
    struct bench b = {.m = j->making, .f = j->f};
    j->rc = make_federation(&b, &j->err);
    sl_trainer_free(b.trainer);
    sl_partition_deinit(&b.part);
    free(b.current);
    free(b.next);
    free(b.holdout);
}

/* --- the table -------------------------------------------------------------------------------- */

static bool alloc_federation(const struct making *m, uint32_t number, struct sl_federation *f)
{
    const size_t clients = m->plan->federation.clients, buckets = m->plan->federation.buckets;
    const size_t n = m->table->n_params;
    f->number = number;
    f->clients = (uint32_t)clients;
    f->buckets = (uint32_t)buckets;
    f->samples = sl_calloc(clients, sizeof(*f->samples));
    f->accuracy = sl_calloc(buckets, sizeof(double));
    f->keep = sl_calloc(buckets, sizeof(float));
    f->model = sl_calloc(buckets, n * sizeof(float));
    f->probe_loss = sl_calloc(buckets * clients, sizeof(float));
    f->update = sl_calloc(buckets * clients, n * sizeof(float));
    return f->samples != NULL && f->accuracy != NULL && f->keep != NULL && f->model != NULL &&
           f->probe_loss != NULL && f->update != NULL;
}

static enum sl_code make_all(const struct making *m, struct sl_workers *workers,
                             sl_update_table_progress progress, void *ctx, struct sl_err *err)
{
    const uint32_t n = m->table->n_federations;
    struct federation_job *jobs = sl_calloc(n, sizeof(*jobs));
    if (jobs == NULL)
        return sl_err_set(err, SL_E_NOMEM, "%u federations", n);
    enum sl_code rc = SL_OK;
    for (uint32_t i = 0; i < n; i++) {
        jobs[i] = (struct federation_job){
            .job = {.run = run_job}, .making = m, .f = &m->table->federations[i]};
        sl_workers_submit(workers, &jobs[i].job);
    }
    for (uint32_t i = 0; i < n; i++) {
        sl_workers_wait(workers, &jobs[i].job);
        if (rc == SL_OK && jobs[i].rc != SL_OK) {
            *err = jobs[i].err;
            rc = sl_err_wrap(err, jobs[i].rc, "federation %u", i);
        }
        if (rc == SL_OK && progress != NULL)
            progress(ctx, i + 1, n);
    }
    free(jobs);
    return rc;
}

enum sl_code sl_update_table_new(const struct sl_policy_plan *plan, struct sl_workers *workers,
                                 sl_update_table_progress progress, void *ctx,
                                 struct sl_update_table **ret, struct sl_err *err)
{
    struct sl_update_table *t = sl_calloc(1, sizeof(*t));
    if (t == NULL)
        return sl_err_set(err, SL_E_NOMEM, "table of updates");
    const struct making m = {.plan = plan, .table = t};
    enum sl_code rc = load_data(plan, t, err);
    if (rc == SL_OK)
        rc = make_model(plan, t, err);
    t->n_federations = SL_POLICY_PARTITIONS * (plan->federation.pool + plan->federation.held_out);
    t->federations = sl_calloc(t->n_federations, sizeof(*t->federations));
    if (rc == SL_OK && t->federations == NULL)
        rc = sl_err_set(err, SL_E_NOMEM, "table of updates");
    for (uint32_t i = 0; rc == SL_OK && i < t->n_federations; i++)
        if (!alloc_federation(&m, i, &t->federations[i]))
            rc = sl_err_set(err, SL_E_NOMEM, "updates of federation %u", i);
    if (rc == SL_OK)
        rc = make_all(&m, workers, progress, ctx, err);
    if (rc != SL_OK) {
        sl_update_table_free(t);
        return rc;
    }
    *ret = t;
    return SL_OK;
}

void sl_update_table_free(struct sl_update_table *t)
{
    if (t == NULL)
        return;
    for (uint32_t i = 0; t->federations != NULL && i < t->n_federations; i++) {
        struct sl_federation *f = &t->federations[i];
        free(f->samples);
        free(f->accuracy);
        free(f->keep);
        free(f->model);
        free(f->probe_loss);
        free(f->update);
    }
    free(t->federations);
    sl_model_free(t->model);
    sl_dataset_deinit(&t->set);
    free(t);
}

uint32_t sl_federation_bucket(const struct sl_federation *f, double accuracy)
{
    uint32_t b = 0;
    while (b + 1 < f->buckets && accuracy > 0.5 * (f->accuracy[b] + f->accuracy[b + 1]))
        b++;
    return b;
}
