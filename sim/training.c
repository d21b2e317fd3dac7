/* SPDX-License-Identifier: Apache-2.0 */
#include "sim/training.h"

#include <stdlib.h>
#include <string.h>

#include "accel/nn/calibrate.h"
#include "accel/nn/plan_model.h"
#include "client/local/received.h"
#include "common/index_file.h"
#include "common/mem.h"
#include "sim/attack/attacker.h"

/* A worker's own: bench and the split of the client at hand. */
struct bench {
    struct sl_local_bench *bench;
    uint32_t *split; /* [largest share of samples] */
    uint8_t *state;  /* [n_state] */
    struct sl_received received;
    struct sl_attacker attacker; /* {0} before the first attack */
};

struct sl_training {
    const struct sl_plan *plan;
    const struct sl_attack *attack; /* NULL = all are honest */
    struct sl_dataset flipped;      /* set with other labels, which alone it owns */
    struct sl_model *model;
    struct sl_dataset set;
    struct sl_partition part;
    struct sl_index_table steps; /* empty without train.local_steps of a file */
    struct bench *bench;
    unsigned n_workers;
    size_t largest;
    struct sl_codec codec;
    size_t n_state; /* bytes a client carries over */
};

static enum sl_code make_model(struct sl_training *t, struct sl_err *err)
{
    const struct sl_plan *p = t->plan;
    enum sl_code rc = sl_plan_model(p, &t->set, t->set.n_classes, &t->model, err);
    if (rc != SL_OK)
        return rc;
    t->n_state = sl_local_state_bytes(p, sl_model_layout(t->model));
    return sl_codec_init(&p->uplink, sl_model_layout(t->model), sl_local_vectors(p), &t->codec,
                         err);
}

static enum sl_code make_partition(struct sl_training *t, struct sl_err *err)
{
    struct sl_partition_input in = {.labels = t->set.labels,
                                    .n = t->set.n,
                                    .n_classes = t->set.n_classes,
                                    .seed = t->plan->run.seed};
    enum sl_code rc = sl_partition_make(&t->plan->data.partition, &in, &t->part, err);
    if (rc != SL_OK)
        return sl_err_wrap(err, rc, "partition");
    for (uint32_t c = 0; c < t->part.clients; c++) {
        size_t n;
        sl_partition_client(&t->part, c, &n);
        if (n > t->largest)
            t->largest = n;
    }
    return SL_OK;
}

static enum sl_code load_steps(struct sl_training *t, struct sl_err *err)
{
    if (t->plan->train.steps_path[0] == '\0')
        return SL_OK;
    return sl_index_load(SL_INDEX_STEPS, t->plan->train.steps_path, &t->steps, err);
}

static enum sl_code load_set(struct sl_training *t, struct sl_err *err)
{
    struct sl_dataset_source src = {.kind = t->plan->data.dataset,
                                    .path = t->plan->data.path,
                                    .split = SL_SPLIT_TRAIN,
                                    .limit = t->plan->data.limit};
    return sl_dataset_load(&src, &t->set, err);
}

enum sl_code sl_training_new(const struct sl_plan *plan, unsigned n_workers,
                             struct sl_training **ret, struct sl_err *err)
{
    struct sl_training *t = sl_calloc(1, sizeof(*t));
    if (t == NULL)
        return sl_err_set(err, SL_E_NOMEM, "training");
    t->plan = plan;
    t->n_workers = n_workers;
    t->bench = sl_calloc(n_workers, sizeof(*t->bench));
    enum sl_code rc =
        t->bench == NULL ? sl_err_set(err, SL_E_NOMEM, "training") : load_set(t, err);
    if (rc == SL_OK)
        rc = make_model(t, err);
    if (rc == SL_OK)
        rc = make_partition(t, err);
    if (rc == SL_OK)
        rc = load_steps(t, err);
    if (rc != SL_OK) {
        sl_training_free(t);
        return rc;
    }
    *ret = t;
    return SL_OK;
}

static enum sl_code flip_labels(struct sl_training *t, struct sl_err *err)
{
    t->flipped = t->set;
    t->flipped.labels = sl_calloc(t->set.n, sizeof(*t->flipped.labels));
    if (t->flipped.labels == NULL)
        return sl_err_set(err, SL_E_NOMEM, "flipped labels");
    for (size_t i = 0; i < t->set.n; i++)
        t->flipped.labels[i] = (int32_t)t->set.n_classes - 1 - t->set.labels[i];
    return SL_OK;
}

enum sl_code sl_training_attack(struct sl_training *t, const struct sl_attack *attack,
                                struct sl_err *err)
{
    if (attack->n > t->part.clients)
        return sl_err_set(err, SL_E_INPUT, "%u attackers of %u clients", attack->n,
                          t->part.clients);
    if (t->n_state > 0)
        return sl_err_set(err, SL_E_INPUT, "attackers in a run whose clients carry state "
                                           "from round to round");
    enum sl_code rc = attack->ops->flips_labels ? flip_labels(t, err) : SL_OK;
    if (rc == SL_OK)
        t->attack = attack;
    return rc;
}

void sl_training_free(struct sl_training *t)
{
    if (t == NULL)
        return;
    for (unsigned w = 0; t->bench != NULL && w < t->n_workers; w++) {
        sl_local_bench_free(t->bench[w].bench);
        free(t->bench[w].split);
        free(t->bench[w].state);
        sl_received_deinit(&t->bench[w].received);
        sl_attacker_deinit(&t->bench[w].attacker);
    }
    free(t->bench);
    sl_codec_deinit(&t->codec);
    sl_index_table_deinit(&t->steps);
    sl_partition_deinit(&t->part);
    sl_model_free(t->model);
    sl_dataset_deinit(&t->set);
    free(t->flipped.labels);
    free(t);
}

const struct sl_plan *sl_training_plan(const struct sl_training *t)
{
    return t->plan;
}

const struct sl_model *sl_training_model(const struct sl_training *t)
{
    return t->model;
}

const struct sl_codec *sl_training_codec(const struct sl_training *t)
{
    return &t->codec;
}

uint64_t sl_training_update_bytes(const struct sl_training *t)
{
    struct sl_calib_shape shape;
    struct sl_err none;
    uint64_t n = t->codec.n_bytes, statistics = 0;
    if (sl_calib_shape_of(t->model, t->plan->calibration.balanced, &shape, &none) == SL_OK)
        statistics = sl_calib_bytes(&shape);
    return n > statistics ? n : statistics;
}

size_t sl_training_state_bytes(const struct sl_training *t)
{
    return t->n_state;
}

const struct sl_partition *sl_training_partition(const struct sl_training *t)
{
    return &t->part;
}

const struct sl_dataset *sl_training_set(const struct sl_training *t)
{
    return &t->set;
}

/* This client's local steps; -1 = epochs decide. */
static int64_t steps_of(const struct sl_training *t, uint32_t client)
{
    if (t->steps.n_rows == 0)
        return t->plan->train.local_steps;
    size_t n;
    const uint32_t *steps = sl_index_find(&t->steps, client, &n);
    return steps == NULL ? -1 : (int64_t)steps[0];
}

/* How many of n samples train; the others are held out (rounded as sl_holdout_split
 * does). */
static size_t n_training(const struct sl_training *t, uint32_t client, uint32_t *scratch)
{
    size_t n, n_train;
    const uint32_t *own = sl_partition_client(&t->part, client, &n);
    if (t->plan->evaluation.holdout <= 0)
        return n;
    sl_holdout_split(own, n, t->plan->evaluation.holdout, t->plan->run.seed, client,
                     scratch, &n_train);
    return n_train;
}

uint64_t sl_training_samples(const struct sl_training *t, uint32_t client, bool train,
                             bool evaluate)
{
    size_t n;
    sl_partition_client(&t->part, client, &n);
    double share = t->plan->evaluation.holdout;
    uint64_t held = (uint64_t)((double)n * share + 0.5), own = n > held ? n - held : 1;
    uint64_t total = evaluate ? held : 0;
    if (!train)
        return total;
    int64_t steps = steps_of(t, client);
    uint32_t batch = t->plan->train.batch_size;
    if (steps < 0)
        return total + own * t->plan->train.epochs;
    return total + (uint64_t)steps * (batch == 0 || batch > own ? own : batch);
}

uint64_t sl_training_part(const struct sl_training *t, uint32_t client, bool probe, bool evaluate)
{
    uint64_t held = sl_training_samples(t, client, false, true);
    uint64_t all = sl_training_samples(t, client, true, false), epochs = t->plan->train.epochs;
    uint64_t first = all / epochs * t->plan->selection.probe_epochs;
    return probe ? first + (evaluate ? held : 0) : all - first;
}

static enum sl_code ready_bench(struct sl_training *t, struct bench *b,
                                struct sl_err *err)
{
    if (b->split == NULL)
        b->split = sl_calloc(t->largest, sizeof(*b->split));
    if (b->state == NULL && t->n_state > 0)
        b->state = sl_calloc(t->n_state, 1);
    if (b->split == NULL || (t->n_state > 0 && b->state == NULL))
        return sl_err_set(err, SL_E_NOMEM, "worker's bench");
    return b->bench != NULL ? SL_OK
                            : sl_local_bench_new(t->plan, t->model, &b->bench, err);
}

static struct sl_local_data data_of(const struct sl_training *t, uint32_t client,
                                    uint32_t *split)
{
    size_t n;
    const uint32_t *own = sl_partition_client(&t->part, client, &n);
    size_t n_train = n_training(t, client, split);
    if (n_train == n)
        memcpy(split, own, n * sizeof(*own));
    return (struct sl_local_data){.set = &t->set,
                                  .train = split,
                                  .n_train = n_train,
                                  .holdout = split + n_train,
                                  .n_holdout = n - n_train};
}

static enum sl_code train(struct sl_training *t, struct bench *b,
                          const struct sl_training_task *task, const float *start,
                          const struct sl_local_data *data, struct sl_training_result *r)
{
    const struct sl_layout *layout = sl_model_layout(t->model);
    struct sl_local_order order = {.plan = t->plan,
                                   .variates = sl_local_variates(t->plan, layout, task->model),
                                   .client = task->client,
                                   .round = task->round,
                                   .local_steps = steps_of(t, task->client),
                                   .evaluate = task->evaluate};
    const uint8_t *update;
    size_t n;
    enum sl_code rc = SL_OK;
    r->samples = (uint32_t)data->n_train;
    if (task->states != NULL && task->state != SL_VFILE_NONE) {
        rc = sl_vfile_read(task->states, task->state, b->state, t->n_state, &r->err);
        order.state = b->state;
    }
    if (rc == SL_OK && task->probe)
        return sl_local_probe(b->bench, &order, data, start, &r->loss, &r->err);
    if (rc == SL_OK)
        rc = sl_local_train(b->bench, &order, data, start, &r->meta, &update, &n,
                            &r->err);
    if (rc == SL_OK && task->states != NULL)
        rc = sl_vfile_write(task->states, task->staged, sl_local_state(b->bench),
                            t->n_state, &r->err);
    if (rc != SL_OK)
        return rc;
    sl_xxh3_128(update, n, &r->blob.id);
    r->blob.size = n;
    return sl_vfile_write(task->file, task->region, update, n, &r->err);
}

/* --- attackers -------------------------------------------------------------------- */

static bool attacks(const struct sl_training *t, const struct sl_training_task *task)
{
    return t->attack != NULL && task->train && !task->probe && task->client < t->attack->n;
}

/* What attacker `client` would send if it did not alter it. */
static enum sl_code train_attacker(struct sl_training *t, struct bench *b,
                                   const struct sl_training_task *task, uint32_t client,
                                   const float *start, struct sl_update_meta *ret_meta,
                                   struct sl_err *err)
{
    struct sl_local_data data = data_of(t, client, b->split);
    struct sl_local_order order = {.plan = t->plan,
                                   .client = client,
                                   .round = task->round,
                                   .local_steps = steps_of(t, client),
                                   .evaluate = task->evaluate};
    struct sl_update_meta meta;
    const uint8_t *update;
    size_t n;
    bool own = client == task->client;
    if (t->attack->ops->flips_labels)
        data.set = &t->flipped;
    enum sl_code rc =
        sl_local_train(b->bench, &order, &data, start, &meta, &update, &n, err);
    if (rc == SL_OK)
        rc = sl_attacker_add(&b->attacker, update, own, err);
    if (rc == SL_OK && own)
        *ret_meta = meta;
    return rc;
}

static enum sl_code attack(struct sl_training *t, struct bench *b,
                           const struct sl_training_task *task, const float *start,
                           struct sl_training_result *r)
{
    struct sl_codec_noise noise = {
        .seed = t->plan->run.seed, .client = task->client, .round = task->round};
    bool all = t->attack->ops->colludes;
    const uint8_t *update;
    enum sl_code rc = SL_OK;
    if (b->attacker.attack == NULL)
        rc = sl_attacker_init(&b->attacker, t->attack, &t->codec, &r->err);
    if (rc == SL_OK)
        sl_attacker_begin(&b->attacker);
    for (uint32_t c = 0; c < t->attack->n && rc == SL_OK; c++)
        if (all || c == task->client)
            rc = train_attacker(t, b, task, c, start, &r->meta, &r->err);
    if (rc == SL_OK)
        rc = sl_attacker_send(&b->attacker, &noise, &update, &r->err);
    if (rc != SL_OK)
        return rc;
    sl_xxh3_128(update, t->codec.n_bytes, &r->blob.id);
    r->blob.size = t->codec.n_bytes;
    return sl_vfile_write(task->file, task->region, update, t->codec.n_bytes, &r->err);
}

static enum sl_code calibrate(struct sl_training *t, struct bench *b,
                              const struct sl_training_task *task, const float *start,
                              const struct sl_local_data *data, struct sl_training_result *r)
{
    const uint8_t *bytes;
    size_t n;
    enum sl_code rc = sl_local_calibrate(b->bench, t->plan, data, start, &r->meta, &bytes, &n,
                                         &r->err);
    if (rc != SL_OK)
        return rc;
    sl_xxh3_128(bytes, n, &r->blob.id);
    r->blob.size = n;
    return sl_vfile_write(task->file, task->region, bytes, n, &r->err);
}

void sl_training_do(struct sl_training *t, unsigned worker,
                    const struct sl_training_task *task, struct sl_training_result *ret)
{
    struct bench *b = &t->bench[worker];
    *ret = (struct sl_training_result){0};
    ret->rc = ready_bench(t, b, &ret->err);
    if (ret->rc != SL_OK)
        return;
    struct sl_local_data data = data_of(t, task->client, b->split);
    if (task->probe && t->attack != NULL && task->client < t->attack->n &&
        t->attack->ops->flips_labels)
        data.set = &t->flipped;
    const float *start;
    size_t behind = (sl_local_vectors(t->plan) - 1) *
                    sl_layout_travelling(sl_model_layout(t->model));
    ret->rc = sl_received_join(&b->received, sl_model_layout(t->model), task->model, behind,
                               task->head, &start, &ret->err);
    if (ret->rc == SL_OK)
        ret->rc = attacks(t, task)  ? attack(t, b, task, start, ret)
                  : task->train     ? train(t, b, task, start, &data, ret)
                  : task->calibrate ? calibrate(t, b, task, start, &data, ret)
                                    : sl_local_evaluate(b->bench, &data, start, &ret->eval,
                                                  &ret->err);
}
