/* SPDX-License-Identifier: Apache-2.0 */
/* Clients as the world has them: an index into a table until they are given something to
 * do. A task starts on a worker thread at once and ends, for the client, when its device
 * would have finished; the update lies in a region of the shared file and becomes the
 * client's only then, so that a kill in between leaves nothing. */
#include "sim/world_internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/mem.h"

#define START_SPREAD_US 1000000u /* clients come up within this time */

/* --- what a client asks of its surroundings
 * --------------------------------------------------- */

static void env_send(void *ctx, uint64_t id, const struct sl_msg *m)
{
    link_send(ctx, id, m);
}

static void env_wake_at(void *ctx, uint64_t at_ms)
{
    struct vclient *v = ctx;
    uint64_t at_us = at_ms * 1000;
    world_push(v->w, EV_CLIENT_TIME, at_us > v->w->now_us ? at_us : v->w->now_us,
               v->index, ++v->alarm, 0);
}

static enum sl_code env_blob_begin(void *ctx, const struct sl_blob_ref *ref,
                                   struct sl_err *err)
{
    struct vclient *v = ctx;
    if (v->n_held == SL_CLIENT_BLOBS)
        return sl_err_set(err, SL_E_BUG, "a client holds more than %d blobs", SL_CLIENT_BLOBS);
    enum sl_code rc = sl_blob_cache_begin(&v->w->blobs, ref, err);
    if (rc == SL_OK)
        v->held[v->n_held++] = *ref;
    return rc;
}

static enum sl_code env_blob_write(void *ctx, const struct sl_blob_ref *ref,
                                   uint64_t offset, const uint8_t *data, size_t n,
                                   struct sl_err *err)
{
    struct vclient *v = ctx;
    return sl_blob_cache_write(&v->w->blobs, ref, offset, data, n, err);
}

static enum sl_code env_blob_finish(void *ctx, const struct sl_blob_ref *ref,
                                    const uint8_t **ret_bytes, struct sl_err *err)
{
    struct vclient *v = ctx;
    return sl_blob_cache_finish(&v->w->blobs, ref, ret_bytes, err);
}

static void env_blob_release(void *ctx, const struct sl_blob_ref *ref)
{
    struct vclient *v = ctx;
    for (uint8_t i = 0; i < v->n_held; i++)
        if (sl_blob_id_equal(&v->held[i].id, &ref->id)) {
            v->held[i] = v->held[--v->n_held];
            sl_blob_cache_release(&v->w->blobs, ref);
            return;
        }
}

/* --- work
 * ------------------------------------------------------------------------------------------
 */

static void run_work(struct sl_worker_job *job, unsigned worker)
{
    struct work *k = (struct work *)job;
    sl_training_do(k->training, worker, &k->task, &k->result);
}

static struct sl_training *training_of(const struct sl_world *w, uint64_t run)
{
    for (size_t i = 0; i < w->opt.n_plans; i++)
        if (w->runs[i] == run)
            return w->training[i];
    return NULL;
}

/* probe: the first part of a training with probes. */
static enum sl_code prepare_work(struct vclient *v, const struct sl_client_job *job, bool probe,
                                 struct work *k, struct sl_err *err)
{
    struct sl_world *w = v->w;
    *k = (struct work){.job.run = run_work,
                       .w = w,
                       .order = job->order,
                       .model = job->order.model,
                       .head = job->order.head,
                       .client = v->index,
                       .boot = v->boot,
                       .training = training_of(w, job->order.run_id)};
    if (k->training == NULL)
        return sl_err_set(err, SL_E_BUG, "a task of unknown run %" PRIu64,
                          job->order.run_id);
    k->task = (struct sl_training_task){.client = job->index,
                                        .round = job->order.round,
                                        .train = job->order.kind == SL_TASK_TRAIN,
                                        .probe = probe,
                                        .calibrate = job->order.kind == SL_TASK_CALIBRATE,
                                        .evaluate = job->order.evaluate ||
                                                    job->order.kind == SL_TASK_EVALUATE,
                                        .model = job->model,
                                        .head = job->head,
                                        .file = &w->file,
                                        .region = SL_VFILE_NONE,
                                        .staged = SL_VFILE_NONE};
    if (job->index >= sl_training_partition(k->training)->clients)
        return sl_err_set(err, SL_E_BUG, "client %" PRIu32 " has no samples", job->index);
    enum sl_code rc = sl_blob_cache_begin(&w->blobs, &k->model, err);
    if (rc == SL_OK && k->head.size > 0)
        rc = sl_blob_cache_begin(&w->blobs, &k->head, err);
    if (rc == SL_OK && !probe && (k->task.train || k->task.calibrate))
        rc = sl_vfile_take(&w->file, &k->task.region, err);
    if (rc == SL_OK && k->task.train && sl_training_state_bytes(k->training) > 0) {
        const struct sl_vstate *s = &v->store.state;
        k->task.states = &w->states;
        k->task.state = s->run_id == k->order.run_id ? s->region : SL_VFILE_NONE;
        if (!probe)
            rc = sl_vfile_take(&w->states, &k->task.staged, err);
    }
    return rc;
}

static bool probes(const struct sl_world *w, const struct sl_client_job *job)
{
    const struct sl_training *t = training_of(w, job->order.run_id);
    return t != NULL && job->order.kind == SL_TASK_TRAIN &&
           sl_training_plan(t)->selection.probe_epochs > 0;
}

static uint64_t samples_of(const struct work *k)
{
    const struct sl_training_task *task = &k->task;
    if (task->train && sl_training_plan(k->training)->selection.probe_epochs > 0)
        return sl_training_part(k->training, task->client, task->probe, task->evaluate);
    return sl_training_samples(k->training, task->client, task->train || task->calibrate,
                               task->evaluate);
}

static void begin_work(struct vclient *v, const struct sl_client_job *job, bool probe)
{
    struct sl_world *w = v->w;
    struct work *k = malloc(sizeof(*k));
    struct sl_err err = {.msg = "task"};
    enum sl_code rc = k == NULL ? SL_E_NOMEM : prepare_work(v, job, probe, k, &err);
    if (rc != SL_OK) {
        free(k);
        world_fail(w, rc, err.msg);
        return;
    }
    v->work = k;
    sl_workers_submit(w->workers, &k->job);
    world_push(w, EV_TRAINED,
               w->now_us + sl_device_train_us(&w->devices, v->index, samples_of(k)), v->index,
               v->boot, 0);
}

static void env_work(void *ctx, const struct sl_client_job *job)
{
    struct vclient *v = ctx;
    bool probe = probes(v->w, job);
    v->job = probe ? job : NULL;
    begin_work(v, job, probe);
}

static void env_decided(void *ctx, bool go)
{
    struct vclient *v = ctx;
    if (go)
        begin_work(v, v->job, false);
    v->job = NULL;
}

/* Waits for the worker and gives back what the task held, apart from its region. */
static struct work *end_work(struct vclient *v)
{
    struct work *k = v->work;
    v->work = NULL;
    sl_workers_wait(v->w->workers, &k->job);
    sl_blob_cache_release(&v->w->blobs, &k->model);
    if (k->head.size > 0)
        sl_blob_cache_release(&v->w->blobs, &k->head);
    return k;
}

/* The update as the coordinator reads it. */
static enum sl_code decode_update(const struct sl_world *w, const struct work *k,
                                  uint8_t *bytes, float *ret, struct sl_err *err)
{
    const struct sl_codec *c = sl_training_codec(k->training);
    struct sl_decoder d;
    enum sl_code rc = sl_vfile_read(&w->file, k->task.region, bytes, c->n_bytes, err);
    if (rc != SL_OK)
        return rc;
    rc = sl_decoder_init(c, &d, err);
    if (rc == SL_OK)
        rc = sl_decoder_header(&d, bytes, err);
    struct sl_codec_piece p;
    for (size_t at = 0; rc == SL_OK && at < c->n_values; at += p.n) {
        p = sl_codec_piece(c, at, c->n_values + 16);
        rc = sl_decoder_piece(&d, &p, bytes + p.offset, ret + at, err);
    }
    sl_decoder_deinit(&d);
    return rc;
}

static void show_update(struct sl_world *w, const struct work *k)
{
    const struct sl_codec *c = sl_training_codec(k->training);
    float *values = sl_calloc(c->n_values, sizeof(*values));
    uint8_t *bytes = sl_calloc(c->n_bytes, 1);
    struct sl_err err = {.msg = "update"};
    if (values == NULL || bytes == NULL ||
        decode_update(w, k, bytes, values, &err) != SL_OK)
        world_fail(w, SL_E_IO, err.msg);
    else
        w->opt.hooks.updated(w->opt.hooks.ctx, k->order.run_id, k->order.round, k->client,
                             &k->result.meta, values, c->n_values);
    free(values);
    free(bytes);
}

static void give_regions(struct sl_world *w, const struct work *k)
{
    sl_vfile_give(&w->file, k->task.region);
    sl_vfile_give(&w->states, k->task.staged);
}

static void trained(struct vclient *v, uint32_t boot)
{
    if (v->work == NULL || v->boot != boot)
        return;
    struct work *k = end_work(v);
    struct sl_client_result r = {.rc = k->result.rc, .eval = k->result.eval};
    if (r.rc == SL_OK && k->task.probe) {
        r.loss = k->result.loss;
        r.samples = k->result.samples;
        free(k);
        sl_client_probed(v->core, world_now_ms(v->w), &r);
        return;
    }
    if (r.rc == SL_OK && (k->task.train || k->task.calibrate)) {
        r.kept = (struct sl_kept_update){.run_id = k->order.run_id,
                                         .round = k->order.round,
                                         .plan = k->order.plan.id,
                                         .model = k->order.model.id,
                                         .blob = k->result.blob,
                                         .meta = k->result.meta};
        if (v->w->opt.hooks.updated != NULL && k->task.train)
            show_update(v->w, k);
        if (k->task.states != NULL)
            sl_vstore_stage(&v->store, &(struct sl_vstate){.run_id = k->order.run_id,
                                                           .round = k->order.round,
                                                           .region = k->task.staged,
                                                           .blob = k->result.blob});
        r.rc = sl_vstore_install(&v->store, &r.kept, k->task.region, &k->result.err);
    } else {
        give_regions(v->w, k);
    }
    if (r.rc != SL_OK)
        snprintf(r.reason, sizeof(r.reason), "%.*s", (int)sizeof(r.reason) - 1,
                 k->result.err.msg);
    free(k);
    sl_client_done(v->core, world_now_ms(v->w), &r);
}

/* --- life
 * --------------------------------------------------------------------------------------------
 */

static void start(struct vclient *v)
{
    struct sl_world *w = v->w;
    uint64_t seed = w->opt.plans[0].run.seed;
    struct sl_client_env env = {
        .ctx = v,
        .store = &v->store.base,
        .log = w->opt.log,
        .send = env_send,
        .wake_at = env_wake_at,
        .blob_begin = env_blob_begin,
        .blob_write = env_blob_write,
        .blob_finish = env_blob_finish,
        .blob_release = env_blob_release,
        .work = env_work,
        .decided = env_decided,
        .seed = sl_splitmix64_at(seed, v->index),
        .boot_id = sl_splitmix64_at(seed ^ v->index, v->boot),
        .index = (int32_t)v->index,
    };
    snprintf(env.name, sizeof(env.name), "client-%05" PRIu32, v->index);
    snprintf(env.hardware, sizeof(env.hardware), "virtual");
    snprintf(env.blas, sizeof(env.blas), "%s",
             w->opt.blas_name == NULL ? "" : w->opt.blas_name);
    struct sl_err err;
    enum sl_code rc = sl_client_new(&env, world_now_ms(w), &v->core, &err);
    if (rc != SL_OK) {
        v->core = NULL;
        world_fail(w, rc, err.msg);
        return;
    }
    clients_connect(v, w->now_us + sl_network_link(&w->network, v->index).rtt_us);
}

void clients_connect(struct vclient *v, uint64_t at_us)
{
    if (v->connecting)
        return;
    v->connecting = true;
    world_push(v->w, EV_CONNECT, at_us, v->index, v->boot, 0);
}

void clients_drop_out(struct vclient *v, uint64_t back_us)
{
    v->away = true;
    v->away_until_us = back_us;
    world_push(v->w, EV_CONNECT, back_us, v->index, v->boot, 0);
}

static void connect_up(struct vclient *v, uint32_t boot)
{
    struct sl_world *w = v->w;
    if (v->boot != boot)
        return;
    v->connecting = false;
    if (v->core == NULL || w->core == NULL || (v->away && w->now_us < v->away_until_us))
        return;
    v->away = false;
    v->epoch = w->epoch;
    link_lose(v);
    sl_client_connected(v->core, world_now_ms(w));
}

void clients_event(struct sl_world *w, const struct sl_sim_event *e)
{
    struct vclient *v = &w->clients[e->client];
    if (e->kind == EV_CONNECT)
        connect_up(v, (uint32_t)e->token);
    else if (e->kind == EV_TRAINED)
        trained(v, (uint32_t)e->token);
    else if (e->kind == EV_CLIENT_START)
        start(v);
    else if (v->core != NULL && v->alarm == e->token)
        sl_client_time(v->core, world_now_ms(w));
}

/* One that works, in half of the cases; otherwise any. */
static struct vclient *choose_victim(struct sl_world *w)
{
    uint32_t at = (uint32_t)sl_faults_between(&w->faults, 0, w->n_clients);
    if (sl_faults_between(&w->faults, 0, 2) == 0)
        return &w->clients[at];
    for (uint32_t i = 0; i < w->n_clients; i++) {
        struct vclient *v = &w->clients[(at + i) % w->n_clients];
        if (v->work != NULL || v->store.kept != NULL)
            return v;
    }
    return &w->clients[at];
}

static void drop_work(struct vclient *v)
{
    if (v->work == NULL)
        return;
    struct work *k = end_work(v);
    give_regions(v->w, k);
    free(k);
}

static void stop(struct vclient *v)
{
    drop_work(v);
    sl_client_free(v->core);
    v->core = NULL;
    while (v->n_held > 0)
        sl_blob_cache_release(&v->w->blobs, &v->held[--v->n_held]);
}

void clients_kill(struct sl_world *w)
{
    struct vclient *v = choose_victim(w);
    if (v->core == NULL)
        return;
    w->stats.client_kills++;
    link_forget_client(v);
    stop(v);
    if (w->faults.power_loss)
        sl_vstore_clear(&v->store);
    v->boot++;
    v->alarm++;
    v->epoch = 0;
    v->connecting = v->away = false;
    world_push(w, EV_CLIENT_START,
               w->now_us + sl_faults_between(&w->faults, 200000, 5000000), v->index, 0,
               0);
}

enum sl_code clients_init(struct sl_world *w, struct sl_err *err)
{
    w->clients = sl_calloc(w->n_clients, sizeof(*w->clients));
    if (w->clients == NULL)
        return sl_err_set(err, SL_E_NOMEM, "%" PRIu32 " virtual clients", w->n_clients);
    for (uint32_t i = 0; i < w->n_clients; i++) {
        struct vclient *v = &w->clients[i];
        v->w = w;
        v->index = i;
        v->first_request = NONE;
        sl_vstore_init(&v->store, &w->file, &w->states);
        uint64_t at = sl_splitmix64_at(w->opt.plans[0].run.seed + 1, i) % START_SPREAD_US;
        world_push(w, EV_CLIENT_START, at, i, 0, 0);
    }
    return SL_OK;
}

void clients_deinit(struct sl_world *w)
{
    for (uint32_t i = 0; w->clients != NULL && i < w->n_clients; i++) {
        stop(&w->clients[i]);
        sl_vstore_deinit(&w->clients[i].store);
    }
    free(w->clients);
}
