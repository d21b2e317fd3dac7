/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/core_rig.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/limits.h"
#include "common/mem.h"

#define SAMPLES_EACH 20

/* --- a store that refuses
 * ------------------------------------------------------------------ */

static bool refused(struct sl_store *s, enum rig_call call, struct sl_err *err)
{
    struct rig_ops *o = (struct rig_ops *)(uintptr_t)s->ops;
    o->tried[call]++;
    if (o->pass[call] > 0) {
        o->pass[call]--;
        return false;
    }
    if (o->refuse[call] == 0)
        return false;
    if (o->refuse[call] != RIG_ALWAYS)
        o->refuse[call]--;
    sl_err_set(err, SL_E_NOSPACE, "the test's store is full");
    return true;
}

static const struct sl_store_ops *behind(const struct sl_store *s)
{
    return ((const struct rig_ops *)s->ops)->real;
}

static enum sl_code set_run_state(struct sl_store *s, uint64_t id,
                                  enum sl_run_state state, const char *reason,
                                  struct sl_err *err)
{
    return refused(s, RIG_SET_RUN_STATE, err)
               ? SL_E_NOSPACE
               : behind(s)->set_run_state(s, id, state, reason, err);
}

static enum sl_code want_calibrations(struct sl_store *s, uint64_t id, uint32_t n,
                                      struct sl_err *err)
{
    return refused(s, RIG_WANT_CALIBRATIONS, err) ? SL_E_NOSPACE
                                                  : behind(s)->want_calibrations(s, id, n, err);
}

static enum sl_code put_client(struct sl_store *s, const struct sl_client_row *row,
                               struct sl_err *err)
{
    return refused(s, RIG_PUT_CLIENT, err) ? SL_E_NOSPACE
                                           : behind(s)->put_client(s, row, err);
}

static enum sl_code round_open(struct sl_store *s, uint64_t run, uint32_t round,
                               uint32_t attempt, const uint32_t *members, size_t n,
                               uint64_t remaining_ms, struct sl_err *err)
{
    return refused(s, RIG_ROUND_OPEN, err)
               ? SL_E_NOSPACE
               : behind(s)->round_open(s, run, round, attempt, members, n, remaining_ms,
                                       err);
}

static enum sl_code accept_update(struct sl_store *s, uint64_t run, uint32_t round,
                                  uint64_t remaining_ms, const struct sl_member_row *m,
                                  struct sl_err *err)
{
    return refused(s, RIG_ACCEPT, err)
               ? SL_E_NOSPACE
               : behind(s)->accept(s, run, round, remaining_ms, m, err);
}

static enum sl_code round_commit(struct sl_store *s, uint64_t run,
                                 const struct sl_commit_row *row, struct sl_err *err)
{
    return refused(s, RIG_COMMIT, err) ? SL_E_NOSPACE
                                       : behind(s)->round_commit(s, run, row, err);
}

static enum sl_code put_report(struct sl_store *s, uint64_t run, const char *json,
                               struct sl_err *err)
{
    return refused(s, RIG_PUT_REPORT, err) ? SL_E_NOSPACE
                                           : behind(s)->put_report(s, run, json, err);
}

static enum sl_code was_included(struct sl_store *s, uint64_t run, uint32_t round,
                                 uint32_t client, bool *ret_known, bool *ret_included,
                                 struct sl_err *err)
{
    return refused(s, RIG_WAS_INCLUDED, err)
               ? SL_E_NOSPACE
               : behind(s)->was_included(s, run, round, client, ret_known, ret_included,
                                         err);
}

static enum sl_code spool_write(struct sl_store *s, uint32_t slot, uint64_t offset,
                                const uint8_t *data, size_t n, struct sl_err *err)
{
    return refused(s, RIG_SPOOL_WRITE, err)
               ? SL_E_NOSPACE
               : behind(s)->spool_write(s, slot, offset, data, n, err);
}

static enum sl_code spool_read(struct sl_store *s, uint32_t slot, uint64_t offset,
                               uint8_t *ret, size_t n, struct sl_err *err)
{
    return refused(s, RIG_SPOOL_READ, err)
               ? SL_E_NOSPACE
               : behind(s)->spool_read(s, slot, offset, ret, n, err);
}

static enum sl_code checkpoint_write(struct sl_store *s, uint64_t run,
                                     uint32_t round_plus1, const struct sl_layout *layout,
                                     const float *values, char ret_name[64],
                                     struct sl_err *err)
{
    return refused(s, RIG_CHECKPOINT_WRITE, err)
               ? SL_E_NOSPACE
               : behind(s)->checkpoint_write(s, run, round_plus1, layout, values,
                                             ret_name, err);
}

static enum sl_code version_open(struct sl_store *s, uint64_t run, uint32_t round,
                                 uint32_t attempt, uint64_t remaining_ms,
                                 const struct sl_blob_id *model, struct sl_err *err)
{
    return refused(s, RIG_VERSION_OPEN, err)
               ? SL_E_NOSPACE
               : behind(s)->version_open(s, run, round, attempt, remaining_ms, model, err);
}

static enum sl_code task_give(struct sl_store *s, uint64_t run, uint32_t start,
                              uint32_t client, struct sl_err *err)
{
    return refused(s, RIG_TASK_GIVE, err) ? SL_E_NOSPACE
                                          : behind(s)->task_give(s, run, start, client, err);
}

static enum sl_code task_take(struct sl_store *s, uint64_t run, uint32_t start,
                              uint32_t client, struct sl_err *err)
{
    return refused(s, RIG_TASK_TAKE, err) ? SL_E_NOSPACE
                                          : behind(s)->task_take(s, run, start, client, err);
}

static void put_ops_in_front(struct rig *r)
{
    r->ops = sl_calloc(1, sizeof(*r->ops));
    assert_non_null(r->ops);
    r->ops->real = r->store->ops;
    r->ops->seen = *r->store->ops;
    r->ops->seen.set_run_state = set_run_state;
    r->ops->seen.want_calibrations = want_calibrations;
    r->ops->seen.put_client = put_client;
    r->ops->seen.round_open = round_open;
    r->ops->seen.accept = accept_update;
    r->ops->seen.round_commit = round_commit;
    r->ops->seen.put_report = put_report;
    r->ops->seen.was_included = was_included;
    r->ops->seen.spool_write = spool_write;
    r->ops->seen.spool_read = spool_read;
    r->ops->seen.checkpoint_write = checkpoint_write;
    r->ops->seen.version_open = version_open;
    r->ops->seen.task_give = task_give;
    r->ops->seen.task_take = task_take;
    r->store->ops = &r->ops->seen;
}

/* --- what the core calls
 * -------------------------------------------------------------------- */

static void *grown(void *at, size_t n, size_t element)
{
    if (n % 64 != 0)
        return at;
    uint8_t *more = realloc(at, (n + 64) * element);
    assert_non_null(more);
    memset(more + n * element, 0, 64 * element);
    return more;
}

static void submit(void *self, struct sl_job *job)
{
    struct rig *r = self;
    if (!r->holds) {
        job->run(job);
        job->done(job, job->ctx);
        return;
    }
    r->jobs = grown(r->jobs, r->n_jobs, sizeof(*r->jobs));
    r->jobs[r->n_jobs++] = (struct rig_job){.job = job};
}

static void reply(void *ctx, sl_request_id id, const struct sl_msg *m)
{
    struct rig *r = ctx;
    struct sl_err err;
    size_t n;
    if (id >= r->n_answers || r->answers[id].n > 0 || r->answers[id].forgotten)
        fail_msg("request %" PRIu64 " is answered again, or nobody asked", id);
    if (sl_wire_pack(m, r->wire, SL_WIRE_PLAIN_MAX, &n, &err) != SL_OK)
        fail_msg("answer %s: %s", sl_msg_kind_name(m->kind), err.msg);
    struct rig_answer *a = &r->answers[id];
    a->n++;
    a->m = *m;
    a->bytes = malloc(m->attachment_bytes + 1);
    assert_non_null(a->bytes);
    if (m->attachment_bytes > 0)
        memcpy(a->bytes, m->attachment, m->attachment_bytes);
    a->m.attachment = a->bytes;
    if (id == r->frame_of)
        memset(r->frame, 0xa5, sizeof(r->frame));
}

static void wake_at(void *ctx, uint64_t at_ms)
{
    ((struct rig *)ctx)->wake_at = at_ms;
}

static void report(void *ctx, uint64_t run_id, json_t *line)
{
    struct rig *r = ctx;
    assert_int_equal(json_array_append_new(r->lines, json_deep_copy(line)), 0);
}

static void record(void *ctx, uint64_t run_id, uint32_t round, const uint8_t *bytes, size_t n)
{
    struct rig *r = ctx;
    free(r->records);
    r->records = malloc(n);
    assert_non_null(r->records);
    memcpy(r->records, bytes, n);
    r->n_record_bytes = n;
}

static double wall_s(void *ctx)
{
    return 0;
}

static uint64_t wire_bytes(void *ctx)
{
    return 0;
}

/* --- life
 * ------------------------------------------------------------------------------------ */

void rig_init(struct rig *r)
{
    struct sl_err err;
    *r = (struct rig){.wake_at = RIG_NEVER, .lines = json_array()};
    r->wire = malloc(SL_WIRE_PLAIN_MAX);
    assert_non_null(r->wire);
    if (sl_store_mem_new(&r->store, &err) != SL_OK)
        fail_msg("%s", err.msg);
    put_ops_in_front(r);
    r->executor = (struct sl_executor){submit, r};
    r->env = (struct sl_coordinator_env){.ctx = r,
                                         .store = r->store,
                                         .executor = &r->executor,
                                         .reply = reply,
                                         .wake_at = wake_at,
                                         .report = report,
                                         .record = record,
                                         .wall_s = wall_s,
                                         .wire_bytes = wire_bytes,
                                         .blas_name = "reference",
                                         .poll_hold_ms = SL_POLL_HOLD_MS,
                                         .max_clients = 100};
}

void rig_deinit(struct rig *r)
{
    sl_coordinator_free(r->c);
    r->store->ops = r->ops->real;
    sl_store_mem_free(r->store);
    for (size_t i = 0; i < r->n_answers; i++)
        free(r->answers[i].bytes);
    free(r->answers);
    free(r->jobs);
    free(r->ops);
    free(r->wire);
    free(r->records);
    json_decref(r->lines);
}

void rig_boot(struct rig *r)
{
    struct sl_err err;
    r->wake_at = RIG_NEVER;
    if (sl_coordinator_new(&r->env, r->now, &r->c, &err) != SL_OK)
        fail_msg("boot: %s", err.msg);
}

void rig_kill(struct rig *r, bool power_cut)
{
    sl_coordinator_free(r->c);
    r->c = NULL;
    r->n_jobs = 0;
    r->wake_at = RIG_NEVER;
    for (size_t i = 0; i < r->n_answers; i++)
        r->answers[i].forgotten = true;
    sl_store_mem_crash(r->store, power_cut);
}

static const struct {
    const char *data, *layers;
} shapes[] = {
    [RIG_SMALL] = {"height=6,width=6,classes=3", "flatten, {dense: 3}"},
    [RIG_TWO] = {"height=6,width=6,classes=3", "flatten, {dense: 1700}, {dense: 3}"},
    [RIG_WIDE] = {"height=6,width=6,classes=3", "flatten, {dense: 3312}, {dense: 3}"},
    [RIG_EXACT] = {"height=2,width=19,classes=4", "flatten, {dense: 1524}, {dense: 4}"},
    [RIG_EIGHT] = {"height=6,width=7,classes=8", "flatten, {dense: 10280}, {dense: 8}"},
};

static const char *or_nothing(const char *text)
{
    return text != NULL ? text : "";
}

struct sl_plan rig_make_plan(const struct rig_plan *p)
{
    char text[2048];
    uint32_t clients = p->clients > 0 ? p->clients : 2;
    int n = snprintf(
        text, sizeof(text),
        "run: {name: %s, seed: 1, rounds: %" PRIu32
        ", eval_every: 1, max_retries: %" PRIu32 "%s}\n"
        "data:\n  dataset: synthetic\n  path: \"channels=1,%s,train=%" PRIu32
        ",test=8\"\n"
        "  partition: {kind: iid, clients: %" PRIu32 "}\n"
        "model: {layers: [%s]}\n"
        "train: {epochs: 1, batch_size: 8, lr: 0.1}\n"
        "selection: {clients_per_round: %" PRIu32 ", deadline_s: 60, quorum: %g, "
        "over_select: %g%s}\n%s",
        p->name != NULL ? p->name : "test", p->rounds > 0 ? p->rounds : 2, p->retries,
        or_nothing(p->run), shapes[p->shape].data, SAMPLES_EACH * clients, clients,
        shapes[p->shape].layers, p->per_round > 0 ? p->per_round : clients,
        p->quorum > 0 ? p->quorum : 1.0, p->over_select > 0 ? p->over_select : 1.0,
        or_nothing(p->selection), or_nothing(p->more));
    assert_true(n > 0 && (size_t)n < sizeof(text));
    struct sl_plan plan;
    struct sl_err err;
    if (sl_plan_parse(text, (size_t)n, "plan", NULL, 0, &plan, &err) != SL_OK)
        fail_msg("%s", err.msg);
    return plan;
}

uint64_t rig_submit(struct rig *r, const struct rig_plan *p)
{
    struct sl_plan plan = rig_make_plan(p);
    struct sl_err err;
    uint64_t run = 0;
    if (sl_coordinator_submit(r->c, r->now, &plan, &run, &err) != SL_OK)
        fail_msg("submit: %s", err.msg);
    sl_plan_deinit(&plan);
    return run;
}

struct sl_client_row rig_client(uint32_t index)
{
    struct sl_client_row row = {.state = SL_CLIENT_ENROLLED, .index = index};
    memcpy(row.key, &index, sizeof(index));
    row.key[31] = 1;
    snprintf(row.name, sizeof(row.name), "client-%" PRIu32, index);
    return row;
}

void rig_enrol(struct rig *r, uint32_t first, uint32_t n)
{
    struct sl_err err;
    for (uint32_t i = first; i < first + n; i++) {
        struct sl_client_row row = rig_client(i);
        if (sl_coordinator_approve(r->c, r->now, &row, &err) != SL_OK)
            fail_msg("approve: %s", err.msg);
    }
}

uint64_t rig_start(struct rig *r, const struct rig_plan *p)
{
    rig_boot(r);
    rig_enrol(r, 0, p->clients > 0 ? p->clients : 2);
    return rig_submit(r, p);
}

/* --- time and jobs
 * --------------------------------------------------------------------------- */

void rig_time(struct rig *r, uint64_t at_ms)
{
    assert_true(at_ms >= r->now);
    r->now = at_ms;
    r->wake_at = RIG_NEVER;
    sl_coordinator_time(r->c, at_ms);
}

void rig_sleep(struct rig *r, uint64_t until_ms)
{
    for (unsigned n = 0; r->wake_at <= until_ms; n++) {
        assert_true(n < 100000); /* never without moving on */
        rig_time(r, r->wake_at > r->now ? r->wake_at : r->now);
    }
    r->now = until_ms;
}

void rig_run(struct rig *r, size_t i)
{
    assert_true(i < r->n_jobs && !r->jobs[i].ran);
    r->jobs[i].ran = true;
    r->jobs[i].job->run(r->jobs[i].job);
}

void rig_done(struct rig *r, size_t i)
{
    assert_true(i < r->n_jobs && r->jobs[i].ran);
    struct sl_job *job = r->jobs[i].job;
    r->n_jobs--;
    memmove(&r->jobs[i], &r->jobs[i + 1], (r->n_jobs - i) * sizeof(*r->jobs));
    job->done(job, job->ctx);
}

void rig_finish(struct rig *r, size_t i)
{
    if (!r->jobs[i].ran)
        rig_run(r, i);
    rig_done(r, i);
}

void rig_finish_all(struct rig *r)
{
    while (r->n_jobs > 0)
        rig_finish(r, 0);
}

/* --- requests
 * -------------------------------------------------------------------------------- */

/* As the service: the request's attachment lies where its answer will be packed. */
sl_request_id rig_send(struct rig *r, uint32_t client, const struct sl_msg *m)
{
    struct sl_msg sent = *m;
    if (m->attachment_bytes > 0) {
        memcpy(r->frame, m->attachment, m->attachment_bytes);
        sent.attachment = r->frame;
    }
    r->frame_of = r->n_answers;
    r->answers = grown(r->answers, r->n_answers, sizeof(*r->answers));
    sl_request_id id = r->n_answers++;
    r->answers[id] = (struct rig_answer){0};
    sl_coordinator_message(r->c, r->now, client, id, &sent);
    return id;
}

bool rig_answered(const struct rig *r, sl_request_id id)
{
    return r->answers[id].n > 0;
}

const struct sl_msg *rig_answer(const struct rig *r, sl_request_id id,
                                enum sl_msg_kind kind)
{
    if (r->answers[id].n == 0)
        fail_msg("request %" PRIu64 " is not answered", id);
    if (r->answers[id].m.kind != kind)
        fail_msg("request %" PRIu64 " is answered by %s, not %s", id,
                 sl_msg_kind_name(r->answers[id].m.kind), sl_msg_kind_name(kind));
    return &r->answers[id].m;
}

void rig_forget(struct rig *r, sl_request_id id)
{
    r->answers[id].forgotten = true;
    sl_coordinator_forget(r->c, id);
}

sl_request_id rig_poll(struct rig *r, uint32_t client)
{
    struct sl_msg m = {.kind = SL_MSG_POLL};
    m.poll.boot_id = 1;
    return rig_send(r, client, &m);
}

sl_request_id rig_poll_pending(struct rig *r, uint32_t client, uint64_t run,
                               uint32_t round)
{
    struct sl_msg m = {.kind = SL_MSG_POLL};
    m.poll.boot_id = 1;
    m.poll.has_pending = true;
    m.poll.run_id = run;
    m.poll.round = round;
    m.poll.blob.size = 4;
    return rig_send(r, client, &m);
}

sl_request_id rig_register(struct rig *r, uint32_t client, uint64_t own_samples)
{
    struct sl_msg m = {.kind = SL_MSG_REGISTER};
    m.reg.index = -1;
    m.reg.own_samples = own_samples;
    snprintf(m.reg.blas, sizeof(m.reg.blas), "%s", r->env.blas_name);
    return rig_send(r, client, &m);
}

struct sl_task_order rig_task(struct rig *r, uint32_t client)
{
    sl_request_id id = rig_poll(r, client);
    if (!rig_answered(r, id))
        return (struct sl_task_order){.kind = SL_TASK_NONE};
    return rig_answer(r, id, SL_MSG_POLL_REPLY)->poll_reply.task;
}

struct rig_update rig_update(const struct rig *r, uint64_t run, uint32_t round,
                             float value)
{
    const struct sl_layout *layout;
    assert_non_null(sl_coordinator_model(r->c, &layout));
    struct rig_update u = {.run = run, .round = round};
    u.blob.size = layout->n_values * sizeof(float);
    u.values = malloc(u.blob.size);
    assert_non_null(u.values);
    for (size_t i = 0; i < layout->n_values; i++)
        u.values[i] = value;
    u.meta = (struct sl_update_meta){.weight = SAMPLES_EACH,
                                     .samples = SAMPLES_EACH,
                                     .steps = 3,
                                     .loss_sum = 5,
                                     .first_loss = 1};
    rig_rename(&u);
    return u;
}

void rig_rename(struct rig_update *u)
{
    sl_xxh3_128(u->values, u->blob.size, &u->blob.id);
}

void rig_update_deinit(struct rig_update *u)
{
    free(u->values);
    u->values = NULL;
}

size_t rig_chunks(const struct rig_update *u)
{
    return (u->blob.size + SL_CHUNK_BYTES - 1) / SL_CHUNK_BYTES;
}

struct sl_msg rig_chunk(const struct rig_update *u, size_t chunk)
{
    struct sl_msg m = {.kind = SL_MSG_PUT_CHUNK};
    size_t at = chunk * SL_CHUNK_BYTES, left = u->blob.size - at;
    m.put_chunk.run_id = u->run;
    m.put_chunk.round = u->round;
    m.put_chunk.blob = u->blob;
    m.put_chunk.offset = at;
    m.put_chunk.has_meta = left <= SL_CHUNK_BYTES;
    m.put_chunk.meta = u->meta;
    m.attachment = (const uint8_t *)u->values + at;
    m.attachment_bytes = left < SL_CHUNK_BYTES ? left : SL_CHUNK_BYTES;
    return m;
}

sl_request_id rig_put_chunk(struct rig *r, uint32_t client, const struct rig_update *u,
                            size_t chunk)
{
    struct sl_msg m = rig_chunk(u, chunk);
    return rig_send(r, client, &m);
}

sl_request_id rig_put(struct rig *r, uint32_t client, const struct rig_update *u)
{
    sl_request_id id = 0;
    for (size_t i = 0; i < rig_chunks(u); i++)
        id = rig_put_chunk(r, client, u, i);
    return id;
}

sl_request_id rig_give(struct rig *r, uint32_t client, uint64_t run, uint32_t round,
                       float value)
{
    struct rig_update u = rig_update(r, run, round, value);
    sl_request_id id = rig_put(r, client, &u);
    rig_update_deinit(&u);
    return id;
}

/* --- what is to be seen
 * ------------------------------------------------------------------------ */

static const char *const statuses[] = {"more", "accepted", "rejected", "stale"};

void rig_expect_put(const struct rig *r, sl_request_id id, enum sl_put_status status,
                    const char *reason)
{
    const struct sl_msg *m = rig_answer(r, id, SL_MSG_PUT_REPLY);
    if (m->put_reply.status != status ||
        (reason != NULL && strstr(m->put_reply.reason, reason) == NULL))
        fail_msg("put is answered \"%s: %s\", not \"%s: %s\"",
                 statuses[m->put_reply.status], m->put_reply.reason, statuses[status],
                 or_nothing(reason));
}

void rig_expect_member(const struct rig *r, uint32_t client, const char *state,
                       const char *reason)
{
    struct sl_err err;
    json_t *round = sl_coordinator_explain(r->c, -1, &err), *m;
    const json_t *found = NULL;
    size_t i;
    json_array_foreach(json_object_get(round, "members"), i, m)
    {
        if (json_is_object(m) && rig_integer(m, "client") == client)
            found = m;
    }
    if ((found == NULL) != (state == NULL))
        fail_msg("client %" PRIu32 " is %s member", client, found == NULL ? "no" : "a");
    if (found != NULL && (strcmp(rig_text(found, "state"), state) != 0 ||
                          strstr(rig_text(found, "reason"), or_nothing(reason)) == NULL))
        fail_msg("client %" PRIu32 " is \"%s: %s\", not \"%s: %s\"", client,
                 rig_text(found, "state"), rig_text(found, "reason"), state,
                 or_nothing(reason));
    json_decref(round);
}

const json_t *rig_line(const struct rig *r, const char *event, int n)
{
    size_t i;
    json_t *line;
    const json_t *found = NULL;
    json_array_foreach(r->lines, i, line)
    {
        if (strcmp(rig_text(line, "event"), event) != 0)
            continue;
        found = line;
        if (n-- == 0)
            return line;
    }
    return n < -1 ? found : NULL;
}

size_t rig_lines(const struct rig *r, const char *event)
{
    size_t i, n = 0;
    json_t *line;
    json_array_foreach(r->lines, i, line)
    {
        n += strcmp(rig_text(line, "event"), event) == 0;
    }
    return n;
}

json_int_t rig_integer(const json_t *o, const char *key)
{
    const json_t *v = json_object_get(o, key);
    if (!json_is_integer(v))
        fail_msg("no whole number \"%s\"", key);
    return json_integer_value(v);
}

const char *rig_text(const json_t *o, const char *key)
{
    const char *text = json_string_value(json_object_get(o, key));
    if (text == NULL)
        fail_msg("no text \"%s\"", key);
    return text;
}

void rig_expect_run(const struct rig *r, const char *want)
{
    char is[100] = "none";
    json_t *status = sl_coordinator_status(r->c, r->now);
    const json_t *run = json_object_get(status, "run");
    if (run != NULL)
        snprintf(is, sizeof(is), "%d %d %d %s", (int)rig_integer(run, "id"),
                 (int)rig_integer(run, "round"), (int)rig_integer(run, "attempt"),
                 rig_text(run, "phase"));
    json_decref(status);
    assert_string_equal(is, want);
}

bool rig_fault(const struct rig *r)
{
    json_t *status = sl_coordinator_status(r->c, r->now);
    bool fault = json_object_get(status, "fault") != NULL;
    json_decref(status);
    return fault;
}

static float value_at(const struct rig *r, bool last)
{
    const struct sl_layout *layout;
    const float *values = sl_coordinator_model(r->c, &layout);
    assert_non_null(values);
    return values[last ? layout->n_values - 1 : 0];
}

float rig_value(const struct rig *r)
{
    return value_at(r, false);
}

float rig_last_value(const struct rig *r)
{
    return value_at(r, true);
}
