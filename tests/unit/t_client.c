/* SPDX-License-Identifier: Apache-2.0 */
/* A client against a scripted coordinator, through real wire bytes: message by message,
 * and in storms of lost, repeated and reordered messages, broken sessions and kills of
 * either side. */
#include "client/client.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/mem.h"
#include "common/rng.h"
#include "tests/storms.h"

#define FLIGHT_MAX 256
#define ROUNDS_MAX 8
#define RUN 7

/* A message under way, as bytes. */
struct flight {
    uint64_t id;
    uint32_t session;
    uint8_t *bytes;
    size_t n;
};

struct blob {
    struct sl_blob_ref ref;
    uint8_t *bytes;
};

/* What the client's store would be on disk. */
struct mem_store {
    struct sl_client_store base;
    bool present;
    struct sl_kept_update kept;
    uint8_t *data;
    bool unreadable, full;
    unsigned committed; /* rounds whose state became current */
};

struct world {
    struct sl_rng rng;
    uint64_t now_ms, wake_ms;
    uint32_t session; /* 0 = down */
    struct sl_client *client;
    struct mem_store store;
    bool working;
    struct sl_client_job job;
    int trained[ROUNDS_MAX]; /* times */

    struct flight up[FLIGHT_MAX], down[FLIGHT_MAX];
    size_t n_up, n_down;
    uint64_t open[FLIGHT_MAX]; /* ids without a reply, of this session */
    size_t n_open, max_open, sent_total;

    /* client's blobs */
    struct blob held[2];
    int begun, released;
    bool blob_fails;

    /* coordinator: what is durable */
    uint32_t rounds, round, attempt;
    bool accepted;
    size_t model_bytes, update_bytes;
    struct blob plan, model;
    int accepts[ROUNDS_MAX];
    bool finished;
    /* and what a kill forgets */
    uint8_t *spool;
    bool have[16];
    bool hold_poll;
    uint64_t held_id; /* a poll that waits */
    uint32_t held_session;
    bool no_inline, reject, stale, ask_again;
    enum sl_task_kind task_kind;
    int evals, fails;
    char fail_reason[SL_WIRE_REASON];
};

static size_t chunks_of(size_t n)
{
    return (n + SL_CHUNK_BYTES - 1) / SL_CHUNK_BYTES;
}

/* --- contents: functions of what they are for
 * ------------------------------------------------------ */

static void fill(uint8_t *p, size_t n, uint64_t seed)
{
    for (size_t i = 0; i < n; i++)
        p[i] = (uint8_t)((seed * 2654435761u + i) * 0x9E3779B97F4A7C15u >> 56);
}

static void blob_make(struct blob *b, size_t n, uint64_t seed)
{
    free(b->bytes);
    b->bytes = sl_calloc(1, n);
    fill(b->bytes, n, seed);
    b->ref.size = n;
    sl_xxh3_128(b->bytes, n, &b->ref.id);
}

/* What training from `model` gives. */
static void train_bytes(const uint8_t *model, uint32_t round, uint8_t *ret, size_t n)
{
    fill(ret, n, (uint64_t)model[0] << 32 | round << 8 | 5);
}

/* --- the store
 * ---------------------------------------------------------------------------------------
 */

static enum sl_code mem_write(struct sl_client_store *s, const struct sl_kept_update *u,
                              const uint8_t *data, size_t n, struct sl_err *err)
{
    struct mem_store *m = (struct mem_store *)s;
    if (m->full)
        return sl_err_set(err, SL_E_NOSPACE, "store: no space left");
    free(m->data);
    m->data = sl_calloc(1, n);
    memcpy(m->data, data, n);
    m->kept = *u;
    m->present = true;
    return SL_OK;
}

static enum sl_code mem_load(struct sl_client_store *s, bool *ret_present,
                             struct sl_kept_update *ret, struct sl_err *err)
{
    struct mem_store *m = (struct mem_store *)s;
    struct sl_blob_id sum;
    *ret_present = false;
    if (!m->present)
        return SL_OK;
    sl_xxh3_128(m->data, (size_t)m->kept.blob.size, &sum);
    if (!sl_blob_id_equal(&sum, &m->kept.blob.id))
        return SL_OK;
    *ret = m->kept;
    *ret_present = true;
    return SL_OK;
}

static enum sl_code mem_read(struct sl_client_store *s, uint64_t offset, uint8_t *ret,
                             size_t n, struct sl_err *err)
{
    struct mem_store *m = (struct mem_store *)s;
    if (m->unreadable || !m->present)
        return sl_err_set(err, SL_E_IO, "store: can't read");
    assert_true(offset + n <= m->kept.blob.size);
    memcpy(ret, m->data + offset, n);
    return SL_OK;
}

static enum sl_code mem_drop(struct sl_client_store *s, struct sl_err *err)
{
    ((struct mem_store *)s)->present = false;
    return SL_OK;
}

static enum sl_code mem_staged(struct sl_client_store *s, bool *ret_present,
                               struct sl_kept_update *ret, struct sl_err *err)
{
    *ret_present = false;
    return SL_OK;
}

static enum sl_code mem_commit(struct sl_client_store *s, uint64_t run_id, uint32_t round,
                               struct sl_err *err)
{
    ((struct mem_store *)s)->committed++;
    return SL_OK;
}

static void mem_close(struct sl_client_store *s)
{
}

static const struct sl_client_store_ops mem_ops = {.update_write = mem_write,
                                                   .update_load = mem_load,
                                                   .update_read = mem_read,
                                                   .update_drop = mem_drop,
                                                   .state_staged = mem_staged,
                                                   .state_commit = mem_commit,
                                                   .close = mem_close};

/* --- the client's env
 * ---------------------------------------------------------------------------------- */

static void flight_add(struct flight *list, size_t *n, uint64_t id, uint32_t session,
                       const struct sl_msg *m)
{
    struct sl_err err;
    assert_true(*n < FLIGHT_MAX);
    struct flight *f = &list[*n];
    *f = (struct flight){.id = id, .session = session};
    size_t cap = sl_wire_size(m);
    f->bytes = sl_calloc(1, cap);
    if (sl_wire_pack(m, f->bytes, cap, &f->n, &err) != SL_OK)
        fail_msg("pack: %s", err.msg);
    (*n)++;
}

static void env_send(void *ctx, uint64_t id, const struct sl_msg *m)
{
    struct world *w = ctx;
    assert_true(w->session != 0);
    flight_add(w->up, &w->n_up, id, w->session, m);
    w->open[w->n_open++] = id;
    w->sent_total++;
    if (w->n_open > w->max_open)
        w->max_open = w->n_open;
}

static void env_wake(void *ctx, uint64_t at_ms)
{
    ((struct world *)ctx)->wake_ms = at_ms;
}

static struct blob *held_find(struct world *w, const struct sl_blob_ref *ref)
{
    for (size_t i = 0; i < 2; i++)
        if (w->held[i].bytes != NULL && sl_blob_id_equal(&w->held[i].ref.id, &ref->id))
            return &w->held[i];
    return NULL;
}

static enum sl_code env_begin(void *ctx, const struct sl_blob_ref *ref,
                              struct sl_err *err)
{
    struct world *w = ctx;
    if (w->blob_fails)
        return sl_err_set(err, SL_E_NOMEM, "no memory for a blob");
    struct blob *b = w->held[0].bytes == NULL ? &w->held[0] : &w->held[1];
    assert_null(b->bytes);
    b->ref = *ref;
    b->bytes = sl_calloc(1, ref->size);
    w->begun++;
    return SL_OK;
}

static enum sl_code env_write(void *ctx, const struct sl_blob_ref *ref, uint64_t offset,
                              const uint8_t *data, size_t n, struct sl_err *err)
{
    struct blob *b = held_find(ctx, ref);
    assert_non_null(b);
    assert_true(offset + n <= ref->size);
    memcpy(b->bytes + offset, data, n);
    return SL_OK;
}

static enum sl_code env_finish(void *ctx, const struct sl_blob_ref *ref,
                               const uint8_t **ret_bytes, struct sl_err *err)
{
    struct blob *b = held_find(ctx, ref);
    struct sl_blob_id sum;
    assert_non_null(b);
    sl_xxh3_128(b->bytes, ref->size, &sum);
    if (!sl_blob_id_equal(&sum, &ref->id))
        return sl_err_set(err, SL_E_CRYPTO, "blob: checksum");
    *ret_bytes = b->bytes;
    return SL_OK;
}

static void env_release(void *ctx, const struct sl_blob_ref *ref)
{
    struct world *w = ctx;
    struct blob *b = held_find(w, ref);
    assert_non_null(b);
    free(b->bytes);
    b->bytes = NULL;
    w->released++;
}

static void env_work(void *ctx, const struct sl_client_job *job)
{
    struct world *w = ctx;
    assert_false(w->working);
    w->working = true;
    w->job = *job;
    assert_int_equal(job->index, 3);
    assert_int_equal(job->plan_bytes, w->plan.ref.size);
    assert_memory_equal(job->plan_text, w->plan.bytes, job->plan_bytes);
}

/* --- the coordinator
 * -------------------------------------------------------------------------------------
 */

static void open_round(struct world *w)
{
    blob_make(&w->model, w->model_bytes, 1000 + w->round);
    w->accepted = false;
    w->attempt = 0;
    memset(w->have, 0, sizeof w->have);
}

static void fill_task(struct world *w, struct sl_msg *m)
{
    m->poll_reply.task = (struct sl_task_order){
        .kind = w->task_kind,
        .run_id = RUN,
        .round = w->round,
        .attempt = w->attempt,
        .plan = w->plan.ref,
        .model = w->model.ref,
        .deadline_ms = 60000,
    };
    if (w->model_bytes <= SL_CHUNK_BYTES && !w->no_inline) {
        m->attachment = w->model.bytes;
        m->attachment_bytes = w->model_bytes;
    }
}

static void reply(struct world *w, uint64_t id, uint32_t session, const struct sl_msg *m)
{
    flight_add(w->down, &w->n_down, id, session, m);
}

static void answer_poll(struct world *w, uint64_t id, uint32_t session,
                        const struct sl_msg *q)
{
    struct sl_msg m = {.kind = SL_MSG_POLL_REPLY};
    bool settled = q->poll.has_pending && q->poll.run_id == RUN &&
                   (q->poll.round < w->round || w->finished);
    if (settled) {
        m.poll_reply.has_settled = true;
        m.poll_reply.settled_run = RUN;
        m.poll_reply.settled_round = q->poll.round;
        m.poll_reply.settled_committed = w->accepts[q->poll.round] > 0;
    }
    if (!w->finished && !w->accepted)
        fill_task(w, &m);
    else if (!settled && sl_rng_below(&w->rng, 4) == 0)
        m.poll_reply.draining = true;
    else if (!settled)
        m.poll_reply.again_ms = 50;
    reply(w, id, session, &m);
}

static void answer_get(struct world *w, uint64_t id, uint32_t session,
                       const struct sl_msg *q)
{
    struct sl_msg m = {.kind = SL_MSG_CHUNK};
    const struct blob *b = NULL;
    if (sl_blob_id_equal(&q->get_chunk.id, &w->plan.ref.id))
        b = &w->plan;
    if (sl_blob_id_equal(&q->get_chunk.id, &w->model.ref.id) && !w->finished)
        b = &w->model;
    m.chunk.id = q->get_chunk.id;
    m.chunk.offset = q->get_chunk.offset;
    if (b != NULL) {
        assert_true(q->get_chunk.offset + q->get_chunk.length <= b->ref.size);
        m.chunk.found = true;
        m.chunk.total = b->ref.size;
        m.attachment = b->bytes + q->get_chunk.offset;
        m.attachment_bytes = q->get_chunk.length;
    }
    reply(w, id, session, &m);
}

static uint64_t first_missing(const struct world *w)
{
    size_t i = 0;
    while (i < chunks_of(w->update_bytes) && w->have[i])
        i++;
    return i < chunks_of(w->update_bytes) ? i * SL_CHUNK_BYTES : w->update_bytes;
}

static void accept(struct world *w, const struct sl_msg *q)
{
    uint8_t *want = sl_calloc(1, w->update_bytes);
    train_bytes(w->model.bytes, w->round, want, w->update_bytes);
    assert_int_equal(q->put_chunk.blob.size, w->update_bytes);
    assert_memory_equal(w->spool, want, w->update_bytes);
    assert_int_equal(q->put_chunk.meta.weight, 10 + w->round);
    free(want);
    w->accepted = true;
    w->accepts[w->round]++;
}

static void answer_put(struct world *w, uint64_t id, uint32_t session,
                       const struct sl_msg *q)
{
    struct sl_msg m = {.kind = SL_MSG_PUT_REPLY};
    assert_int_equal(q->put_chunk.run_id, RUN);
    if (w->finished || q->put_chunk.round != w->round || w->stale) {
        m.put_reply.status = SL_PUT_STALE;
        snprintf(m.put_reply.reason, sizeof m.put_reply.reason, "round is over");
    } else if (w->reject) {
        m.put_reply.status = SL_PUT_REJECTED;
        snprintf(m.put_reply.reason, sizeof m.put_reply.reason,
                 "weight 0, allowed are 1..10");
    } else if (w->accepted) {
        m.put_reply.status = SL_PUT_ACCEPTED;
    } else {
        memcpy(w->spool + q->put_chunk.offset, q->attachment, q->attachment_bytes);
        bool last = q->put_chunk.has_meta;
        assert_int_equal(last,
                         q->put_chunk.offset + q->attachment_bytes == w->update_bytes);
        if (!last)
            w->have[q->put_chunk.offset / SL_CHUNK_BYTES] = true;
        uint64_t missing = first_missing(w);
        if (last && missing >= q->put_chunk.offset && !w->ask_again) {
            accept(w, q);
            m.put_reply.status = SL_PUT_ACCEPTED;
        } else {
            m.put_reply.next_offset = missing;
        }
    }
    reply(w, id, session, &m);
}

static void coordinator(struct world *w, const struct flight *f)
{
    struct sl_err err;
    struct sl_msg q, m = {.kind = SL_MSG_ACK, .ack.ok = true};
    if (sl_wire_unpack(f->bytes, f->n, SL_TO_COORDINATOR, &q, &err) != SL_OK)
        fail_msg("unpack: %s", err.msg);
    switch (q.kind) {
    case SL_MSG_REGISTER:
        assert_string_equal(q.reg.name, "c3");
        m = (struct sl_msg){.kind = SL_MSG_REGISTERED, .registered.index = 3};
        reply(w, f->id, f->session, &m);
        break;
    case SL_MSG_POLL:
        if (w->hold_poll) {
            w->held_id = f->id;
            w->held_session = f->session;
        } else {
            answer_poll(w, f->id, f->session, &q);
        }
        break;
    case SL_MSG_GET_CHUNK:
        answer_get(w, f->id, f->session, &q);
        break;
    case SL_MSG_PUT_CHUNK:
        answer_put(w, f->id, f->session, &q);
        break;
    case SL_MSG_TASK_FAILED:
        w->fails++;
        memcpy(w->fail_reason, q.task_failed.reason, sizeof w->fail_reason);
        reply(w, f->id, f->session, &m);
        break;
    case SL_MSG_EVAL_REPORT:
        w->evals++;
        assert_int_equal(q.eval_report.eval.correct, 5);
        reply(w, f->id, f->session, &m);
        break;
    default:
        fail_msg("unexpected %s", sl_msg_kind_name(q.kind));
    }
}

static void next_round(struct world *w)
{
    if (!w->accepted || w->finished)
        return;
    if (w->round + 1 == w->rounds) {
        w->finished = true;
        return;
    }
    w->round++;
    open_round(w);
}

/* --- moving the world
 * ------------------------------------------------------------------------------------ */

static void client_start(struct world *w)
{
    struct sl_err err;
    struct sl_client_env env = {
        .ctx = w,
        .store = &w->store.base,
        .send = env_send,
        .wake_at = env_wake,
        .blob_begin = env_begin,
        .blob_write = env_write,
        .blob_finish = env_finish,
        .blob_release = env_release,
        .work = env_work,
        .seed = 1,
        .boot_id = 99,
        .name = "c3",
        .index = 3,
        .blas = "test",
        .hardware = "fp32",
    };
    w->wake_ms = UINT64_MAX;
    assert_int_equal(sl_client_new(&env, w->now_ms, &w->client, &err), SL_OK);
}

static void world_init(struct world *w, uint64_t seed, uint32_t rounds,
                       size_t model_bytes, size_t update_bytes)
{
    *w = (struct world){.rounds = rounds,
                        .model_bytes = model_bytes,
                        .update_bytes = update_bytes,
                        .now_ms = 1000,
                        .task_kind = SL_TASK_TRAIN};
    sl_rng_init(&w->rng, &(struct sl_rng_id){.seed = seed, .purpose = SL_RNG_TEST});
    w->store.base.ops = &mem_ops;
    w->spool = sl_calloc(1, update_bytes);
    blob_make(&w->plan, 3000, 1);
    open_round(w);
    client_start(w);
}

static void clear(struct flight *list, size_t *n)
{
    for (size_t i = 0; i < *n; i++)
        free(list[i].bytes);
    *n = 0;
}

static void client_kill(struct world *w)
{
    sl_client_free(w->client);
    w->working = false;
    w->session = 0;
    w->n_open = 0;
    for (size_t i = 0; i < 2; i++) {
        free(w->held[i].bytes);
        w->held[i].bytes = NULL;
    }
}

static void world_deinit(struct world *w)
{
    client_kill(w);
    clear(w->up, &w->n_up);
    clear(w->down, &w->n_down);
    free(w->plan.bytes);
    free(w->model.bytes);
    free(w->spool);
    free(w->store.data);
}

static struct flight take(struct flight *list, size_t *n, size_t i)
{
    struct flight f = list[i];
    memmove(&list[i], &list[i + 1], (*n - i - 1) * sizeof list[0]);
    (*n)--;
    return f;
}

static void deliver_up(struct world *w, size_t i)
{
    struct flight f = take(w->up, &w->n_up, i);
    coordinator(w, &f);
    free(f.bytes);
}

static void close_id(struct world *w, uint64_t id)
{
    for (size_t i = 0; i < w->n_open; i++) {
        if (w->open[i] == id) {
            w->open[i] = w->open[--w->n_open];
            return;
        }
    }
}

static void deliver_down(struct world *w, size_t i, bool stays)
{
    struct sl_err err;
    struct sl_msg m;
    struct flight f = w->down[i];
    if (!stays)
        take(w->down, &w->n_down, i);
    if (sl_wire_unpack(f.bytes, f.n, SL_TO_CLIENT, &m, &err) != SL_OK)
        fail_msg("unpack: %s", err.msg);
    /* the session layer drops what belongs to an earlier session */
    if (f.session == w->session) {
        close_id(w, f.id);
        sl_client_reply(w->client, w->now_ms, f.id, &m);
    }
    if (!stays)
        free(f.bytes);
}

static void finish_work(struct world *w)
{
    struct sl_err err;
    struct sl_client_result r = {.rc = SL_OK};
    w->working = false;
    if (w->job.order.kind == SL_TASK_EVALUATE) {
        r.eval = (struct sl_eval_counts){.samples = 9, .correct = 5, .loss_sum = 1.5};
    } else {
        uint32_t round = w->job.order.round;
        struct sl_update_meta meta = {
            .weight = 10 + round, .samples = 10 + round, .steps = 2};
        uint8_t *data = sl_calloc(1, w->update_bytes);
        train_bytes((const uint8_t *)w->job.model, round, data, w->update_bytes);
        sl_client_keep(&w->job, &meta, data, w->update_bytes, &r.kept);
        r.rc = w->store.base.ops->update_write(&w->store.base, &r.kept, data,
                                               w->update_bytes, &err);
        if (r.rc != SL_OK)
            snprintf(r.reason, sizeof r.reason, "%.100s", err.msg);
        w->trained[round]++;
        free(data);
    }
    sl_client_done(w->client, w->now_ms, &r);
}

static void connect_session(struct world *w)
{
    static const uint32_t first = 1;
    w->session = w->session == 0 ? first + (uint32_t)w->now_ms : w->session + 1;
    w->now_ms++;
    w->n_open = 0;
    sl_client_connected(w->client, w->now_ms);
}

static void break_session(struct world *w)
{
    uint64_t ids[FLIGHT_MAX];
    size_t n = w->n_open;
    memcpy(ids, w->open, n * sizeof ids[0]);
    w->session = 0;
    w->n_open = 0;
    if (n == 0 || sl_rng_below(&w->rng, 2) == 0) {
        sl_client_disconnected(w->client, w->now_ms);
        return;
    }
    for (size_t i = 0; i < n; i++)
        sl_client_lost(w->client, w->now_ms, ids[i]);
}

/* One thing that can happen without any fault. false: there is none but the passing of
 * time. */
static bool calm_step(struct world *w)
{
    if (w->session == 0) {
        connect_session(w);
    } else if (w->n_up > 0) {
        deliver_up(w, 0);
    } else if (w->n_down > 0) {
        deliver_down(w, 0, false);
    } else if (w->working) {
        finish_work(w);
    } else if (w->accepted && !w->finished) {
        next_round(w);
    } else if (w->wake_ms != UINT64_MAX) {
        w->now_ms = w->wake_ms > w->now_ms ? w->wake_ms : w->now_ms;
        w->wake_ms = UINT64_MAX;
        sl_client_time(w->client, w->now_ms);
        return false;
    } else {
        return false;
    }
    return true;
}

static bool all_done(const struct world *w)
{
    return w->finished && !sl_client_keeps(w->client) && sl_client_idle(w->client);
}

static void run_calm(struct world *w)
{
    for (int i = 0; i < 20000 && !all_done(w); i++)
        calm_step(w);
    assert_true(all_done(w));
}

static void check_each_once(const struct world *w)
{
    for (uint32_t r = 0; r < w->rounds; r++)
        assert_int_equal(w->accepts[r], 1);
}

/* --- tests
 * ------------------------------------------------------------------------------------------------
 */

static void small_round_takes_two_requests(void **state)
{
    struct world w;
    world_init(&w, 1, 3, 1000, 1000);
    while (w.round == 0)
        calm_step(&w);
    while (!w.working)
        calm_step(&w);
    size_t before = w.sent_total;
    uint32_t round = w.round;
    while (!(w.working && w.round > round)) {
        next_round(&w);
        calm_step(&w);
    }
    /* put of round 1, poll answered by settled and task of round 2 at once */
    assert_int_equal(w.sent_total - before, 2);
    run_calm(&w);
    check_each_once(&w);
    world_deinit(&w);
}

static void big_blobs_go_in_chunks_within_the_window(void **state)
{
    struct world w;
    world_init(&w, 1, 2, 11 * SL_CHUNK_BYTES + 12, 13 * SL_CHUNK_BYTES);
    run_calm(&w);
    check_each_once(&w);
    assert_true(w.max_open <= SL_CLIENT_WINDOW);
    assert_int_equal(w.trained[0], 1);
    world_deinit(&w);
}

static void model_that_fits_a_chunk_is_fetched_when_it_did_not_come_along(void **state)
{
    struct world w;
    world_init(&w, 1, 2, 1000, 1000);
    w.no_inline = true;
    run_calm(&w);
    check_each_once(&w);
    world_deinit(&w);
}

static void plan_is_fetched_once_for_all_rounds(void **state)
{
    struct world w;
    world_init(&w, 1, 5, 1000, 1000);
    run_calm(&w);
    assert_int_equal(w.begun, 5 + 1);
    assert_int_equal(w.released, 5);
    world_deinit(&w);
}

static void update_kept_before_a_kill_is_pushed_without_training(void **state)
{
    struct world w;
    world_init(&w, 1, 1, 1000, 3 * SL_CHUNK_BYTES);
    while (!w.working)
        calm_step(&w);
    finish_work(&w);
    client_kill(&w);
    clear(w.up, &w.n_up);
    client_start(&w);
    run_calm(&w);
    check_each_once(&w);
    assert_int_equal(w.trained[0], 1);
    world_deinit(&w);
}

static void damaged_kept_update_is_trained_again(void **state)
{
    struct world w;
    world_init(&w, 1, 1, 1000, 1000);
    while (!w.working)
        calm_step(&w);
    finish_work(&w);
    w.store.data[500] ^= 1;
    client_kill(&w);
    clear(w.up, &w.n_up);
    client_start(&w);
    run_calm(&w);
    check_each_once(&w);
    assert_int_equal(w.trained[0], 2);
    world_deinit(&w);
}

static void kept_update_damaged_while_the_client_lives_is_trained_again(void **state)
{
    struct world w;
    world_init(&w, 1, 1, 1000, 1000);
    while (!w.accepted)
        calm_step(&w);
    while (w.n_down > 0)
        deliver_down(&w, 0, false);
    w.accepted = false; /* the coordinator lost it, and asks again */
    w.accepts[0] = 0;
    w.store.data[0] ^= 1;
    run_calm(&w);
    assert_int_equal(w.trained[0], 2);
    world_deinit(&w);
}

static void unreadable_kept_update_is_dropped_and_made_again(void **state)
{
    struct world w;
    world_init(&w, 1, 1, 1000, 1000);
    while (!w.working)
        calm_step(&w);
    w.store.unreadable = true;
    finish_work(&w);
    assert_false(sl_client_keeps(w.client));
    w.store.unreadable = false;
    run_calm(&w);
    check_each_once(&w);
    assert_int_equal(w.trained[0], 2);
    world_deinit(&w);
}

static void update_of_equal_numbers_but_another_model_is_not_pushed(void **state)
{
    struct world w;
    world_init(&w, 1, 1, 1000, 1000);
    while (!w.working)
        calm_step(&w);
    finish_work(&w);
    client_kill(&w);
    clear(w.up, &w.n_up);
    blob_make(&w.model, w.model_bytes, 5);
    client_start(&w);
    run_calm(&w);
    assert_int_equal(w.trained[0], 2);
    world_deinit(&w);
}

static void coordinator_that_lost_its_spool_gets_all_chunks_again(void **state)
{
    struct world w;
    world_init(&w, 1, 1, 1000, 6 * SL_CHUNK_BYTES);
    while (!(w.have[0] && w.have[1] && w.have[2]))
        calm_step(&w);
    break_session(&w);
    memset(w.have, 0, sizeof w.have);
    clear(w.up, &w.n_up);
    run_calm(&w);
    check_each_once(&w);
    assert_int_equal(w.trained[0], 1);
    world_deinit(&w);
}

static void restarted_client_goes_on_where_the_coordinator_is(void **state)
{
    struct world w;
    world_init(&w, 1, 1, 1000, 14 * SL_CHUNK_BYTES);
    while (!w.have[11])
        calm_step(&w);
    client_kill(&w);
    clear(w.up, &w.n_up);
    clear(w.down, &w.n_down);
    w.sent_total = 0;
    client_start(&w);
    while (!w.accepted)
        calm_step(&w);
    /* register, poll, one window in vain, the two chunks that are missing */
    assert_int_equal(w.sent_total, 2 + SL_CLIENT_WINDOW + 2);
    run_calm(&w);
    check_each_once(&w);
    world_deinit(&w);
}

static void coordinator_that_never_has_enough_is_given_pauses(void **state)
{
    struct world w;
    world_init(&w, 1, 1, 1000, 1000);
    w.ask_again = true;
    size_t before = 0;
    for (int i = 0; i < 200; i++) {
        calm_step(&w);
        if (i == 100)
            before = w.sent_total;
    }
    assert_true(w.now_ms > 10000); /* it went by in pauses */
    assert_true(w.sent_total > before);
    w.ask_again = false;
    run_calm(&w);
    check_each_once(&w);
    world_deinit(&w);
}

static void rejected_update_is_dropped(void **state)
{
    struct world w;
    world_init(&w, 1, 1, 1000, 1000);
    w.reject = true;
    while (!w.working)
        calm_step(&w);
    finish_work(&w);
    while (sl_client_keeps(w.client))
        calm_step(&w);
    assert_false(w.store.present);
    assert_int_equal(w.accepts[0], 0);
    w.reject = false;
    run_calm(&w); /* asked again, trains again */
    assert_int_equal(w.trained[0], 2);
    world_deinit(&w);
}

static void failure_of_a_blob_is_reported_with_its_reason(void **state)
{
    struct world w;
    world_init(&w, 1, 1, 1000, 1000);
    w.blob_fails = true;
    while (w.fails == 0)
        calm_step(&w);
    assert_string_equal(w.fail_reason, "no memory for a blob");
    w.blob_fails = false;
    run_calm(&w);
    check_each_once(&w);
    world_deinit(&w);
}

static void full_disk_is_reported_as_a_failed_task(void **state)
{
    struct world w;
    world_init(&w, 1, 1, 1000, 1000);
    w.store.full = true;
    while (w.fails == 0)
        calm_step(&w);
    assert_string_equal(w.fail_reason, "store: no space left");
    w.store.full = false;
    run_calm(&w);
    check_each_once(&w);
    world_deinit(&w);
}

static void evaluation_is_reported_and_leaves_the_kept_update(void **state)
{
    struct world w;
    world_init(&w, 1, 1, 1000, 1000);
    w.task_kind = SL_TASK_EVALUATE;
    while (w.evals == 0)
        calm_step(&w);
    assert_int_equal(w.trained[0], 0);
    w.task_kind = SL_TASK_TRAIN;
    run_calm(&w);
    check_each_once(&w);
    world_deinit(&w);
}

static void drained_client_finishes_its_push_and_takes_no_task(void **state)
{
    struct world w;
    world_init(&w, 1, 2, 1000, 5 * SL_CHUNK_BYTES);
    while (!w.working)
        calm_step(&w);
    sl_client_drain(w.client);
    assert_false(sl_client_idle(w.client));
    for (int i = 0; i < 1000; i++)
        calm_step(&w);
    assert_true(sl_client_idle(w.client));
    assert_int_equal(w.accepts[0], 1);
    assert_int_equal(w.trained[1], 0);
    world_deinit(&w);
}

static void foreign_and_late_replies_change_nothing(void **state)
{
    struct world w;
    world_init(&w, 1, 1, 1000, 1000);
    while (!w.working)
        calm_step(&w);
    struct sl_msg m = {.kind = SL_MSG_PUT_REPLY, .put_reply.status = SL_PUT_REJECTED};
    for (uint64_t id = 0; id < 100; id++) {
        sl_client_reply(w.client, w.now_ms, id, &m);
        sl_client_lost(w.client, w.now_ms, id);
    }
    assert_true(w.working);
    assert_string_equal(sl_client_phase(w.client), "training round 0");
    run_calm(&w);
    check_each_once(&w);
    world_deinit(&w);
}

static void nonsense_reply_leads_to_a_pause_and_on(void **state)
{
    struct world w;
    world_init(&w, 1, 1, 1000, 1000);
    connect_session(&w);
    deliver_up(&w, 0);
    deliver_down(&w, 0, false); /* registered; the poll is under way */
    struct sl_msg m = {.kind = SL_MSG_ACK, .ack.reason = "not now"};
    clear(w.up, &w.n_up);
    close_id(&w, 2);
    sl_client_reply(w.client, w.now_ms, 2, &m);
    assert_int_equal(w.n_up, 0);
    assert_true(w.wake_ms >= w.now_ms + 2000);
    run_calm(&w);
    check_each_once(&w);
    world_deinit(&w);
}

/* --- storms
 * -------------------------------------------------------------------------------------------------
 */

static void duplicate(struct flight *list, size_t *n, size_t i)
{
    if (*n == FLIGHT_MAX)
        return;
    struct flight f = list[i];
    f.bytes = sl_calloc(1, f.n);
    memcpy(f.bytes, list[i].bytes, f.n);
    list[(*n)++] = f;
}

static void coordinator_kill(struct world *w)
{
    if (sl_rng_below(&w->rng, 2) == 0)
        memset(w->have, 0, sizeof w->have);
    clear(w->up, &w->n_up);
    break_session(w);
}

/* One fault or one ordinary thing, at random. */
static void storm_step(struct world *w)
{
    uint64_t what = sl_rng_below(&w->rng, 100);
    if (what < 35 && w->n_up > 0)
        deliver_up(w, sl_rng_below(&w->rng, w->n_up));
    else if (what < 70 && w->n_down > 0)
        deliver_down(w, sl_rng_below(&w->rng, w->n_down), sl_rng_below(&w->rng, 8) == 0);
    else if (what < 75 && w->n_up > 0 && w->n_up < FLIGHT_MAX / 2)
        duplicate(w->up, &w->n_up, sl_rng_below(&w->rng, w->n_up));
    else if (what < 80 && w->working)
        finish_work(w);
    else if (what < 84)
        next_round(w);
    else if (what < 87 && w->session != 0)
        break_session(w);
    else if (what < 92 && w->session == 0)
        connect_session(w);
    else if (what < 94)
        coordinator_kill(w);
    else if (what == 94) {
        client_kill(w);
        if (w->store.present && sl_rng_below(&w->rng, 4) == 0)
            w->store.data[sl_rng_below(&w->rng, w->store.kept.blob.size)] ^= 16;
        client_start(w);
    } else if (what < 98) {
        w->now_ms += sl_rng_below(&w->rng, 700);
        sl_client_time(w->client, w->now_ms);
    } else if (w->session != 0 && what == 99) {
        connect_session(w); /* a new session in place of the old one */
    }
}

static void storms_give_each_round_its_update_exactly_once(void **state)
{
    static const size_t sizes[] = {4, 1000, SL_CHUNK_BYTES, SL_CHUNK_BYTES + 4,
                                   5 * SL_CHUNK_BYTES + 8};
    for (uint64_t seed = 1; seed <= SL_STORMS(400); seed++) {
        struct world w;
        size_t a = sizes[seed % 5], b = sizes[seed / 5 % 5];
        world_init(&w, seed, 1 + (uint32_t)(seed % ROUNDS_MAX), a, b);
        for (int i = 0; i < 600 && !w.finished; i++)
            storm_step(&w);
        run_calm(&w);
        check_each_once(&w);
        assert_true(w.max_open <= SL_CLIENT_WINDOW + 1);
        world_deinit(&w);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(small_round_takes_two_requests),
        cmocka_unit_test(big_blobs_go_in_chunks_within_the_window),
        cmocka_unit_test(model_that_fits_a_chunk_is_fetched_when_it_did_not_come_along),
        cmocka_unit_test(plan_is_fetched_once_for_all_rounds),
        cmocka_unit_test(update_kept_before_a_kill_is_pushed_without_training),
        cmocka_unit_test(damaged_kept_update_is_trained_again),
        cmocka_unit_test(kept_update_damaged_while_the_client_lives_is_trained_again),
        cmocka_unit_test(unreadable_kept_update_is_dropped_and_made_again),
        cmocka_unit_test(update_of_equal_numbers_but_another_model_is_not_pushed),
        cmocka_unit_test(coordinator_that_lost_its_spool_gets_all_chunks_again),
        cmocka_unit_test(restarted_client_goes_on_where_the_coordinator_is),
        cmocka_unit_test(coordinator_that_never_has_enough_is_given_pauses),
        cmocka_unit_test(rejected_update_is_dropped),
        cmocka_unit_test(failure_of_a_blob_is_reported_with_its_reason),
        cmocka_unit_test(full_disk_is_reported_as_a_failed_task),
        cmocka_unit_test(evaluation_is_reported_and_leaves_the_kept_update),
        cmocka_unit_test(drained_client_finishes_its_push_and_takes_no_task),
        cmocka_unit_test(foreign_and_late_replies_change_nothing),
        cmocka_unit_test(nonsense_reply_leads_to_a_pause_and_on),
        cmocka_unit_test(storms_give_each_round_its_update_exactly_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
