/* SPDX-License-Identifier: Apache-2.0 */
#include "server/store_mem_log.h"

#include <stdlib.h>
#include <string.h>

#include "common/mem.h"

bool sl_list_reserve(void **at, size_t *cap, size_t want, size_t element)
{
    if (want <= *cap)
        return true;
    size_t more = *cap < 16 ? 16 : 2 * *cap, bytes;
    if (more < want)
        more = want;
    if (!sl_size_mul(more, element, &bytes))
        return false;
    uint8_t *p = realloc(*at, bytes);
    if (p == NULL)
        return false;
    memset(p + *cap * element, 0, bytes - *cap * element);
    *at = p;
    *cap = more;
    return true;
}

/* --- tables: one apply function an operation; they fail only for lack of memory
 * ------------- */

static size_t key_hash(const uint8_t key[SL_KEY_BYTES])
{
    uint64_t h = 1469598103934665603u;
    for (size_t i = 0; i < SL_KEY_BYTES; i++)
        h = (h ^ key[i]) * 1099511628211u;
    return (size_t)(h ^ (h >> 32));
}

/* The bucket of a key, or the free one where it belongs. buckets.n is a power of two,
 * half full. */
static size_t find_bucket(const struct sl_mem_log *l, const uint8_t key[SL_KEY_BYTES])
{
    size_t mask = l->buckets.n - 1, b = key_hash(key) & mask;
    while (l->buckets.at[b] != 0 &&
           memcmp(l->clients.at[l->buckets.at[b] - 1].key, key, SL_KEY_BYTES) != 0)
        b = (b + 1) & mask;
    return b;
}

static bool grow_buckets(struct sl_mem_log *l)
{
    if (2 * (l->clients.n + 1) <= l->buckets.n)
        return true;
    size_t n = l->buckets.n == 0 ? 64 : 2 * l->buckets.n;
    if (!SL_RESERVE(l->buckets, n))
        return false;
    memset(l->buckets.at, 0, n * sizeof(*l->buckets.at));
    l->buckets.n = n;
    for (size_t i = 0; i < l->clients.n; i++)
        l->buckets.at[find_bucket(l, l->clients.at[i].key)] = (uint32_t)i + 1;
    return true;
}

static bool apply_client(struct sl_mem_log *l, const struct sl_client_row *row)
{
    if (!grow_buckets(l) || !SL_RESERVE(l->clients, l->clients.n + 1) ||
        !SL_RESERVE(l->enrolled, (size_t)row->index + 1))
        return false;
    if (l->enrolled.n <= row->index)
        l->enrolled.n = (size_t)row->index + 1;
    size_t b = find_bucket(l, row->key);
    if (l->buckets.at[b] == 0) {
        l->clients.n++;
        l->buckets.at[b] = (uint32_t)l->clients.n;
    }
    uint32_t place = l->buckets.at[b];
    struct sl_client_row *c = &l->clients.at[place - 1];
    if (c->index < l->enrolled.n && l->enrolled.at[c->index] == place)
        l->enrolled.at[c->index] = 0;
    *c = *row;
    if (row->state == SL_CLIENT_ENROLLED)
        l->enrolled.at[row->index] = place;
    return true;
}

struct sl_token_row *sl_mem_log_token(struct sl_mem_log *l,
                                      const uint8_t id[SL_TOKEN_ID_BYTES])
{
    for (size_t i = 0; i < l->tokens.n; i++)
        if (memcmp(l->tokens.at[i].id, id, SL_TOKEN_ID_BYTES) == 0)
            return &l->tokens.at[i];
    return NULL;
}

static bool apply_token(struct sl_mem_log *l, const struct sl_token_row *row)
{
    struct sl_token_row *t = sl_mem_log_token(l, row->id);
    if (t == NULL) {
        if (!SL_RESERVE(l->tokens, l->tokens.n + 1))
            return false;
        t = &l->tokens.at[l->tokens.n++];
    }
    *t = *row;
    return true;
}

struct sl_run_row *sl_mem_log_run(struct sl_mem_log *l, uint64_t id)
{
    for (size_t i = 0; i < l->runs.n; i++)
        if (l->runs.at[i].id == id)
            return &l->runs.at[i];
    return NULL;
}

static bool apply_run(struct sl_mem_log *l, const struct sl_op *op)
{
    struct sl_run_row *r = sl_mem_log_run(l, op->run_row.id);
    if (r == NULL) {
        if (!SL_RESERVE(l->runs, l->runs.n + 1))
            return false;
        r = &l->runs.at[l->runs.n++];
    }
    *r = op->run_row;
    r->plan_text = (const char *)op->bytes;
    return true;
}

/* Rounds of a run are opened one after the other: the newest is looked at first. */
struct sl_round_entry *sl_mem_log_round(struct sl_mem_log *l, uint64_t run,
                                        uint32_t round)
{
    for (size_t i = l->rounds.n; i-- > 0;)
        if (l->rounds.at[i].run == run && l->rounds.at[i].round == round)
            return &l->rounds.at[i];
    return NULL;
}

struct sl_member_row *sl_mem_log_member(const struct sl_round_entry *r, uint32_t client)
{
    size_t lo = 0, hi = r->n_members;
    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        if (r->members[mid].client < client)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < r->n_members && r->members[lo].client == client ? &r->members[lo] : NULL;
}

struct sl_mem_pair sl_mem_log_included(const struct sl_op *commit, size_t i)
{
    struct sl_mem_pair p;
    memcpy(&p, commit->bytes + i * sizeof(p), sizeof(p));
    return p;
}

static int by_client(const void *a, const void *b)
{
    uint32_t x = ((const struct sl_member_row *)a)->client;
    uint32_t y = ((const struct sl_member_row *)b)->client;
    return (x > y) - (x < y);
}

/* The members of another attempt: accepted ones stay, whether listed or not. */
static bool merge_members(struct sl_round_entry *r, const uint32_t *clients, size_t n)
{
    struct sl_member_row *m = sl_calloc(n + r->n_members + 1, sizeof(*m));
    if (m == NULL)
        return false;
    size_t kept = 0;
    for (size_t i = 0; i < r->n_members; i++)
        if (r->members[i].accepted)
            m[kept++] = r->members[i];
    struct sl_round_entry old = {.members = m, .n_members = kept};
    size_t total = kept;
    for (size_t i = 0; i < n; i++)
        if (sl_mem_log_member(&old, clients[i]) == NULL)
            m[total++].client = clients[i];
    qsort(m, total, sizeof(*m), by_client);
    free(r->members);
    r->members = m;
    r->n_members = total;
    return true;
}

static struct sl_round_entry *opened(struct sl_mem_log *l, const struct sl_op *op)
{
    struct sl_round_entry *r = sl_mem_log_round(l, op->run, op->round);
    if (r == NULL) {
        if (!SL_RESERVE(l->rounds, l->rounds.n + 1))
            return NULL;
        r = &l->rounds.at[l->rounds.n++];
        *r = (struct sl_round_entry){.run = op->run, .round = op->round};
    }
    r->attempt = op->attempt;
    r->remaining_ms = op->remaining_ms;
    return r;
}

static bool apply_round(struct sl_mem_log *l, const struct sl_op *op)
{
    struct sl_round_entry *r = opened(l, op);
    return r != NULL && merge_members(r, (const uint32_t *)(const void *)op->bytes, op->n);
}

static bool apply_version(struct sl_mem_log *l, const struct sl_op *op)
{
    struct sl_round_entry *r = opened(l, op);
    if (r == NULL)
        return false;
    if (!r->version)
        r->model = op->model;
    r->version = true;
    return true;
}

static bool apply_give(struct sl_mem_log *l, const struct sl_op *op)
{
    struct sl_round_entry *r = sl_mem_log_round(l, op->run, op->member.start);
    if (sl_mem_log_member(r, op->member.client) != NULL)
        return true;
    struct sl_member_row *more = realloc(r->members, (r->n_members + 1) * sizeof(*more));
    if (more == NULL)
        return false;
    r->members = more;
    more[r->n_members++] = (struct sl_member_row){.client = op->member.client};
    qsort(more, r->n_members, sizeof(*more), by_client);
    return true;
}

static void remove_member(struct sl_round_entry *r, struct sl_member_row *m)
{
    size_t behind = r->n_members - 1 - (size_t)(m - r->members);
    memmove(m, m + 1, behind * sizeof(*m));
    r->n_members--;
}

static void apply_take(struct sl_mem_log *l, const struct sl_op *op)
{
    struct sl_round_entry *r = sl_mem_log_round(l, op->run, op->member.start);
    struct sl_member_row *m = sl_mem_log_member(r, op->member.client);
    if (m != NULL && !m->accepted)
        remove_member(r, m);
}

static bool apply_report(struct sl_mem_log *l, const struct sl_op *op)
{
    if (!SL_RESERVE(l->reports, l->reports.n + 1))
        return false;
    l->reports.at[l->reports.n++] = op;
    return true;
}

static void apply_accept(struct sl_mem_log *l, const struct sl_op *op)
{
    struct sl_round_entry *r = sl_mem_log_round(l, op->run, op->round);
    r->remaining_ms = op->remaining_ms;
    r = sl_mem_log_round(l, op->run, op->member.start);
    *sl_mem_log_member(r, op->member.client) = op->member;
}

static void forget_members(struct sl_round_entry *r)
{
    free(r->members);
    r->members = NULL;
    r->n_members = 0;
}

/* Members that are committed are not needed any more: the operation lists whom it included. Those of a
 * calibration are, until the next one is committed; others of a version stay. */
static void apply_commit(struct sl_mem_log *l, const struct sl_op *op)
{
    struct sl_round_entry *r = sl_mem_log_round(l, op->run, op->round);
    r->commit = op;
    if (r->version) {
        for (size_t i = 0; i < op->commit.n_included; i++) {
            struct sl_mem_pair p = sl_mem_log_included(op, i);
            struct sl_round_entry *from = sl_mem_log_round(l, op->run, p.start);
            remove_member(from, sl_mem_log_member(from, p.client));
        }
        return;
    }
    if (op->round >= SL_ROUND_CALIBRATION)
        r = sl_mem_log_round(l, op->run, op->round - 1);
    if (r != NULL)
        forget_members(r);
}

/* Preconditions were checked before the operation was logged, so lookups find their rows.
 */
static bool apply(struct sl_mem_log *l, const struct sl_op *op)
{
    struct sl_run_row *run;
    switch (op->kind) {
    case SL_OP_CLIENT:
        return apply_client(l, &op->client);
    case SL_OP_TOKEN:
        return apply_token(l, &op->token);
    case SL_OP_RUN:
        return apply_run(l, op);
    case SL_OP_RUN_STATE:
        run = sl_mem_log_run(l, op->run);
        run->state = op->run_row.state;
        memcpy(run->reason, op->run_row.reason, sizeof(run->reason));
        return true;
    case SL_OP_WANT_CALIBRATIONS:
        run = sl_mem_log_run(l, op->run);
        run->state = SL_RUN_ACTIVE;
        run->calibrations = op->run_row.calibrations;
        return true;
    case SL_OP_ROUND:
        return apply_round(l, op);
    case SL_OP_VERSION:
        return apply_version(l, op);
    case SL_OP_GIVE:
        return apply_give(l, op);
    case SL_OP_TAKE:
        apply_take(l, op);
        return true;
    case SL_OP_PROGRESS:
        sl_mem_log_round(l, op->run, op->round)->remaining_ms = op->remaining_ms;
        return true;
    case SL_OP_ACCEPT:
        apply_accept(l, op);
        return true;
    case SL_OP_UNACCEPT:
        sl_mem_log_member(sl_mem_log_round(l, op->run, op->member.start), op->member.client)
            ->accepted = false;
        return true;
    case SL_OP_COMMIT:
        apply_commit(l, op);
        return true;
    case SL_OP_REPORT:
        return apply_report(l, op);
    }
    return false;
}

/* --- log
 * -------------------------------------------------------------------------------------
 */

static void op_free(struct sl_op *op)
{
    if (op == NULL)
        return;
    free(op->bytes);
    free(op);
}

/* Copies *op, with n_bytes of data (NULL: none), to the end of the log and applies it. */
enum sl_code sl_mem_log_add(struct sl_mem_log *l, const struct sl_op *op,
                            const void *data, size_t n_bytes, struct sl_err *err)
{
    struct sl_op *own = malloc(sizeof(*own));
    if (own == NULL || !SL_RESERVE(l->log, l->log.n + 1)) {
        free(own);
        return sl_err_set(err, SL_E_NOMEM, "store in memory");
    }
    *own = *op;
    own->bytes = malloc(n_bytes + 1);
    if (own->bytes != NULL) {
        if (n_bytes > 0)
            memcpy(own->bytes, data, n_bytes);
        own->bytes[n_bytes] = 0;
    }
    if (own->bytes == NULL || !apply(l, own)) {
        op_free(own);
        return sl_err_set(err, SL_E_NOMEM, "store in memory");
    }
    l->log.at[l->log.n++] = own;
    return SL_OK;
}

void sl_mem_log_sync(struct sl_mem_log *l)
{
    l->n_synced = l->log.n;
}

static void clear_tables(struct sl_mem_log *l)
{
    for (size_t i = 0; i < l->rounds.n; i++)
        free(l->rounds.at[i].members);
    if (l->clients.n > 0) {
        memset(l->clients.at, 0, l->clients.n * sizeof(*l->clients.at));
        memset(l->buckets.at, 0, l->buckets.n * sizeof(*l->buckets.at));
        memset(l->enrolled.at, 0, l->enrolled.n * sizeof(*l->enrolled.at));
    }
    l->clients.n = l->enrolled.n = l->tokens.n = l->runs.n = 0;
    l->rounds.n = l->reports.n = 0;
}

void sl_mem_log_power_cut(struct sl_mem_log *l)
{
    while (l->log.n > l->n_synced)
        op_free(l->log.at[--l->log.n]);
    clear_tables(l);
    for (size_t i = 0; i < l->log.n; i++)
        if (!apply(l, l->log.at[i]))
            abort(); /* a store can't come back as less than what was synced */
}

void sl_mem_log_forget_state(struct sl_mem_log *l, uint64_t run, uint32_t round)
{
    const struct sl_round_entry *r = sl_mem_log_round(l, run, round);
    if (r == NULL || r->commit == NULL || r->commit->commit.state_bytes == 0)
        return;
    size_t i = l->log.n - 1;
    while (l->log.at[i] != r->commit)
        i--;
    struct sl_op *op = l->log.at[i];
    op->n -= op->commit.state_bytes;
    op->commit.state_bytes = 0;
    uint8_t *less = realloc(op->bytes, op->n + 1);
    if (less != NULL)
        op->bytes = less;
}

void sl_mem_log_deinit(struct sl_mem_log *l)
{
    for (size_t i = 0; i < l->log.n; i++)
        op_free(l->log.at[i]);
    for (size_t i = 0; i < l->rounds.n; i++)
        free(l->rounds.at[i].members);
    free(l->log.at);
    free(l->clients.at);
    free(l->buckets.at);
    free(l->enrolled.at);
    free(l->tokens.at);
    free(l->runs.at);
    free(l->rounds.at);
    free(l->reports.at);
    *l = (struct sl_mem_log){0};
}
