/* SPDX-License-Identifier: Apache-2.0 */
#include "client/client.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/task.h"
#include "common/crash_point.h"
#include "common/mem.h"
#include "common/rng.h"

static_assert(SL_CLIENT_WINDOW == SL_TASK_WINDOW, "one window");
static_assert(SL_CLIENT_BLOBS == SL_BLOB_KINDS, "one table");

struct sl_client {
    struct sl_client_env env;
    struct sl_task task;
    struct sl_client_job job;
    const uint8_t *bytes[SL_BLOB_KINDS]; /* once finished */
    bool held[SL_BLOB_KINDS];            /* begun and not released */
    uint8_t *chunk;          /* what is pushed, read from the store; only while pushing */
    uint64_t now_ms;         /* of the latest event */
    uint64_t asked_ms;       /* wake_at under way, as the machine wanted it */
    uint32_t waits;          /* counts draws of spread */
    char phase[40];
};

/* The object an idle client is; a simulation holds many. */
static_assert(sizeof(struct sl_client) < 2048, "an idle client is small");

/* What carrying out a list of actions found out: the next events. */
struct answers {
    size_t n;
    struct sl_task_event ev[SL_TASK_ACTIONS_MAX];
    bool blob_failed;
    struct sl_err err;
    struct sl_kept_update kept;
};

static void answer(struct answers *as, const struct sl_task_event *ev)
{
    assert(as->n < SL_TASK_ACTIONS_MAX);
    as->ev[as->n++] = *ev;
}

/* --- requests
 * ---------------------------------------------------------------------------------- */

static void send_register(struct sl_client *c, uint64_t id)
{
    struct sl_msg m = {.kind = SL_MSG_REGISTER};
    memcpy(m.reg.name, c->env.name, sizeof m.reg.name);
    m.reg.index = c->env.index;
    snprintf(m.reg.version, sizeof m.reg.version, "%s", SL_VERSION);
    memcpy(m.reg.blas, c->env.blas, sizeof m.reg.blas);
    memcpy(m.reg.hardware, c->env.hardware, sizeof m.reg.hardware);
    m.reg.own_samples = c->env.own_samples;
    m.reg.boot_id = c->env.boot_id;
    c->env.send(c->env.ctx, id, &m);
}

static void send_poll(struct sl_client *c, uint64_t id)
{
    struct sl_msg m = {.kind = SL_MSG_POLL};
    m.poll.boot_id = c->env.boot_id;
    m.poll.has_pending = c->task.kept_present;
    if (c->task.kept_present) {
        m.poll.run_id = c->task.kept.run_id;
        m.poll.round = c->task.kept.round;
        m.poll.blob = c->task.kept.blob;
    }
    c->env.send(c->env.ctx, id, &m);
}

static void send_get(struct sl_client *c, const struct sl_task_action *a)
{
    struct sl_msg m = {.kind = SL_MSG_GET_CHUNK};
    m.get_chunk.id = a->ref.id;
    m.get_chunk.offset = a->offset;
    m.get_chunk.length = a->n;
    c->env.send(c->env.ctx, a->id, &m);
}

static enum sl_code read_chunk(struct sl_client *c, const struct sl_task_action *a,
                               struct sl_err *err)
{
    uint64_t size = c->task.kept.blob.size;
    if (c->chunk == NULL) /* room for the largest chunk of this update */
        c->chunk = malloc(size < SL_CHUNK_BYTES ? (size_t)size : SL_CHUNK_BYTES);
    if (c->chunk == NULL)
        return sl_err_set(err, SL_E_NOMEM, "push: no memory for a chunk");
    return c->env.store->ops->update_read(c->env.store, a->offset, c->chunk, a->n, err);
}

static void send_put(struct sl_client *c, const struct sl_task_action *a,
                     struct answers *as)
{
    struct sl_err err;
    if (read_chunk(c, a, &err) != SL_OK) {
        sl_log_write(c->env.log, SL_LOG_WARN, "kept update: %s", err.msg);
        answer(as, &(struct sl_task_event){.kind = SL_TASK_EV_UNREADABLE, .id = a->id});
        return;
    }
    struct sl_msg m = {.kind = SL_MSG_PUT_CHUNK};
    m.put_chunk.run_id = c->task.order.run_id;
    m.put_chunk.round = c->task.order.round;
    m.put_chunk.attempt = c->task.order.attempt;
    m.put_chunk.blob = c->task.kept.blob;
    m.put_chunk.offset = a->offset;
    m.put_chunk.has_meta = a->last;
    if (a->last)
        m.put_chunk.meta = c->task.kept.meta;
    m.attachment = c->chunk;
    m.attachment_bytes = a->n;
    c->env.send(c->env.ctx, a->id, &m);
}

static void send_failed(struct sl_client *c, uint64_t id)
{
    struct sl_msg m = {.kind = SL_MSG_TASK_FAILED};
    m.task_failed.run_id = c->task.order.run_id;
    m.task_failed.round = c->task.order.round;
    m.task_failed.attempt = c->task.order.attempt;
    memcpy(m.task_failed.reason, c->task.reason, sizeof m.task_failed.reason);
    c->env.send(c->env.ctx, id, &m);
}

static void send_eval(struct sl_client *c, uint64_t id)
{
    struct sl_msg m = {.kind = SL_MSG_EVAL_REPORT};
    m.eval_report.run_id = c->task.order.run_id;
    m.eval_report.round = c->task.order.round;
    m.eval_report.eval = c->task.eval;
    c->env.send(c->env.ctx, id, &m);
}

static void send_probe(struct sl_client *c, uint64_t id)
{
    struct sl_msg m = {.kind = SL_MSG_PROBE};
    m.probe.run_id = c->task.order.run_id;
    m.probe.round = c->task.order.round;
    m.probe.attempt = c->task.order.attempt;
    m.probe.loss = c->task.loss;
    m.probe.samples = c->task.samples;
    c->env.send(c->env.ctx, id, &m);
}

/* --- blobs, store, work
 * ------------------------------------------------------------------------- */

static void blob_failed(struct answers *as)
{
    as->blob_failed = true;
    answer(as, &(struct sl_task_event){.kind = SL_TASK_EV_BLOB_FAILED,
                                       .reason = as->err.msg});
}

static void finish_blob(struct sl_client *c, const struct sl_task_action *a,
                        struct answers *as)
{
    if (c->env.blob_finish(c->env.ctx, &a->ref, &c->bytes[a->blob], &as->err) != SL_OK)
        blob_failed(as);
    else
        answer(as, &(struct sl_task_event){.kind = SL_TASK_EV_BLOB});
}

static void do_blob(struct sl_client *c, const struct sl_task_action *a,
                    const struct sl_msg *m, struct answers *as)
{
    if (a->kind == SL_TASK_RELEASE_BLOB) {
        if (c->held[a->blob])
            c->env.blob_release(c->env.ctx, &a->ref);
        c->held[a->blob] = false;
        c->bytes[a->blob] = NULL;
        return;
    }
    if (as->blob_failed)
        return;
    if (a->kind == SL_TASK_BEGIN_BLOB) {
        c->held[a->blob] = c->env.blob_begin(c->env.ctx, &a->ref, &as->err) == SL_OK;
        if (!c->held[a->blob])
            blob_failed(as);
    } else if (a->kind == SL_TASK_WRITE_BLOB) {
        if (c->env.blob_write(c->env.ctx, &a->ref, a->offset, m->attachment,
                              m->attachment_bytes, &as->err) != SL_OK)
            blob_failed(as);
    } else {
        finish_blob(c, a, as);
    }
}

static void load_kept(struct sl_client *c, struct answers *as)
{
    struct sl_err err;
    bool present = false;
    enum sl_code rc =
        c->env.store->ops->update_load(c->env.store, &present, &as->kept, &err);
    if (rc != SL_OK)
        sl_log_write(c->env.log, SL_LOG_WARN, "kept update: %s", err.msg);
    answer(as, &(struct sl_task_event){
                   .kind = SL_TASK_EV_KEPT,
                   .kept = rc == SL_OK && present ? &as->kept : NULL,
               });
}

static void drop_kept(struct sl_client *c)
{
    struct sl_err err;
    if (c->env.store->ops->update_drop(c->env.store, &err) != SL_OK)
        sl_log_write(c->env.log, SL_LOG_WARN, "drop kept update: %s", err.msg);
}

/* Of the round that was committed with the kept update. */
static void commit_state(struct sl_client *c)
{
    struct sl_err err;
    if (c->env.store->ops->state_commit(c->env.store, c->task.kept.run_id,
                                        c->task.kept.round, &err) != SL_OK)
        sl_log_write(c->env.log, SL_LOG_ERROR, "state of round %" PRIu32 ": %s",
                     c->task.kept.round, err.msg);
}

static void work(struct sl_client *c)
{
    c->job = (struct sl_client_job){
        .client = c,
        .order = c->task.order,
        .plan_text = c->bytes[SL_BLOB_PLAN],
        .plan_bytes = (size_t)c->task.order.plan.size,
        .head = c->task.order.head.size == 0
                    ? NULL
                    : (const float *)(const void *)c->bytes[SL_BLOB_HEAD],
        .model = (const float *)(const void *)c->bytes[SL_BLOB_MODEL],
        .index = c->task.index,
    };
    c->env.work(c->env.ctx, &c->job);
}

/* --- what an operator reads
 * ---------------------------------------------------------------------- */

static const char *round_word(uint32_t round)
{
    return round < SL_ROUND_CALIBRATION ? "round" : "calibration";
}

static const char *doing(const struct sl_task_order *o)
{
    return o->kind == SL_TASK_TRAIN       ? "training"
           : o->kind == SL_TASK_CALIBRATE ? "calibrating"
                                          : "evaluating";
}

static void say_task(const struct sl_client *c)
{
    const struct sl_task_order *o = &c->task.order;
    sl_log_write(c->env.log, SL_LOG_INFO,
           "run %" PRIu64 " %s %" PRIu32 ": %s, model of %" PRIu64 " bytes", o->run_id,
           round_word(o->round), o->round & ~SL_ROUND_CALIBRATION, doing(o), o->model.size);
}

static void say(struct sl_client *c, enum sl_task_note note)
{
    static const struct {
        enum sl_log_level level;
        bool of_kept; /* names the kept update's round, otherwise the task's */
        bool reason;
        const char *text;
    } notes[] = {
        [SL_NOTE_AGAIN] = {SL_LOG_INFO, true, false,
                           "sending the update kept from before"},
        [SL_NOTE_DAMAGED] = {SL_LOG_WARN, true, false, "the kept update can't be used"},
        [SL_NOTE_ACCEPTED] = {SL_LOG_INFO, true, false, "update accepted"},
        [SL_NOTE_REJECTED] = {SL_LOG_WARN, true, true, "update rejected"},
        [SL_NOTE_STALE] = {SL_LOG_WARN, true, true, "update came too late"},
        [SL_NOTE_COMMITTED] = {SL_LOG_INFO, true, false,
                               "settled, the update is in the model"},
        [SL_NOTE_LEFT_OUT] = {SL_LOG_INFO, true, false, "settled without this update"},
        [SL_NOTE_GONE] = {SL_LOG_INFO, false, true, "task given up"},
        [SL_NOTE_FAILED] = {SL_LOG_ERROR, false, true, "task failed"},
        [SL_NOTE_STOPPED] = {SL_LOG_INFO, false, false, "stopped after its probe"},
    };
    if (note == SL_NOTE_TASK) {
        say_task(c);
    } else if (note == SL_NOTE_REGISTERED) {
        sl_log_write(c->env.log, SL_LOG_INFO, "registered as client %" PRIu32, c->task.index);
    } else if (note == SL_NOTE_REFUSED) {
        sl_log_write(c->env.log, SL_LOG_WARN, "coordinator: %s", c->task.reason);
    } else if (note == SL_NOTE_DRAINING) {
        sl_log_write(c->env.log, SL_LOG_DEBUG, "the coordinator is about to stop");
    } else {
        bool kept = notes[note].of_kept;
        bool reason = notes[note].reason || (note == SL_NOTE_STOPPED && c->task.reason[0] != 0);
        uint32_t round = kept ? c->task.kept.round : c->task.order.round;
        sl_log_write(c->env.log, notes[note].level, "run %" PRIu64 " %s %" PRIu32 ": %s%s%s",
               kept ? c->task.kept.run_id : c->task.order.run_id, round_word(round),
               round & ~SL_ROUND_CALIBRATION, notes[note].text,
               reason ? ": " : "", reason ? c->task.reason : "");
    }
    if (note == SL_NOTE_ACCEPTED)
        SL_CRASH_POINT("client_after_push");
}

static void set_phase(struct sl_client *c)
{
    static const char *const link[] = {
        [SL_LINK_DOWN] = "connecting",
        [SL_LINK_REGISTERING] = "registering",
        [SL_LINK_PAUSED] = "refused, trying again",
    };
    const char *what = NULL;
    switch (c->task.state) {
    case SL_TASK_IDLE:
    case SL_TASK_POLLING:
    case SL_TASK_CHECKING:
        snprintf(c->phase, sizeof c->phase, "%s",
                 c->task.link == SL_LINK_UP ? "waiting" : link[c->task.link]);
        return;
    case SL_TASK_PLAN:
    case SL_TASK_HEAD:
    case SL_TASK_MODEL:
        what = "fetching";
        break;
    case SL_TASK_WORKING:
        what = doing(&c->task.order);
        break;
    case SL_TASK_PROBED:
        what = "probed";
        break;
    case SL_TASK_PUSHING:
        what = "sending";
        break;
    case SL_TASK_REPORTING:
        what = "reporting";
        break;
    }
    snprintf(c->phase, sizeof c->phase, "%s %s %" PRIu32, what, round_word(c->task.order.round),
             c->task.order.round & ~SL_ROUND_CALIBRATION);
}

/* --- events
 * ----------------------------------------------------------------------------------------
 */

static void carry_out(struct sl_client *c, const struct sl_task_action *a,
                      const struct sl_msg *m, struct answers *as)
{
    switch (a->kind) {
    case SL_TASK_SEND_REGISTER:
        send_register(c, a->id);
        break;
    case SL_TASK_SEND_POLL:
        send_poll(c, a->id);
        break;
    case SL_TASK_SEND_GET:
        send_get(c, a);
        break;
    case SL_TASK_SEND_PUT:
        send_put(c, a, as);
        break;
    case SL_TASK_SEND_FAILED:
        send_failed(c, a->id);
        break;
    case SL_TASK_SEND_EVAL:
        send_eval(c, a->id);
        break;
    case SL_TASK_SEND_PROBE:
        send_probe(c, a->id);
        break;
    case SL_TASK_BEGIN_BLOB:
    case SL_TASK_WRITE_BLOB:
    case SL_TASK_FINISH_BLOB:
    case SL_TASK_RELEASE_BLOB:
        do_blob(c, a, m, as);
        break;
    case SL_TASK_LOAD_KEPT:
        load_kept(c, as);
        break;
    case SL_TASK_COMMIT_STATE:
        commit_state(c);
        break;
    case SL_TASK_DROP_KEPT:
        drop_kept(c);
        break;
    case SL_TASK_WORK:
        work(c);
        break;
    case SL_TASK_GO_ON:
    case SL_TASK_STOP:
        c->env.decided(c->env.ctx, a->kind == SL_TASK_GO_ON);
        break;
    case SL_TASK_SAY:
        say(c, a->note);
        break;
    }
}

/* One step and what follows from it. The chain is short: checking what is kept, a plan
 * that is complete, a model that is complete. */
static void feed(struct sl_client *c, const struct sl_task_event *ev)
{
    struct sl_task_actions out;
    struct answers as;
    as.n = 0;
    as.blob_failed = false;
    sl_task_step(&c->task, ev, &out);
    for (size_t i = 0; i < out.n; i++)
        carry_out(c, &out.a[i], ev->msg, &as);
    for (size_t i = 0; i < as.n; i++) {
        as.ev[i].now_ms = ev->now_ms;
        feed(c, &as.ev[i]);
    }
}

/* Waits are stretched by up to a quarter, so that clients that waited for the same thing
 * do not come back in one burst. */
static uint64_t spread(struct sl_client *c, uint64_t at_ms)
{
    if (at_ms <= c->now_ms)
        return at_ms;
    struct sl_rng rng;
    sl_rng_init(&rng, &(struct sl_rng_id){.seed = c->env.seed, .purpose = SL_RNG_JITTER});
    return at_ms + (at_ms - c->now_ms) * (sl_rng_at(&rng, c->waits++) >> 16) / (4 << 16);
}

static void event(struct sl_client *c, const struct sl_task_event *ev)
{
    if (ev->now_ms > c->now_ms)
        c->now_ms = ev->now_ms;
    feed(c, ev);
    if (c->task.state != SL_TASK_PUSHING) {
        free(c->chunk);
        c->chunk = NULL;
    }
    set_phase(c);
    uint64_t at_ms = sl_task_wake_at(&c->task);
    if (at_ms == c->asked_ms)
        return;
    c->asked_ms = at_ms;
    if (at_ms != SL_TASK_NEVER)
        c->env.wake_at(c->env.ctx, spread(c, at_ms));
}

enum sl_code sl_client_new(const struct sl_client_env *env, uint64_t now_ms,
                           struct sl_client **ret, struct sl_err *err)
{
    bool present = false;
    struct sl_kept_update kept;
    enum sl_code rc = env->store->ops->update_load(env->store, &present, &kept, err);
    if (rc == SL_OK && !present) { /* its state may be there still: what became of the round? */
        kept = (struct sl_kept_update){0};
        rc = env->store->ops->state_staged(env->store, &present, &kept, err);
    }
    if (rc != SL_OK)
        return sl_err_wrap(err, rc, "kept update");
    struct sl_client *c = sl_calloc(1, sizeof *c);
    if (c == NULL)
        return sl_err_set(err, SL_E_NOMEM, "client: no memory");
    c->env = *env;
    c->now_ms = now_ms;
    c->asked_ms = SL_TASK_NEVER;
    sl_task_init(&c->task, present ? &kept : NULL);
    set_phase(c);
    *ret = c;
    return SL_OK;
}

void sl_client_free(struct sl_client *c)
{
    if (c == NULL)
        return;
    free(c->chunk);
    free(c);
}

void sl_client_connected(struct sl_client *c, uint64_t now_ms)
{
    event(c, &(struct sl_task_event){.kind = SL_TASK_EV_CONNECTED, .now_ms = now_ms});
}

void sl_client_reply(struct sl_client *c, uint64_t now_ms, uint64_t id,
                     const struct sl_msg *m)
{
    event(c, &(struct sl_task_event){
                 .kind = SL_TASK_EV_REPLY, .now_ms = now_ms, .id = id, .msg = m});
}

void sl_client_lost(struct sl_client *c, uint64_t now_ms, uint64_t id)
{
    event(c,
          &(struct sl_task_event){.kind = SL_TASK_EV_LOST, .now_ms = now_ms, .id = id});
}

void sl_client_disconnected(struct sl_client *c, uint64_t now_ms)
{
    event(c, &(struct sl_task_event){.kind = SL_TASK_EV_DISCONNECTED, .now_ms = now_ms});
}

void sl_client_done(struct sl_client *c, uint64_t now_ms,
                    const struct sl_client_result *r)
{
    bool ok = r->rc == SL_OK;
    bool update = c->task.order.kind != SL_TASK_EVALUATE;
    event(c, &(struct sl_task_event){
                 .kind = SL_TASK_EV_DONE,
                 .now_ms = now_ms,
                 .kept = ok && update ? &r->kept : NULL,
                 .eval = ok && !update ? &r->eval : NULL,
                 .reason = ok ? NULL : r->reason,
             });
}

void sl_client_probed(struct sl_client *c, uint64_t now_ms, const struct sl_client_result *r)
{
    event(c, &(struct sl_task_event){.kind = SL_TASK_EV_PROBED,
                                     .now_ms = now_ms,
                                     .loss = r->loss,
                                     .samples = r->samples});
}

void sl_client_time(struct sl_client *c, uint64_t now_ms)
{
    c->asked_ms = SL_TASK_NEVER;
    event(c, &(struct sl_task_event){.kind = SL_TASK_EV_TIME, .now_ms = now_ms});
}

void sl_client_drain(struct sl_client *c)
{
    event(c, &(struct sl_task_event){.kind = SL_TASK_EV_DRAIN});
}

bool sl_client_idle(const struct sl_client *c)
{
    return sl_task_at_rest(&c->task);
}

const char *sl_client_phase(const struct sl_client *c)
{
    return c->phase;
}

uint32_t sl_client_index(const struct sl_client *c)
{
    return c->task.index;
}

bool sl_client_keeps(const struct sl_client *c)
{
    return c->task.kept_present;
}

void sl_client_keep(const struct sl_client_job *job, const struct sl_update_meta *meta,
                    const uint8_t *data, size_t n, struct sl_kept_update *ret)
{
    *ret = (struct sl_kept_update){
        .run_id = job->order.run_id,
        .round = job->order.round,
        .plan = job->order.plan.id,
        .model = job->order.model.id,
        .blob.size = n,
        .meta = *meta,
    };
    sl_xxh3_128(data, n, &ret->blob.id);
}
