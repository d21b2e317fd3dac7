/* SPDX-License-Identifier: Apache-2.0 */
/* The twin in memory: a log of operations with a sync mark (store_mem_log.h). A kill
 * changes nothing. A power cut drops the operations behind the mark, empties the spool,
 * and builds the tables again by applying what is left: the same prefix that a
 * write-ahead log gives. Checkpoints are synced when checkpoint_write returns and stand
 * outside of the log. */
#include "server/store.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/mem.h"
#include "server/store_checkpoint.h"
#include "server/store_mem_log.h"
#include "server/store_spool.h"

struct checkpoint {
    char name[SL_CHECKPOINT_NAME];
    uint64_t run;
    uint32_t round_plus1;
    uint8_t layout[SL_DIGEST_BYTES];
    size_t n_values;
    float *values; /* owned */
};

struct mem_store {
    struct sl_store base;
    struct sl_mem_log l;
    SL_LIST(struct checkpoint) checkpoints;
    struct sl_spool spool;
};

static struct mem_store *self(struct sl_store *s)
{
    return (struct mem_store *)s;
}

static enum sl_code no_memory(struct sl_err *err)
{
    return sl_err_set(err, SL_E_NOMEM, "store in memory");
}

static enum sl_code log_synced(struct mem_store *s, const struct sl_op *op,
                               const void *data, size_t n_bytes, struct sl_err *err)
{
    enum sl_code rc = sl_mem_log_add(&s->l, op, data, n_bytes, err);
    if (rc == SL_OK)
        sl_mem_log_sync(&s->l);
    return rc;
}

/* --- registry
 * --------------------------------------------------------------------------------- */

static enum sl_code check_index(struct mem_store *s, const struct sl_client_row *row,
                                struct sl_err *err)
{
    if (row->index >= SL_CLIENTS_MAX)
        return sl_err_set(err, SL_E_RANGE, "client index %" PRIu32 " (at most %d)",
                          row->index, SL_CLIENTS_MAX - 1);
    if (row->state != SL_CLIENT_ENROLLED || row->index >= s->l.enrolled.n)
        return SL_OK;
    uint32_t holder = s->l.enrolled.at[row->index];
    if (holder != 0 &&
        memcmp(s->l.clients.at[holder - 1].key, row->key, SL_KEY_BYTES) != 0)
        return sl_err_set(err, SL_E_EXISTS, "client index %" PRIu32 " is taken",
                          row->index);
    return SL_OK;
}

static enum sl_code put_client(struct sl_store *base, const struct sl_client_row *row,
                               struct sl_err *err)
{
    struct mem_store *s = self(base);
    enum sl_code rc = check_index(s, row, err);
    if (rc != SL_OK)
        return rc;
    return log_synced(s, &(struct sl_op){.kind = SL_OP_CLIENT, .client = *row}, NULL, 0,
                      err);
}

static int by_index(const void *a, const void *b)
{
    const struct sl_client_row *x = *(const struct sl_client_row *const *)a;
    const struct sl_client_row *y = *(const struct sl_client_row *const *)b;
    if (x->index != y->index)
        return x->index < y->index ? -1 : 1;
    return memcmp(x->key, y->key, SL_KEY_BYTES);
}

static enum sl_code each_client(struct sl_store *base,
                                enum sl_code (*fn)(void *, const struct sl_client_row *),
                                void *ctx, struct sl_err *err)
{
    struct mem_store *s = self(base);
    size_t n = s->l.clients.n;
    const struct sl_client_row **sorted = sl_calloc(n + 1, sizeof(const void *));
    if (sorted == NULL)
        return no_memory(err);
    for (size_t i = 0; i < n; i++)
        sorted[i] = &s->l.clients.at[i];
    qsort(sorted, n, sizeof(*sorted), by_index);
    enum sl_code rc = SL_OK;
    for (size_t i = 0; i < n && rc == SL_OK; i++)
        rc = fn(ctx, sorted[i]);
    free(sorted);
    return rc;
}

static enum sl_code put_token(struct sl_store *base, const struct sl_token_row *row,
                              struct sl_err *err)
{
    return log_synced(self(base), &(struct sl_op){.kind = SL_OP_TOKEN, .token = *row},
                      NULL, 0, err);
}

static enum sl_code find_token(struct sl_store *base, const uint8_t id[SL_TOKEN_ID_BYTES],
                               struct sl_token_row *ret, struct sl_err *err)
{
    const struct sl_token_row *t = sl_mem_log_token(&self(base)->l, id);
    if (t == NULL)
        return sl_err_set(err, SL_E_NOTFOUND, "no such join token");
    *ret = *t;
    return SL_OK;
}

static enum sl_code enrol(struct sl_store *base, const uint8_t token[SL_TOKEN_ID_BYTES],
                          const struct sl_client_row *row, struct sl_err *err)
{
    struct mem_store *s = self(base);
    const struct sl_token_row *t = sl_mem_log_token(&s->l, token);
    if (t == NULL || t->used)
        return sl_err_set(err, SL_E_REFUSED, "join token is unknown or used up");
    enum sl_code rc = check_index(s, row, err);
    if (rc != SL_OK)
        return rc;
    struct sl_op use = {.kind = SL_OP_TOKEN, .token = *t};
    use.token.used = true;
    rc = sl_mem_log_add(&s->l, &(struct sl_op){.kind = SL_OP_CLIENT, .client = *row},
                        NULL, 0, err);
    if (rc == SL_OK)
        rc = log_synced(s, &use, NULL, 0, err);
    return rc;
}

/* --- runs
 * ---------------------------------------------------------------------------------------
 */

static enum sl_code put_run(struct sl_store *base, const struct sl_run_row *row,
                            uint64_t *ret_id, struct sl_err *err)
{
    struct mem_store *s = self(base);
    struct sl_op op = {.kind = SL_OP_RUN, .run_row = *row, .n = row->plan_bytes};
    if (row->id == 0)
        op.run_row.id = s->l.runs.n == 0 ? 1 : s->l.runs.at[s->l.runs.n - 1].id + 1;
    enum sl_code rc = log_synced(s, &op, row->plan_text, row->plan_bytes, err);
    if (rc == SL_OK)
        *ret_id = op.run_row.id;
    return rc;
}

static enum sl_code set_run_state(struct sl_store *base, uint64_t id,
                                  enum sl_run_state state, const char *reason,
                                  struct sl_err *err)
{
    struct mem_store *s = self(base);
    if (sl_mem_log_run(&s->l, id) == NULL)
        return sl_err_set(err, SL_E_NOTFOUND, "journal has no such run");
    struct sl_op op = {.kind = SL_OP_RUN_STATE, .run = id, .run_row.state = state};
    snprintf(op.run_row.reason, sizeof(op.run_row.reason), "%s",
             reason == NULL ? "" : reason);
    return log_synced(s, &op, NULL, 0, err);
}

static enum sl_code want_calibrations(struct sl_store *base, uint64_t id, uint32_t n,
                                      struct sl_err *err)
{
    struct mem_store *s = self(base);
    if (sl_mem_log_run(&s->l, id) == NULL)
        return sl_err_set(err, SL_E_NOTFOUND, "journal has no such run");
    struct sl_op op = {.kind = SL_OP_WANT_CALIBRATIONS, .run = id, .run_row.calibrations = n};
    return log_synced(s, &op, NULL, 0, err);
}

static enum sl_code each_run(struct sl_store *base,
                             enum sl_code (*fn)(void *, const struct sl_run_row *),
                             void *ctx, struct sl_err *err)
{
    struct mem_store *s = self(base);
    enum sl_code rc = SL_OK;
    for (size_t i = 0; i < s->l.runs.n && rc == SL_OK; i++)
        rc = fn(ctx, &s->l.runs.at[i]);
    return rc;
}

/* --- journal of rounds
 * --------------------------------------------------------------------------- */

static enum sl_code round_open(struct sl_store *base, uint64_t run, uint32_t round,
                               uint32_t attempt, const uint32_t *members, size_t n,
                               uint64_t remaining_ms, struct sl_err *err)
{
    struct mem_store *s = self(base);
    const struct sl_round_entry *r = sl_mem_log_round(&s->l, run, round);
    if (r != NULL && r->commit != NULL)
        return sl_err_set(err, SL_E_EXISTS, "round %" PRIu32 " is committed already",
                          round);
    struct sl_op op = {.kind = SL_OP_ROUND,
                       .run = run,
                       .round = round,
                       .attempt = attempt,
                       .remaining_ms = remaining_ms,
                       .n = n};
    return sl_mem_log_add(&s->l, &op, members, n * sizeof(*members), err);
}

static enum sl_code find_open(struct mem_store *s, uint64_t run, uint32_t round,
                              struct sl_round_entry **ret, struct sl_err *err)
{
    struct sl_round_entry *r = sl_mem_log_round(&s->l, run, round);
    if (r == NULL || r->commit != NULL)
        return sl_err_set(err, SL_E_NOTFOUND, "journal has no such open round");
    *ret = r;
    return SL_OK;
}

static enum sl_code round_progress(struct sl_store *base, uint64_t run, uint32_t round,
                                   uint64_t remaining_ms, struct sl_err *err)
{
    struct mem_store *s = self(base);
    struct sl_round_entry *r = NULL;
    enum sl_code rc = find_open(s, run, round, &r, err);
    if (rc != SL_OK)
        return rc;
    struct sl_op *last = s->l.log.n > 0 ? s->l.log.at[s->l.log.n - 1] : NULL;
    if (last != NULL && last->kind == SL_OP_PROGRESS && last->run == run &&
        last->round == round) { /* takes its place, so that the log does not grow by the second */
        last->remaining_ms = remaining_ms;
        r->remaining_ms = remaining_ms;
        s->l.n_synced = s->l.log.n;
        return SL_OK;
    }
    struct sl_op op = {
        .kind = SL_OP_PROGRESS, .run = run, .round = round, .remaining_ms = remaining_ms};
    return log_synced(s, &op, NULL, 0, err);
}

static enum sl_code accept_update(struct sl_store *base, uint64_t run, uint32_t round,
                                  uint64_t remaining_ms,
                                  const struct sl_member_row *member, struct sl_err *err)
{
    struct mem_store *s = self(base);
    struct sl_round_entry *r = NULL;
    enum sl_code rc = find_open(s, run, round, &r, err);
    if (rc != SL_OK)
        return rc;
    r = sl_mem_log_round(&s->l, run, member->start);
    if (r == NULL || sl_mem_log_member(r, member->client) == NULL)
        return sl_err_set(err, SL_E_NOTFOUND, "journal has no such member");
    struct sl_op op = {.kind = SL_OP_ACCEPT,
                       .run = run,
                       .round = round,
                       .remaining_ms = remaining_ms,
                       .member = *member};
    op.member.accepted = true;
    return sl_mem_log_add(&s->l, &op, NULL, 0, err);
}

static enum sl_code unaccept(struct sl_store *base, uint64_t run, uint32_t round,
                             uint32_t start, uint32_t client, struct sl_err *err)
{
    struct mem_store *s = self(base);
    const struct sl_round_entry *r = sl_mem_log_round(&s->l, run, round);
    if (r != NULL && r->commit != NULL)
        return sl_err_set(err, SL_E_EXISTS, "round %" PRIu32 " is committed already",
                          round);
    r = sl_mem_log_round(&s->l, run, start);
    const struct sl_member_row *m = r == NULL ? NULL : sl_mem_log_member(r, client);
    if (m == NULL || !m->accepted)
        return sl_err_set(err, SL_E_NOTFOUND, "journal has no such accepted member");
    struct sl_op op = {
        .kind = SL_OP_UNACCEPT, .run = run, .round = round, .member = {client, start}};
    return sl_mem_log_add(&s->l, &op, NULL, 0, err);
}

static enum sl_code version_open(struct sl_store *base, uint64_t run, uint32_t round,
                                 uint32_t attempt, uint64_t remaining_ms,
                                 const struct sl_blob_id *model, struct sl_err *err)
{
    struct mem_store *s = self(base);
    const struct sl_round_entry *r = sl_mem_log_round(&s->l, run, round);
    if (r != NULL && r->commit != NULL)
        return sl_err_set(err, SL_E_EXISTS, "round %" PRIu32 " is committed already",
                          round);
    struct sl_op op = {.kind = SL_OP_VERSION,
                       .run = run,
                       .round = round,
                       .attempt = attempt,
                       .remaining_ms = remaining_ms,
                       .model = *model};
    return sl_mem_log_add(&s->l, &op, NULL, 0, err);
}

static enum sl_code log_task(struct mem_store *s, enum sl_op_kind kind, uint64_t run,
                             uint32_t start, uint32_t client, struct sl_err *err)
{
    const struct sl_round_entry *r = sl_mem_log_round(&s->l, run, start);
    if (r == NULL || !r->version)
        return sl_err_set(err, SL_E_NOTFOUND, "journal has no such version");
    struct sl_op op = {.kind = kind, .run = run, .round = start, .member = {client, start}};
    return sl_mem_log_add(&s->l, &op, NULL, 0, err);
}

static enum sl_code task_give(struct sl_store *base, uint64_t run, uint32_t start,
                              uint32_t client, struct sl_err *err)
{
    return log_task(self(base), SL_OP_GIVE, run, start, client, err);
}

static enum sl_code task_take(struct sl_store *base, uint64_t run, uint32_t start,
                              uint32_t client, struct sl_err *err)
{
    return log_task(self(base), SL_OP_TAKE, run, start, client, err);
}

static int by_member(const void *a, const void *b)
{
    const struct sl_member_row *x = &((const struct sl_task_row *)a)->member;
    const struct sl_member_row *y = &((const struct sl_task_row *)b)->member;
    if (x->client != y->client)
        return x->client < y->client ? -1 : 1;
    return (x->start > y->start) - (x->start < y->start);
}

static enum sl_code load_tasks(struct sl_store *base, uint64_t run, struct sl_task_row **ret,
                               size_t *ret_n, struct sl_err *err)
{
    const struct sl_mem_log *l = &self(base)->l;
    size_t n = 0;
    for (size_t i = 0; i < l->rounds.n; i++)
        n += l->rounds.at[i].n_members;
    struct sl_task_row *tasks = sl_calloc(n + 1, sizeof(*tasks));
    if (tasks == NULL)
        return no_memory(err);
    n = 0;
    for (size_t i = 0; i < l->rounds.n; i++) {
        const struct sl_round_entry *r = &l->rounds.at[i];
        for (size_t k = 0; r->run == run && r->version && k < r->n_members; k++) {
            tasks[n] = (struct sl_task_row){r->members[k], r->model};
            tasks[n++].member.start = r->round;
        }
    }
    qsort(tasks, n, sizeof(*tasks), by_member);
    *ret = tasks;
    *ret_n = n;
    return SL_OK;
}

/* Bytes of a commit: what is included (n pairs), then the strategy's state. */
static enum sl_code log_commit(struct mem_store *s, uint64_t run,
                               const struct sl_commit_row *row, struct sl_err *err)
{
    size_t n_pairs = row->n_included * sizeof(struct sl_mem_pair);
    uint8_t *bytes = malloc(n_pairs + row->state_bytes + 1);
    if (bytes == NULL)
        return no_memory(err);
    for (size_t i = 0; i < row->n_included; i++) {
        struct sl_mem_pair p = {row->included[i],
                                row->starts == NULL ? row->round : row->starts[i]};
        memcpy(bytes + i * sizeof(p), &p, sizeof(p));
    }
    if (row->state_bytes > 0)
        memcpy(bytes + n_pairs, row->state, row->state_bytes);
    struct sl_op op = {.kind = SL_OP_COMMIT,
                       .run = run,
                       .round = row->round,
                       .commit = *row,
                       .n = n_pairs + row->state_bytes};
    op.commit.included = op.commit.starts = NULL;
    op.commit.state = NULL;
    op.commit.report_json = NULL;
    op.commit.keep = NULL;
    enum sl_code rc = sl_mem_log_add(&s->l, &op, bytes, op.n, err);
    free(bytes);
    return rc;
}

static void prune_checkpoints(struct mem_store *s, uint64_t run, uint32_t keep_from,
                              const char *keep)
{
    size_t kept = 0;
    for (size_t i = 0; i < s->checkpoints.n; i++) {
        struct checkpoint *c = &s->checkpoints.at[i];
        bool alike =
            (c->round_plus1 < SL_ROUND_CALIBRATION) == (keep_from < SL_ROUND_CALIBRATION);
        bool kept_on = keep != NULL && strcmp(c->name, keep) == 0;
        if (c->run == run && alike && c->round_plus1 < keep_from && !kept_on)
            free(c->values);
        else
            s->checkpoints.at[kept++] = *c;
    }
    s->checkpoints.n = kept;
}

static enum sl_code check_commit(struct mem_store *s, uint64_t run,
                                 const struct sl_commit_row *row, struct sl_err *err)
{
    struct sl_round_entry *r = NULL;
    enum sl_code rc = find_open(s, run, row->round, &r, err);
    for (size_t i = 0; i < row->n_included && rc == SL_OK; i++) {
        if (row->starts != NULL)
            r = sl_mem_log_round(&s->l, run, row->starts[i]);
        const struct sl_member_row *m =
            r == NULL ? NULL : sl_mem_log_member(r, row->included[i]);
        if (m == NULL || !m->accepted)
            rc = sl_err_set(err, SL_E_NOTFOUND, "journal has no such accepted member");
    }
    return rc;
}

static enum sl_code put_report(struct sl_store *base, uint64_t run, const char *json,
                               struct sl_err *err)
{
    struct sl_op op = {.kind = SL_OP_REPORT, .run = run, .n = strlen(json)};
    return sl_mem_log_add(&self(base)->l, &op, json, op.n, err);
}

static enum sl_code round_commit(struct sl_store *base, uint64_t run,
                                 const struct sl_commit_row *row, struct sl_err *err)
{
    struct mem_store *s = self(base);
    enum sl_code rc = check_commit(s, run, row, err);
    if (rc == SL_OK)
        rc = log_commit(s, run, row, err);
    if (rc == SL_OK && row->report_json != NULL)
        rc = put_report(base, run, row->report_json, err);
    if (rc != SL_OK)
        return rc;
    sl_mem_log_sync(&s->l);
    if (row->round > 0 && row->round < SL_ROUND_CALIBRATION)
        sl_mem_log_forget_state(&s->l, run, row->round - 1);
    prune_checkpoints(s, run, row->round, row->keep);
    return SL_OK;
}

static enum sl_code copy_round(const struct sl_round_entry *r, bool *ret_present,
                               struct sl_open_round *ret, struct sl_err *err)
{
    struct sl_member_row *members = sl_calloc(r->n_members + 1, sizeof(*members));
    if (members == NULL)
        return no_memory(err);
    if (r->n_members > 0)
        memcpy(members, r->members, r->n_members * sizeof(*members));
    for (size_t i = 0; i < r->n_members; i++)
        members[i].start = r->round;
    *ret = (struct sl_open_round){.round = r->round,
                                  .attempt = r->attempt,
                                  .remaining_ms = r->remaining_ms,
                                  .members = members,
                                  .n_members = r->n_members};
    *ret_present = true;
    return SL_OK;
}

static enum sl_code load_open_round(struct sl_store *base, uint64_t run,
                                    bool *ret_present, struct sl_open_round *ret,
                                    struct sl_err *err)
{
    struct mem_store *s = self(base);
    const struct sl_round_entry *r = NULL;
    for (size_t i = 0; i < s->l.rounds.n; i++)
        if (s->l.rounds.at[i].run == run && s->l.rounds.at[i].commit == NULL &&
            (r == NULL || s->l.rounds.at[i].round > r->round))
            r = &s->l.rounds.at[i];
    if (r == NULL) {
        *ret_present = false;
        return SL_OK;
    }
    return copy_round(r, ret_present, ret, err);
}

static enum sl_code load_calibration(struct sl_store *base, uint64_t run, uint32_t round,
                                     bool *ret_present, struct sl_open_round *ret,
                                     struct sl_err *err)
{
    const struct sl_round_entry *r = sl_mem_log_round(&self(base)->l, run, round);
    if (r != NULL)
        return copy_round(r, ret_present, ret, err);
    *ret_present = false;
    return SL_OK;
}

static enum sl_code load_last_commit(struct sl_store *base, uint64_t run,
                                     struct sl_last_commit *ret, struct sl_err *err)
{
    struct mem_store *s = self(base);
    const struct sl_op *op = NULL;
    for (size_t i = 0; i < s->l.rounds.n; i++)
        if (s->l.rounds.at[i].run == run && s->l.rounds.at[i].commit != NULL &&
            s->l.rounds.at[i].round < SL_ROUND_CALIBRATION &&
            (op == NULL || s->l.rounds.at[i].round > op->round))
            op = s->l.rounds.at[i].commit;
    if (op == NULL) {
        *ret = (struct sl_last_commit){0};
        return SL_OK;
    }
    struct sl_last_commit c = {
        .present = true, .round = op->round, .state_bytes = op->commit.state_bytes};
    memcpy(c.model_digest, op->commit.model_digest, sizeof(c.model_digest));
    memcpy(c.checkpoint, op->commit.checkpoint, sizeof(c.checkpoint));
    if (c.state_bytes > 0) {
        c.state = malloc(c.state_bytes);
        if (c.state == NULL)
            return no_memory(err);
        memcpy(c.state, op->bytes + op->commit.n_included * sizeof(struct sl_mem_pair),
               c.state_bytes);
    }
    *ret = c;
    return SL_OK;
}

static enum sl_code was_included(struct sl_store *base, uint64_t run, uint32_t round,
                                 uint32_t client, bool *ret_known, bool *ret_included,
                                 struct sl_err *err)
{
    struct sl_mem_log *l = &self(base)->l;
    const struct sl_round_entry *r = sl_mem_log_round(l, run, round);
    bool known = r != NULL && r->commit != NULL, included = false;
    for (const struct sl_round_entry *v = r; known && !included && v != NULL;) {
        for (size_t i = 0; v->commit != NULL && i < v->commit->commit.n_included; i++) {
            struct sl_mem_pair p = sl_mem_log_included(v->commit, i);
            included = included || (p.client == client && p.start == round);
        }
        v = v->version ? sl_mem_log_round(l, run, v->round + 1) : NULL;
    }
    *ret_known = known;
    *ret_included = included;
    return SL_OK;
}

static enum sl_code each_report(struct sl_store *base, uint64_t run,
                                enum sl_code (*fn)(void *, const char *), void *ctx,
                                struct sl_err *err)
{
    struct mem_store *s = self(base);
    enum sl_code rc = SL_OK;
    for (size_t i = 0; i < s->l.reports.n && rc == SL_OK; i++)
        if (s->l.reports.at[i]->run == run)
            rc = fn(ctx, (const char *)s->l.reports.at[i]->bytes);
    return rc;
}

/* --- spool and checkpoints
 * ------------------------------------------------------------------------- */

static int open_unlinked(void)
{
    const char *dir = getenv("TMPDIR");
    if (dir == NULL || dir[0] == '\0')
        dir = "/var/tmp";
    return open(dir, O_RDWR | O_TMPFILE | O_CLOEXEC, 0600);
}

static enum sl_code spool_open(struct sl_store *base, uint64_t run, uint32_t n_slots,
                               uint64_t slot_bytes, struct sl_err *err)
{
    struct sl_spool *spool = &self(base)->spool;
    if (spool->fd < 0)
        spool->fd = open_unlinked();
    if (spool->fd < 0)
        return sl_err_errno(err, errno, "spool: temporary file");
    return sl_spool_resize(spool, n_slots, slot_bytes, err);
}

static enum sl_code spool_write(struct sl_store *base, uint32_t slot, uint64_t offset,
                                const uint8_t *data, size_t n, struct sl_err *err)
{
    return sl_spool_write(&self(base)->spool, slot, offset, data, n, err);
}

static enum sl_code spool_read(struct sl_store *base, uint32_t slot, uint64_t offset,
                               uint8_t *ret, size_t n, struct sl_err *err)
{
    return sl_spool_read(&self(base)->spool, slot, offset, ret, n, err);
}

static enum sl_code spool_drop(struct sl_store *base, struct sl_err *err)
{
    sl_spool_close(&self(base)->spool);
    return SL_OK;
}

static struct checkpoint *checkpoint_of(struct mem_store *s, const char *name)
{
    for (size_t i = 0; i < s->checkpoints.n; i++)
        if (strcmp(s->checkpoints.at[i].name, name) == 0)
            return &s->checkpoints.at[i];
    return NULL;
}

static enum sl_code checkpoint_write(struct sl_store *base, uint64_t run,
                                     uint32_t round_plus1, const struct sl_layout *layout,
                                     const float *values, char ret_name[64],
                                     struct sl_err *err)
{
    struct mem_store *s = self(base);
    struct checkpoint c = {
        .run = run, .round_plus1 = round_plus1, .n_values = layout->n_values};
    sl_checkpoint_name(run, round_plus1, c.name);
    sl_checkpoint_layout_digest(layout, c.layout);
    c.values = malloc(c.n_values * sizeof(float) + 1);
    if (c.values == NULL || !SL_RESERVE(s->checkpoints, s->checkpoints.n + 1)) {
        free(c.values);
        return no_memory(err);
    }
    memcpy(c.values, values, c.n_values * sizeof(float));
    struct checkpoint *old = checkpoint_of(s, c.name);
    if (old != NULL) {
        free(old->values);
        *old = c;
    } else {
        s->checkpoints.at[s->checkpoints.n++] = c;
    }
    memcpy(ret_name, c.name, sizeof(c.name));
    return SL_OK;
}

static enum sl_code checkpoint_read(struct sl_store *base, const char *name,
                                    const struct sl_layout *layout, float *ret_values,
                                    struct sl_err *err)
{
    const struct checkpoint *c = checkpoint_of(self(base), name);
    if (c == NULL)
        return sl_err_set(err, SL_E_NOTFOUND, "checkpoint %s: no such checkpoint", name);
    uint8_t digest[SL_DIGEST_BYTES];
    sl_checkpoint_layout_digest(layout, digest);
    if (c->n_values != layout->n_values || memcmp(digest, c->layout, sizeof(digest)) != 0)
        return sl_err_set(err, SL_E_STATE, "checkpoint %s: of another model", name);
    memcpy(ret_values, c->values, c->n_values * sizeof(float));
    return SL_OK;
}

/* --- life
 * -------------------------------------------------------------------------------------------
 */

static void close_store(struct sl_store *base)
{
    (void)base; /* the content outlives the coordinator */
}

static const struct sl_store_ops ops = {
    .name = "memory",
    .close = close_store,
    .put_client = put_client,
    .each_client = each_client,
    .put_token = put_token,
    .find_token = find_token,
    .enrol = enrol,
    .put_run = put_run,
    .set_run_state = set_run_state,
    .want_calibrations = want_calibrations,
    .each_run = each_run,
    .round_open = round_open,
    .round_progress = round_progress,
    .accept = accept_update,
    .unaccept = unaccept,
    .version_open = version_open,
    .task_give = task_give,
    .task_take = task_take,
    .load_tasks = load_tasks,
    .round_commit = round_commit,
    .load_open_round = load_open_round,
    .load_calibration = load_calibration,
    .load_last_commit = load_last_commit,
    .was_included = was_included,
    .put_report = put_report,
    .each_report = each_report,
    .spool_open = spool_open,
    .spool_write = spool_write,
    .spool_read = spool_read,
    .spool_drop = spool_drop,
    .checkpoint_write = checkpoint_write,
    .checkpoint_read = checkpoint_read,
};

enum sl_code sl_store_mem_new(struct sl_store **ret, struct sl_err *err)
{
    struct mem_store *s = sl_calloc(1, sizeof(*s));
    if (s == NULL)
        return no_memory(err);
    s->base.ops = &ops;
    s->spool.fd = -1;
    *ret = &s->base;
    return SL_OK;
}

/* After a power cut the spool reads as zeros, as a file does whose pages never reached
 * the disk. */
static void lose_spool(struct sl_spool *spool)
{
    if (spool->fd < 0 || ftruncate(spool->fd, 0) != 0)
        return;
    struct sl_err ignored;
    (void)sl_spool_resize(spool, spool->n_slots, spool->slot_bytes, &ignored);
}

void sl_store_mem_crash(struct sl_store *base, bool power_loss)
{
    struct mem_store *s = self(base);
    if (!power_loss)
        return;
    sl_mem_log_power_cut(&s->l);
    lose_spool(&s->spool);
}

void sl_store_mem_free(struct sl_store *base)
{
    struct mem_store *s = self(base);
    if (s == NULL)
        return;
    sl_mem_log_deinit(&s->l);
    for (size_t i = 0; i < s->checkpoints.n; i++)
        free(s->checkpoints.at[i].values);
    free(s->checkpoints.at);
    sl_spool_close(&s->spool);
    free(s);
}
