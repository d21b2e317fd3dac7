/* SPDX-License-Identifier: Apache-2.0 */
/* Asynchronous aggregation (FedBuff, Nguyen et al. 2022). A buffer is a round (round.h) whose members are all
 * clients, most of them idle, and which `strategy.buffer` updates close; round v of the report turns version v
 * of the model into the next. At most `selection.clients_per_round` clients are under way: whenever a place is
 * free and a buffer open, an idle client is drawn for it and begins from the version at hand.
 *
 *   idle --drawn--> under way --accepted--> in the buffer --committed--> idle
 *                       |  failed, rejected, overdue: out until the next version or attempt
 *                       +- told anew after losing its training: begins from the version at hand
 *
 * A client whose update waits in the open buffer gets no task, so it keeps one update at a time, a buffer has
 * one of a client at most, and (client, version it began from) names one update for good: that is its round
 * on the wire, in the journal and in every draw. Tasks under way stay from version to version; an update
 * that comes while a version is being committed waits for the next buffer.
 *
 * --replay gives the recorded tasks in the version that each began from, and lets each update into the
 * buffer it was recorded in, once all that began so far are here: a client that is killed while it trains
 * still finds its model. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/crash_point.h"
#include "common/mem.h"
#include "common/rng.h"
#include "server/core.h"

#define NEVER UINT64_MAX

bool buffer_on(const struct run *r)
{
    return r->buffers.flight != NULL && !calibrate_under_way(r);
}

static bool replays(const struct run *r)
{
    return r->c->env.replay != NULL;
}

static uint64_t deadline_ms(const struct run *r)
{
    return (uint64_t)(r->plan.selection.deadline_s * 1000);
}

static bool is_open(const struct run *r)
{
    return r->phase == RUN_OPEN && !r->unjournalled;
}

static bool flies(const struct run *r, uint32_t client)
{
    enum sl_member_state s = r->round.members[client].state;
    return s == SL_MEMBER_WAITING || s == SL_MEMBER_TASKED;
}

uint32_t buffer_start(const struct run *r, size_t position)
{
    return buffer_on(r) ? r->buffers.flight[position].start : r->round.number;
}

double buffer_damping(const struct upload *u)
{
    const struct run *r = u->run;
    if (!buffer_on(r))
        return 1;
    return r->strategy->stale(&r->plan, r->round.number - buffer_start(r, u->position));
}

bool buffer_awaits(const struct run *r, uint32_t client, uint32_t start)
{
    return r->phase != RUN_OVER && r->phase != RUN_CLIENT_EVAL && client < r->n_clients &&
           r->buffers.flight[client].under_way && r->buffers.flight[client].start == start;
}

/* --- the record of a run that is replayed ----------------------------------------------------------- */

static int by_start(const void *a, const void *b)
{
    const struct recorded *x = a, *y = b;
    if (x->start != y->start)
        return x->start < y->start ? -1 : 1;
    return (x->client > y->client) - (x->client < y->client);
}

static const struct recorded *record_of(const struct run *r, uint32_t client, uint32_t start)
{
    const struct recorded key = {.start = start, .client = client};
    const struct buffers *b = &r->buffers;
    return b->n_record == 0 ? NULL : bsearch(&key, b->record, b->n_record, sizeof(key), by_start);
}

static uint32_t recorded_size(const struct run *r, uint32_t version)
{
    uint32_t n = 0;
    for (size_t i = 0; i < r->buffers.n_record; i++)
        n += r->buffers.record[i].into == version;
    return n;
}

static enum sl_code read_line(struct run *r, const json_t *line, struct sl_err *err)
{
    struct buffers *b = &r->buffers;
    const json_t *clients = json_object_get(line, "included"), *starts = json_object_get(line, "starts");
    json_int_t into = json_integer_value(json_object_get(line, "round"));
    size_t n = json_array_size(clients);
    if (n == 0 || json_array_size(starts) != n)
        return sl_err_set(err, SL_E_INPUT, "--replay: round %" PRIdMAX
                          " of the record does not say what its updates began from", (intmax_t)into);
    struct recorded *more = realloc(b->record, (b->n_record + n) * sizeof(*more));
    if (more == NULL)
        return sl_err_set(err, SL_E_NOMEM, "--replay");
    b->record = more;
    for (size_t i = 0; i < n; i++) {
        json_int_t client = json_integer_value(json_array_get(clients, i));
        json_int_t start = json_integer_value(json_array_get(starts, i));
        if (client < 0 || client >= (json_int_t)r->n_clients || start < 0 || start > into ||
            into >= (json_int_t)SL_ROUND_CALIBRATION)
            return sl_err_set(err, SL_E_INPUT, "--replay: round %" PRIdMAX " of the record has client %" PRIdMAX
                              " with version %" PRIdMAX, (intmax_t)into, (intmax_t)client, (intmax_t)start);
        b->record[b->n_record++] =
            (struct recorded){.start = (uint32_t)start, .client = (uint32_t)client, .into = (uint32_t)into};
    }
    return SL_OK;
}

static enum sl_code read_record(struct run *r, struct sl_err *err)
{
    struct buffers *b = &r->buffers;
    enum sl_code rc = SL_OK;
    size_t i;
    json_t *line;
    json_array_foreach(r->c->env.replay, i, line)
    {
        const char *event = json_string_value(json_object_get(line, "event"));
        if (rc == SL_OK && event != NULL && strcmp(event, "round") == 0)
            rc = read_line(r, line, err);
    }
    if (rc != SL_OK || b->n_record == 0)
        return rc;
    qsort(b->record, b->n_record, sizeof(*b->record), by_start);
    for (i = 1; i < b->n_record; i++)
        if (by_start(&b->record[i - 1], &b->record[i]) == 0)
            return sl_err_set(err, SL_E_INPUT, "--replay: the record has the update of client %" PRIu32
                              " from version %" PRIu32 " twice", b->record[i].client, b->record[i].start);
    return SL_OK;
}

/* --- life -------------------------------------------------------------------------------------------- */

enum sl_code buffer_build(struct run *r, struct sl_err *err)
{
    r->buffers.flight = sl_calloc(r->n_clients, sizeof(*r->buffers.flight));
    if (r->buffers.flight == NULL)
        return sl_err_set(err, SL_E_NOMEM, "tasks of %" PRIu32 " clients", r->n_clients);
    for (uint32_t k = 0; k < r->n_clients; k++)
        upload_reset(&r->uploads[k]);
    return replays(r) ? read_record(r, err) : SL_OK;
}

void buffer_free(struct run *r)
{
    free(r->buffers.flight);
    free(r->buffers.record);
}

/* --- tasks ------------------------------------------------------------------------------------------- */

/* Journals a task from the version at hand for this client, whose former one is over. */
static bool give(struct run *r, uint32_t client)
{
    struct sl_store *s = r->c->env.store;
    struct buffers *b = &r->buffers;
    struct sl_err err;
    enum sl_code rc = s->ops->task_give(s, r->id, r->round.number, client, &err);
    if (rc != SL_OK) {
        core_fault(r->c, rc, &err);
        return false;
    }
    SL_CRASH_POINT("after_task");
    b->flight[client] = (struct flight){.under_way = true,
                                        .start = r->round.number,
                                        .model = r->model_ref.id,
                                        .due_ms = r->c->now_ms + deadline_ms(r)};
    if (b->flight[client].due_ms < b->due_ms)
        b->due_ms = b->flight[client].due_ms;
    b->given++;
    struct sl_round_event ev = {.kind = SL_ROUND_EV_DRAWN, .now_ms = r->c->now_ms, .client = client};
    sl_round_step(&r->round, &ev);
    return true;
}

/* Should the journal keep it, it is under way again after a restart, and given up then. */
static void take_back(struct run *r, uint32_t client)
{
    struct sl_store *s = r->c->env.store;
    struct flight *f = &r->buffers.flight[client];
    struct sl_err err;
    enum sl_code rc = s->ops->task_take(s, r->id, f->start, client, &err);
    if (rc != SL_OK)
        core_fault(r->c, rc, &err);
    upload_reset(&r->uploads[client]);
    *f = (struct flight){0};
}

void buffer_void(struct run *r, uint32_t client)
{
    const struct sl_member *m = sl_round_member(&r->round, client);
    bool accepted = m != NULL && m->state == SL_MEMBER_ACCEPTED;
    if (buffer_on(r) && client < r->n_clients && r->buffers.flight[client].under_way && !accepted)
        take_back(r, client);
}

static uint32_t places(const struct run *r)
{
    bool all = strcmp(r->selection->name, "all") == 0;
    return all ? r->n_clients : sl_plan_cohort_size(&r->plan);
}

/* Draws for the free places, each by (seed, version, how many tasks this version gave). */
static void fill(struct run *r)
{
    uint32_t *idle = sl_calloc(r->n_clients, sizeof(*idle)), n = 0, flying = 0;
    for (uint32_t k = 0; idle != NULL && k < r->n_clients; k++) {
        flying += flies(r, k);
        if (r->round.members[k].state == SL_MEMBER_IDLE && sl_registry_at(&r->c->registry, k) != NULL)
            idle[n++] = k;
    }
    for (bool given = true; given && n > 0 && flying < places(r); flying++) {
        struct sl_rng rng;
        sl_rng_init(&rng, &(struct sl_rng_id){.seed = r->plan.run.seed,
                                              .purpose = SL_RNG_COHORT,
                                              .round = r->round.number,
                                              .step = r->buffers.given + 1});
        uint32_t i = (uint32_t)sl_rng_below(&rng, n), client = idle[i];
        memmove(&idle[i], &idle[i + 1], (--n - i) * sizeof(*idle));
        given = give(r, client);
        if (given)
            poll_serve_client(r->c, client);
    }
    free(idle);
}

static void fill_as_recorded(struct run *r)
{
    for (size_t i = 0; i < r->buffers.n_record; i++) {
        const struct recorded *k = &r->buffers.record[i];
        if (k->start == r->round.number && r->round.members[k->client].state == SL_MEMBER_IDLE &&
            !r->buffers.flight[k->client].under_way && give(r, k->client))
            poll_serve_client(r->c, k->client);
    }
}

void buffer_act(struct run *r)
{
    if (!buffer_on(r) || !is_open(r))
        return;
    for (uint32_t k = 0; k < r->n_clients; k++)
        if (r->round.members[k].state == SL_MEMBER_FAILED && r->buffers.flight[k].under_way) {
            upload_drop(r, k, r->round.members[k].reason);
            take_back(r, k);
        }
    if (r->c->draining || r->c->fault.code != SL_OK)
        return;
    if (replays(r))
        fill_as_recorded(r);
    else
        fill(r);
}

/* When the first of the tasks under way is due; one whose update is being checked is looked at again. */
static uint64_t first_due(const struct run *r)
{
    uint64_t first = NEVER;
    for (uint32_t k = 0; k < r->n_clients; k++) {
        uint64_t due = r->buffers.flight[k].due_ms;
        if (r->uploads[k].check != NULL && due <= r->c->now_ms)
            due = r->c->now_ms + TICK_MS;
        if (flies(r, k) && !r->uploads[k].here && due < first)
            first = due;
    }
    return first;
}

uint64_t buffer_wake_ms(const struct run *r)
{
    return buffer_on(r) && !replays(r) ? r->buffers.due_ms : NEVER;
}

void buffer_time(struct run *r)
{
    struct sl_coordinator *c = r->c;
    if (buffer_wake_ms(r) > c->now_ms || !is_open(r))
        return;
    for (uint32_t k = 0; k < r->n_clients; k++) {
        const struct upload *u = &r->uploads[k];
        if (!flies(r, k) || u->here || u->check != NULL || r->buffers.flight[k].due_ms > c->now_ms)
            continue;
        struct sl_round_event ev = {.kind = SL_ROUND_EV_FAILED,
                                    .now_ms = c->now_ms,
                                    .client = k,
                                    .reason = "no update within selection.deadline_s"};
        sl_round_step(&r->round, &ev);
    }
    r->buffers.due_ms = first_due(r);
    buffer_act(r);
}

/* --- what polls are told ------------------------------------------------------------------------------- */

/* An update of the version at hand whose task the journal lost in a power cut, or which was given up, is as
 * good as a new task's. */
static bool give_again(struct run *r, uint32_t client, uint32_t start)
{
    return is_open(r) && !replays(r) && start == r->round.number && client < r->n_clients &&
           r->round.members[client].state == SL_MEMBER_IDLE && give(r, client);
}

bool buffer_settles(struct run *r, uint32_t client, const struct sl_msg *poll)
{
    uint32_t start = poll->poll.round;
    return !buffer_awaits(r, client, start) && !give_again(r, client, start);
}

const struct flight *buffer_order(struct run *r, uint32_t client, const struct sl_msg *poll)
{
    struct flight *f = &r->buffers.flight[client];
    const struct upload *u = &r->uploads[client];
    bool keeps = f->under_way && poll->poll.has_pending && poll->poll.run_id == r->id &&
                 poll->poll.round == f->start;
    if (!keeps && (u->here || u->check != NULL))
        return NULL; /* its update has come already */
    if (!keeps && f->under_way && f->start != r->round.number) {
        if (replays(r))
            return NULL; /* nothing that was recorded begins so */
        take_back(r, client);
    }
    if (!f->under_way && !give(r, client))
        return NULL;
    f->tasked = true;
    return f;
}

/* --- updates -------------------------------------------------------------------------------------------- */

static bool may_enter(const struct run *r, const struct upload *u)
{
    if (!replays(r))
        return true;
    const struct recorded *k = record_of(r, u->position, r->buffers.flight[u->position].start);
    for (uint32_t i = 0; i < r->n_clients; i++)
        if (flies(r, i) && !r->uploads[i].here)
            return false;
    return k != NULL && k->into == r->round.number;
}

/* Of the updates that wait and may enter, the first that came. */
static struct upload *next_in(struct run *r)
{
    struct upload *next = NULL;
    for (uint32_t k = 0; k < r->n_clients; k++) {
        struct upload *u = &r->uploads[k];
        if (u->here && (next == NULL || u->turn < next->turn) && may_enter(r, u))
            next = u;
    }
    return next;
}

static void admit(struct run *r)
{
    struct upload *u;
    while (is_open(r) && (u = next_in(r)) != NULL) {
        u->here = false;
        upload_accept(r, u, NULL);
    }
}

void buffer_take(struct run *r, struct upload *u, const uint8_t *bytes)
{
    if (is_open(r) && !replays(r)) {
        upload_accept(r, u, bytes);
        return;
    }
    u->here = true;
    u->turn = r->buffers.next_turn++;
    admit(r);
}

/* --- versions --------------------------------------------------------------------------------------------- */

static struct sl_round_cfg cfg_of(const struct run *r, uint32_t version)
{
    uint32_t target = replays(r) ? recorded_size(r, version) : r->plan.strategy.buffer;
    double least = replays(r) ? target : r->plan.selection.quorum * (double)target;
    uint32_t quorum = (uint32_t)least;
    quorum += (double)quorum < least;
    return (struct sl_round_cfg){.target = target,
                                 .quorum = quorum < 1 ? 1 : quorum,
                                 .deadline_ms = deadline_ms(r),
                                 .max_retries = r->plan.run.max_retries,
                                 .buffered = true};
}

/* The buffer with the tasks that are under way. */
static enum sl_code begin(struct run *r, uint32_t version, uint32_t attempt, uint64_t left_ms,
                          struct sl_err *err)
{
    struct sl_coordinator *c = r->c;
    struct sl_round_cfg cfg = cfg_of(r, version);
    uint32_t *members = sl_calloc(r->n_clients, sizeof(*members));
    if (members == NULL)
        return sl_err_set(err, SL_E_NOMEM, "buffer of %" PRIu32 " clients", r->n_clients);
    for (uint32_t k = 0; k < r->n_clients; k++)
        members[k] = k;
    enum sl_code rc =
        sl_round_open(&r->round, &cfg, version, attempt, members, r->n_clients, c->now_ms, left_ms, err);
    free(members);
    if (rc != SL_OK)
        return rc;
    r->buffers.given = 0;
    for (uint32_t k = 0; k < r->n_clients; k++) {
        const struct flight *f = &r->buffers.flight[k];
        struct sl_round_event drawn = {.kind = SL_ROUND_EV_DRAWN, .now_ms = c->now_ms, .client = k};
        struct sl_round_event tasked = {.kind = SL_ROUND_EV_TASKED, .now_ms = c->now_ms, .client = k};
        if (!f->under_way)
            continue;
        sl_round_step(&r->round, &drawn);
        if (f->tasked)
            sl_round_step(&r->round, &tasked);
        r->buffers.given += f->start == version;
    }
    r->buffers.due_ms = first_due(r);
    run_begin_counting(r, cfg.deadline_ms - left_ms);
    return SL_OK;
}

void buffer_open(struct run *r)
{
    struct sl_coordinator *c = r->c;
    struct sl_store *s = c->env.store;
    struct sl_err err;
    if (replays(r) && recorded_size(r, r->next_round) == 0) {
        sl_err_set(&err, SL_E_INPUT, "--replay: the record has no round %" PRIu32, r->next_round);
        run_end(r, true, err.msg);
        return;
    }
    enum sl_code rc = s->ops->version_open(s, r->id, r->next_round, 0, deadline_ms(r), &r->model_ref.id, &err);
    if (rc == SL_OK)
        rc = begin(r, r->next_round, 0, deadline_ms(r), &err);
    if (rc != SL_OK) {
        core_fault(c, rc, &err);
        return;
    }
    admit(r);
    buffer_act(r);
}

enum sl_code buffer_journal_attempt(struct run *r, struct sl_err *err)
{
    struct sl_store *s = r->c->env.store;
    return s->ops->version_open(s, r->id, r->round.number, r->round.attempt,
                                sl_round_remaining_ms(&r->round, r->c->now_ms), &r->model_ref.id, err);
}

void buffer_committed(struct run *r)
{
    if (!buffer_on(r))
        return;
    bool last = r->next_round >= r->plan.run.rounds || run_target_reached(r);
    if (last)
        upload_close(r);
    for (uint32_t k = 0; k < r->n_clients; k++) {
        if (!last && r->round.members[k].state != SL_MEMBER_ACCEPTED)
            continue;
        r->buffers.flight[k] = (struct flight){0};
        upload_reset(&r->uploads[k]);
    }
}

/* --- after a restart ---------------------------------------------------------------------------------------- */

/* Those that are in the open buffer, in the order of acceptance. */
static enum sl_code restore_accepted(struct run *r, const struct sl_task_row *tasks, size_t n,
                                     struct sl_err *err)
{
    enum sl_code rc = SL_OK;
    for (uint32_t order = 0; rc == SL_OK && order < n; order++)
        for (size_t i = 0; rc == SL_OK && i < n; i++)
            if (tasks[i].member.accepted && tasks[i].member.order == order)
                rc = upload_restore(r, tasks[i].member.client, &tasks[i].member, err);
    return rc;
}

enum sl_code buffer_restore(struct run *r, const struct sl_open_round *open, struct sl_err *err)
{
    struct sl_coordinator *c = r->c;
    struct sl_store *s = c->env.store;
    struct sl_task_row *tasks = NULL;
    size_t n = 0;
    if (r->next_round >= r->plan.run.rounds || run_target_reached(r))
        return SL_OK;
    enum sl_code rc = s->ops->load_tasks(s, r->id, &tasks, &n, err);
    for (size_t i = 0; rc == SL_OK && i < n; i++) {
        const struct sl_member_row *m = &tasks[i].member;
        if (m->client < r->n_clients)
            r->buffers.flight[m->client] = (struct flight){.under_way = true,
                                                           .start = m->start,
                                                           .model = tasks[i].model,
                                                           .due_ms = c->now_ms + deadline_ms(r)};
    }
    if (rc == SL_OK && open != NULL) {
        uint64_t left = open->remaining_ms < deadline_ms(r) ? open->remaining_ms : deadline_ms(r);
        sl_log_write(c->env.log, SL_LOG_INFO, "run %" PRIu64 " goes on with round %" PRIu32
                     ", attempt %" PRIu32 ", %zu tasks under way", r->id, open->round, open->attempt, n);
        rc = begin(r, open->round, open->attempt, left, err);
        if (rc == SL_OK)
            rc = restore_accepted(r, tasks, n, err);
    }
    free(tasks);
    return rc;
}
