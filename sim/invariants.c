/* SPDX-License-Identifier: Apache-2.0 */
#include "sim/invariants.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/mem.h"

/* Beyond the deadlines: what is on its way when a round ends, and the rounding of a
 * journal that is written once a second. */
#define SLACK_US 20000000u

struct round_seen {
    uint64_t run;
    uint32_t round;
    char *line;        /* as reported; owned */
    uint32_t *members; /* included, ascending; of a buffer: as reported. Owned */
    uint32_t *starts;  /* of a buffer: what their updates began from; owned. NULL: of a round */
    uint32_t n_members;
};

struct ack {
    uint64_t run;
    uint32_t round, client;
    bool shaken; /* a power cut came after it, before its round's commit */
    size_t after; /* rounds that were reported before */
};

struct sl_invariants {
    const struct sl_plan *plans;
    size_t n_plans;
    const struct sl_world *w;
    struct round_seen *rounds;
    size_t n_rounds, cap_rounds;
    struct ack *acks; /* of rounds not committed yet */
    size_t n_acks, cap_acks;
    size_t ended; /* run_end lines */
    bool running;
    uint64_t run, next_round; /* the round that is waited for */
    uint64_t since_us;        /* when it could begin */
    uint64_t down_us, down_since_us;
    bool down;
    bool check_commit, check_all;
    struct sl_err failure;
};

static void violated(struct sl_invariants *v, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

static void violated(struct sl_invariants *v, const char *fmt, ...)
{
    if (v->failure.code != SL_OK)
        return;
    char text[256];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    sl_err_set(&v->failure, SL_E_BUG, "at %.3f s, step %" PRIu64 ": %s",
               v->w == NULL ? 0.0 : (double)sl_world_now_us(v->w) * 1e-6,
               v->w == NULL ? 0 : sl_world_stats(v->w).steps, text);
}

static const struct sl_plan *plan_of(const struct sl_invariants *v, uint64_t run)
{
    return run >= 1 && run <= v->n_plans ? &v->plans[run - 1] : NULL;
}

/* Are its rounds buffers, with updates that began from any version? */
static bool buffered(const struct sl_plan *p)
{
    return strcmp(p->strategy.name, "fedbuff") == 0;
}

static struct round_seen *round_of(const struct sl_invariants *v, uint64_t run,
                                   uint32_t round)
{
    for (size_t i = v->n_rounds; i-- > 0;)
        if (v->rounds[i].run == run && v->rounds[i].round == round)
            return &v->rounds[i];
    return NULL;
}

/* --- what is reported
 * ---------------------------------------------------------------------------- */

static void round_line(struct sl_invariants *v, uint64_t run, const json_t *line)
{
    uint32_t round = (uint32_t)json_integer_value(json_object_get(line, "round"));
    if (run != v->run || round != v->next_round)
        violated(v,
                 "run %" PRIu64 " round %" PRIu32 " reported, round %" PRIu64 " awaited",
                 run, round, v->next_round);
    if (v->n_rounds == v->cap_rounds) {
        size_t cap = v->cap_rounds == 0 ? 16 : 2 * v->cap_rounds;
        struct round_seen *more = realloc(v->rounds, cap * sizeof(*more));
        if (more == NULL) {
            violated(v, "no memory");
            return;
        }
        v->rounds = more;
        v->cap_rounds = cap;
    }
    v->rounds[v->n_rounds++] =
        (struct round_seen){.run = run,
                            .round = round,
                            .line = json_dumps(line, JSON_COMPACT | JSON_SORT_KEYS)};
    v->next_round = (uint64_t)round + 1;
    v->since_us = sl_world_now_us(v->w);
    v->down_us = 0;
    v->down_since_us = v->since_us;
    v->check_commit = true;
}

static void on_report(void *ctx, uint64_t run, json_t *line)
{
    struct sl_invariants *v = ctx;
    const char *event = json_string_value(json_object_get(line, "event"));
    if (event == NULL) {
        violated(v, "report line without an event");
    } else if (strcmp(event, "run_start") == 0) {
        v->run = run;
        v->next_round = 0;
        v->running = true;
        v->since_us = v->w == NULL ? 0 : sl_world_now_us(v->w);
        v->down_us = 0;
    } else if (strcmp(event, "round") == 0) {
        round_line(v, run, line);
    } else if (strcmp(event, "run_end") == 0) {
        v->ended++;
        v->running = false;
    }
}

static void on_accepted(void *ctx, uint64_t run, uint32_t round, uint32_t client)
{
    struct sl_invariants *v = ctx;
    for (size_t i = 0; i < v->n_acks; i++)
        if (v->acks[i].run == run && v->acks[i].round == round &&
            v->acks[i].client == client) {
            v->acks[i].shaken = false;
            v->acks[i].after = v->n_rounds;
            return;
        }
    if (v->n_acks == v->cap_acks) {
        size_t cap = v->cap_acks == 0 ? 64 : 2 * v->cap_acks;
        struct ack *more = realloc(v->acks, cap * sizeof(*more));
        if (more == NULL) {
            violated(v, "no memory");
            return;
        }
        v->acks = more;
        v->cap_acks = cap;
    }
    v->acks[v->n_acks++] = (struct ack){
        .run = run, .round = round, .client = client, .after = v->n_rounds};
}

static void on_coordinator(void *ctx, bool alive, bool power_loss)
{
    struct sl_invariants *v = ctx;
    uint64_t now = sl_world_now_us(v->w);
    if (!alive)
        v->down_since_us = now;
    else
        v->down_us += now - v->down_since_us;
    v->down = !alive;
    for (size_t i = 0; !alive && power_loss && i < v->n_acks; i++)
        v->acks[i].shaken = true;
    v->check_all = v->check_all || alive;
}

/* --- what the store says
 * --------------------------------------------------------------------------- */

static bool included(const struct sl_invariants *v, uint64_t run, uint32_t round,
                     uint32_t client, bool *ret_known)
{
    struct sl_store *s = sl_world_store(v->w);
    struct sl_err err;
    bool in = false;
    *ret_known = false;
    if (s->ops->was_included(s, run, round, client, ret_known, &in, &err) != SL_OK)
        return false;
    return in;
}

/* Asks the store for the members of a committed round. */
static uint32_t *members_of(struct sl_invariants *v, uint64_t run, uint32_t round,
                            uint32_t *ret_n)
{
    uint32_t n_clients = plan_of(v, run)->data.partition.clients, n = 0;
    uint32_t *members = sl_calloc((size_t)n_clients + 1, sizeof(*members));
    for (uint32_t c = 0; members != NULL && c < n_clients; c++) {
        bool known;
        if (included(v, run, round, c, &known))
            members[n++] = c;
        if (!known) {
            violated(v, "round %" PRIu32 " was reported, but is not committed", round);
            break;
        }
    }
    *ret_n = n;
    return members;
}

/* Of a buffer: every update that the line names is in, and was in none before. */
static void check_starts(struct sl_invariants *v, const struct round_seen *r)
{
    for (uint32_t i = 0; i < r->n_members; i++) {
        uint32_t client = r->members[i], start = r->starts[i];
        bool known, in = included(v, r->run, start, client, &known);
        if (!in || start > r->round)
            violated(v, "buffer %" PRIu32 " reports an update of client %" PRIu32
                     " from version %" PRIu32 " that the journal does not have",
                     r->round, client, start);
        for (size_t k = 0; k < v->n_rounds; k++) {
            const struct round_seen *o = &v->rounds[k];
            for (uint32_t m = 0; o->run == r->run && o->starts != NULL && m < o->n_members; m++)
                if (o->members[m] == client && o->starts[m] == start && (o != r || m != i))
                    violated(v, "the update of client %" PRIu32 " from version %" PRIu32
                             " is in buffers %" PRIu32 " and %" PRIu32,
                             client, start, o->round, r->round);
        }
    }
}

static void read_starts(struct sl_invariants *v, struct round_seen *r, const json_t *line)
{
    const json_t *clients = json_object_get(line, "included"), *starts = json_object_get(line, "starts");
    size_t n = json_array_size(clients);
    r->members = sl_calloc(n + 1, sizeof(*r->members));
    r->starts = sl_calloc(n + 1, sizeof(*r->starts));
    if (r->members == NULL || r->starts == NULL || json_array_size(starts) != n) {
        violated(v, "buffer %" PRIu32 " does not say what its updates began from", r->round);
        return;
    }
    for (; r->n_members < n; r->n_members++) {
        r->members[r->n_members] = (uint32_t)json_integer_value(json_array_get(clients, r->n_members));
        r->starts[r->n_members] = (uint32_t)json_integer_value(json_array_get(starts, r->n_members));
    }
    check_starts(v, r);
}

/* Is it this round's commit that decides about the acknowledged update? */
static bool decides(const struct sl_invariants *v, const struct round_seen *r, const struct ack *a)
{
    if (!buffered(plan_of(v, r->run)))
        return a->run == r->run && a->round == r->round;
    return a->run == r->run && a->after < v->n_rounds;
}

static void check_commit(struct sl_invariants *v)
{
    struct round_seen *r = &v->rounds[v->n_rounds - 1];
    json_error_t je;
    json_t *line = json_loads(r->line, 0, &je);
    uint32_t completed = (uint32_t)json_integer_value(json_object_get(line, "completed"));
    if (buffered(plan_of(v, r->run)))
        read_starts(v, r, line);
    else
        r->members = members_of(v, r->run, r->round, &r->n_members);
    json_decref(line);
    if (completed != r->n_members)
        violated(
            v, "round %" PRIu32 " reports %" PRIu32 " updates, the journal has %" PRIu32,
            r->round, completed, r->n_members);
    bool over = plan_of(v, r->run)->selection.over_select > 1;
    size_t kept = 0;
    for (size_t i = 0; i < v->n_acks; i++) {
        struct ack a = v->acks[i];
        bool known, in;
        if (!decides(v, r, &a)) {
            v->acks[kept++] = a;
            continue;
        }
        in = included(v, a.run, a.round, a.client, &known);
        if (!in && a.shaken && r->starts != NULL)
            v->acks[kept++] = a; /* it may come again, and into a later buffer */
        if (!in && !over && !a.shaken)
            violated(v,
                     "update of client %" PRIu32 " was acknowledged in round %" PRIu32
                     ", but is not in its sum",
                     a.client, a.round);
    }
    v->n_acks = kept;
}

struct line_check {
    struct sl_invariants *v;
    uint64_t run;
    uint32_t next;
};

static enum sl_code check_line(void *ctx, const char *json)
{
    struct line_check *c = ctx;
    json_error_t je;
    json_t *line = json_loads(json, 0, &je);
    const char *event = json_string_value(json_object_get(line, "event"));
    if (event != NULL && strcmp(event, "round") == 0) {
        uint32_t round = (uint32_t)json_integer_value(json_object_get(line, "round"));
        const struct round_seen *seen = round_of(c->v, c->run, round);
        char *again = json_dumps(line, JSON_COMPACT | JSON_SORT_KEYS);
        if (round != c->next++)
            violated(c->v, "journal has round %" PRIu32 " out of order", round);
        else if (seen != NULL && (again == NULL || strcmp(seen->line, again) != 0))
            violated(c->v, "the report of committed round %" PRIu32 " has changed",
                     round);
        free(again);
    }
    json_decref(line);
    return SL_OK;
}

/* Everything that was committed, against what was seen when it was committed. */
static void check_all(struct sl_invariants *v)
{
    struct sl_store *s = sl_world_store(v->w);
    for (uint64_t run = 1; run <= v->n_plans; run++) {
        struct line_check c = {.v = v, .run = run};
        struct sl_err err;
        if (s->ops->each_report(s, run, check_line, &c, &err) != SL_OK)
            violated(v, "%s", err.msg);
    }
    for (size_t i = 0; i < v->n_rounds; i++) {
        const struct round_seen *r = &v->rounds[i];
        uint32_t n;
        if (r->starts != NULL) {
            check_starts(v, r);
            continue;
        }
        uint32_t *now = members_of(v, r->run, r->round, &n);
        if (now == NULL || n != r->n_members ||
            (n > 0 && memcmp(now, r->members, n * sizeof(*now)) != 0))
            violated(v, "the members of committed round %" PRIu32 " have changed",
                     r->round);
        free(now);
    }
}

/* --- after each step
 * ----------------------------------------------------------------------------------- */

static void check_wait(struct sl_invariants *v)
{
    const struct sl_plan *p = plan_of(v, v->run);
    if (!v->running || v->down || p == NULL)
        return;
    double limit = p->selection.deadline_s * 1e6 * (1.0 + p->run.max_retries);
    if (p->sim.faults.delay > 0) /* checks, additions and the step, one after the other */
        limit += 2e3 * p->sim.faults.delay_ms *
                 (2.0 * sl_plan_cohort_size(p) + (buffered(p) ? p->strategy.buffer : 0) + 2);
    uint64_t waited = sl_world_now_us(v->w) - v->since_us;
    if ((double)waited > limit + (double)v->down_us + SLACK_US)
        violated(v, "round %" PRIu64 " waits for %.3f s (deadline %.3f s, %u retries)",
                 v->next_round, (double)waited * 1e-6, p->selection.deadline_s,
                 p->run.max_retries);
}

static void check_holdings(struct sl_invariants *v)
{
    struct sl_world_holdings h = sl_world_holdings(v->w);
    size_t n = 0;
    for (size_t i = 0; i < v->n_plans; i++)
        n = v->plans[i].data.partition.clients > n ? v->plans[i].data.partition.clients
                                                   : n;
    if (h.requests > 5 * n || h.regions > 2 * n || h.blobs > 2 * n)
        violated(v, "%zu requests, %zu updates and %zu blobs are held for %zu clients",
                 h.requests, h.regions, h.blobs, n);
}

static void on_stepped(void *ctx, const struct sl_world *w)
{
    struct sl_invariants *v = ctx;
    if (v->check_commit)
        check_commit(v);
    if (v->check_all)
        check_all(v);
    v->check_commit = v->check_all = false;
    check_wait(v);
    check_holdings(v);
}

/* --- life
 * ---------------------------------------------------------------------------------------------
 */

enum sl_code sl_invariants_new(const struct sl_plan *plans, size_t n_plans,
                               struct sl_invariants **ret, struct sl_err *err)
{
    struct sl_invariants *v = sl_calloc(1, sizeof(*v));
    if (v == NULL)
        return sl_err_set(err, SL_E_NOMEM, "invariants");
    v->plans = plans;
    v->n_plans = n_plans;
    *ret = v;
    return SL_OK;
}

void sl_invariants_free(struct sl_invariants *v)
{
    if (v == NULL)
        return;
    for (size_t i = 0; i < v->n_rounds; i++) {
        free(v->rounds[i].line);
        free(v->rounds[i].members);
        free(v->rounds[i].starts);
    }
    free(v->rounds);
    free(v->acks);
    free(v);
}

struct sl_world_hooks sl_invariants_hooks(struct sl_invariants *v)
{
    return (struct sl_world_hooks){.ctx = v,
                                   .report = on_report,
                                   .accepted = on_accepted,
                                   .coordinator = on_coordinator,
                                   .stepped = on_stepped};
}

void sl_invariants_watch(struct sl_invariants *v, const struct sl_world *w)
{
    v->w = w;
}

enum sl_code sl_invariants_result(const struct sl_invariants *v, struct sl_err *err)
{
    if (v->failure.code != SL_OK)
        *err = v->failure;
    return v->failure.code;
}

enum sl_code sl_invariants_end(struct sl_invariants *v, struct sl_err *err)
{
    if (v->ended != v->n_plans)
        violated(v, "%zu of %zu runs reported their end", v->ended, v->n_plans);
    check_all(v);
    return sl_invariants_result(v, err);
}
