/* SPDX-License-Identifier: Apache-2.0 */
/* A state directory holds
 *   lock            flock'ed while a coordinator runs
 *   starling.db     registry, tokens, runs, journal of rounds, reports (SQLite, WAL)
 *   spool.bin       slots of updates, written in place and used again every round
 *   run-R-N.slm     checkpoints (store_checkpoint.h), the last two of each run and the best
 * The journal is the truth: a spooled update counts only when the journal names it and
 * its checksum holds, and a checkpoint only when a committed round names it. */
#include "server/store.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/mem.h"
#include "server/store_checkpoint.h"
#include "server/store_db.h"
#include "server/store_journal.h"
#include "server/store_spool.h"

struct sqlite_store {
    struct sl_store base;
    struct sl_db db;
    int dir_fd, lock_fd; /* -1 = not open */
    struct sl_spool spool;
};

static struct sqlite_store *self(struct sl_store *s)
{
    return (struct sqlite_store *)s;
}

/* One row must have changed; `what` names it otherwise. */
static enum sl_code changed_one(const struct sqlite_store *s, const char *what,
                                struct sl_err *err)
{
    if (sqlite3_changes(s->db.conn) == 1)
        return SL_OK;
    return sl_err_set(err, SL_E_NOTFOUND, "journal has no such %s", what);
}

/* A bound statement as a transaction of its own. must_change: what it has to find; NULL =
 * nothing. */
static enum sl_code run_alone(struct sqlite_store *s, sqlite3_stmt *st, bool synced,
                              const char *what, const char *must_change,
                              struct sl_err *err)
{
    enum sl_code rc = sl_db_begin(&s->db, synced, err);
    if (rc != SL_OK)
        return rc;
    rc = sl_db_run(&s->db, st, what, err);
    if (rc == SL_OK && must_change != NULL)
        rc = changed_one(s, must_change, err);
    return sl_db_end(&s->db, rc, err);
}

/* --- registry
 * ------------------------------------------------------------------------------- */

static enum sl_code write_client(struct sqlite_store *s, const struct sl_client_row *row,
                                 struct sl_err *err)
{
    sqlite3_stmt *st =
        sl_db_bind(&s->db, SL_DB_PUT_CLIENT, "btii", row->key, (size_t)SL_KEY_BYTES,
                   row->name, (int64_t)row->index, (int64_t)row->state);
    enum sl_code rc = sl_db_run(&s->db, st, "client", err);
    if (rc == SL_E_EXISTS)
        return sl_err_set(err, rc, "client index %" PRIu32 " is taken", row->index);
    return rc;
}

static enum sl_code put_client(struct sl_store *base, const struct sl_client_row *row,
                               struct sl_err *err)
{
    struct sqlite_store *s = self(base);
    enum sl_code rc = sl_db_begin(&s->db, true, err);
    if (rc != SL_OK)
        return rc;
    return sl_db_end(&s->db, write_client(s, row, err), err);
}

static enum sl_code each_client(struct sl_store *base,
                                enum sl_code (*fn)(void *, const struct sl_client_row *),
                                void *ctx, struct sl_err *err)
{
    struct sqlite_store *s = self(base);
    sqlite3_stmt *st = sl_db_bind(&s->db, SL_DB_EACH_CLIENT, "");
    for (;;) {
        bool row;
        struct sl_client_row c = {0};
        enum sl_code rc = sl_db_row(&s->db, st, "clients", &row, err);
        if (rc != SL_OK || !row)
            return rc;
        rc = sl_db_bytes(st, 0, c.key, SL_KEY_BYTES, err);
        sl_db_text(st, 1, c.name, sizeof(c.name));
        c.index = (uint32_t)sqlite3_column_int64(st, 2);
        c.state = (enum sl_client_state)sqlite3_column_int(st, 3);
        if (rc == SL_OK)
            rc = fn(ctx, &c);
        if (rc != SL_OK) {
            sqlite3_reset(st);
            return rc;
        }
    }
}

static enum sl_code put_token(struct sl_store *base, const struct sl_token_row *row,
                              struct sl_err *err)
{
    struct sqlite_store *s = self(base);
    sqlite3_stmt *st =
        sl_db_bind(&s->db, SL_DB_PUT_TOKEN, "bbii", row->id, (size_t)SL_TOKEN_ID_BYTES,
                   row->psk, sizeof(row->psk), (int64_t)row->index, (int64_t)row->used);
    return run_alone(s, st, true, "token", NULL, err);
}

static enum sl_code find_token(struct sl_store *base, const uint8_t id[SL_TOKEN_ID_BYTES],
                               struct sl_token_row *ret, struct sl_err *err)
{
    struct sqlite_store *s = self(base);
    sqlite3_stmt *st =
        sl_db_bind(&s->db, SL_DB_FIND_TOKEN, "b", id, (size_t)SL_TOKEN_ID_BYTES);
    bool row;
    enum sl_code rc = sl_db_row(&s->db, st, "token", &row, err);
    if (rc != SL_OK)
        return rc;
    if (!row)
        return sl_err_set(err, SL_E_NOTFOUND, "no such join token");
    struct sl_token_row t = {0};
    memcpy(t.id, id, SL_TOKEN_ID_BYTES);
    rc = sl_db_bytes(st, 0, t.psk, sizeof(t.psk), err);
    t.index = sqlite3_column_int(st, 1);
    t.used = sqlite3_column_int(st, 2) != 0;
    sqlite3_reset(st);
    if (rc == SL_OK)
        *ret = t;
    return rc;
}

static enum sl_code use_token(struct sqlite_store *s, const uint8_t id[SL_TOKEN_ID_BYTES],
                              struct sl_err *err)
{
    sqlite3_stmt *st =
        sl_db_bind(&s->db, SL_DB_USE_TOKEN, "b", id, (size_t)SL_TOKEN_ID_BYTES);
    enum sl_code rc = sl_db_run(&s->db, st, "use token", err);
    if (rc == SL_OK && sqlite3_changes(s->db.conn) != 1)
        return sl_err_set(err, SL_E_REFUSED, "join token is unknown or used up");
    return rc;
}

static enum sl_code enrol(struct sl_store *base, const uint8_t token[SL_TOKEN_ID_BYTES],
                          const struct sl_client_row *row, struct sl_err *err)
{
    struct sqlite_store *s = self(base);
    enum sl_code rc = sl_db_begin(&s->db, true, err);
    if (rc != SL_OK)
        return rc;
    rc = use_token(s, token, err);
    if (rc == SL_OK)
        rc = write_client(s, row, err);
    return sl_db_end(&s->db, rc, err);
}

/* --- runs
 * -------------------------------------------------------------------------------------
 */

static enum sl_code put_run(struct sl_store *base, const struct sl_run_row *row,
                            uint64_t *ret_id, struct sl_err *err)
{
    struct sqlite_store *s = self(base);
    enum sl_code rc = sl_db_begin(&s->db, true, err);
    if (rc != SL_OK)
        return rc;
    sqlite3_stmt *st =
        row->id == 0
            ? sl_db_bind(&s->db, SL_DB_ADD_RUN, "ibt", (int64_t)row->state,
                         row->plan_text, row->plan_bytes, row->reason)
            : sl_db_bind(&s->db, SL_DB_PUT_RUN, "ibti", (int64_t)row->state,
                         row->plan_text, row->plan_bytes, row->reason, (int64_t)row->id);
    rc = sl_db_run(&s->db, st, "run", err);
    uint64_t id =
        row->id != 0 ? row->id : (uint64_t)sqlite3_last_insert_rowid(s->db.conn);
    rc = sl_db_end(&s->db, rc, err);
    if (rc == SL_OK)
        *ret_id = id;
    return rc;
}

static enum sl_code set_run_state(struct sl_store *base, uint64_t id,
                                  enum sl_run_state state, const char *reason,
                                  struct sl_err *err)
{
    struct sqlite_store *s = self(base);
    sqlite3_stmt *st = sl_db_bind(&s->db, SL_DB_SET_RUN, "iit", (int64_t)id,
                                  (int64_t)state, reason == NULL ? "" : reason);
    return run_alone(s, st, true, "run state", "run", err);
}

static enum sl_code want_calibrations(struct sl_store *base, uint64_t id, uint32_t n,
                                      struct sl_err *err)
{
    struct sqlite_store *s = self(base);
    sqlite3_stmt *st = sl_db_bind(&s->db, SL_DB_WANT_CALIBRATIONS, "iii", (int64_t)id,
                                  (int64_t)SL_RUN_ACTIVE, (int64_t)n);
    return run_alone(s, st, true, "calibrations", "run", err);
}

static enum sl_code each_run(struct sl_store *base,
                             enum sl_code (*fn)(void *, const struct sl_run_row *),
                             void *ctx, struct sl_err *err)
{
    struct sqlite_store *s = self(base);
    sqlite3_stmt *st = sl_db_bind(&s->db, SL_DB_EACH_RUN, "");
    for (;;) {
        bool row;
        struct sl_run_row r = {0};
        enum sl_code rc = sl_db_row(&s->db, st, "runs", &row, err);
        if (rc != SL_OK || !row)
            return rc;
        r.id = (uint64_t)sqlite3_column_int64(st, 0);
        r.state = (enum sl_run_state)sqlite3_column_int(st, 1);
        r.plan_text = sqlite3_column_blob(st, 2);
        r.plan_bytes = (size_t)sqlite3_column_bytes(st, 2);
        sl_db_text(st, 3, r.reason, sizeof(r.reason));
        r.calibrations = (uint32_t)sqlite3_column_int64(st, 4);
        rc = fn(ctx, &r);
        if (rc != SL_OK) {
            sqlite3_reset(st);
            return rc;
        }
    }
}

/* --- journal of rounds
 * -------------------------------------------------------------------------- */

static enum sl_code write_round(struct sqlite_store *s, uint64_t run, uint32_t round,
                                uint32_t attempt, const uint32_t *members, size_t n,
                                uint64_t remaining_ms, struct sl_err *err)
{
    int64_t r = (int64_t)run;
    sqlite3_stmt *st = sl_db_bind(&s->db, SL_DB_OPEN_ROUND, "iiii", r, (int64_t)round,
                                  (int64_t)attempt, (int64_t)remaining_ms);
    enum sl_code rc = sl_db_run(&s->db, st, "open round", err);
    if (rc == SL_OK) {
        st = sl_db_bind(&s->db, SL_DB_CLEAR_MEMBERS, "ii", r, (int64_t)round);
        rc = sl_db_run(&s->db, st, "open round", err);
    }
    for (size_t i = 0; i < n && rc == SL_OK; i++) {
        st = sl_db_bind(&s->db, SL_DB_ADD_MEMBER, "iii", r, (int64_t)round,
                        (int64_t)members[i]);
        rc = sl_db_run(&s->db, st, "open round", err);
    }
    return rc;
}

static enum sl_code refuse_committed(struct sqlite_store *s, uint64_t run, uint32_t round,
                                     struct sl_err *err)
{
    sqlite3_stmt *st =
        sl_db_bind(&s->db, SL_DB_FIND_ROUND, "ii", (int64_t)run, (int64_t)round);
    bool row;
    enum sl_code rc = sl_db_row(&s->db, st, "round", &row, err);
    if (rc != SL_OK || !row)
        return rc;
    bool committed = sqlite3_column_int(st, 0) != 0;
    sqlite3_reset(st);
    if (committed)
        return sl_err_set(err, SL_E_EXISTS, "round %" PRIu32 " is committed already",
                          round);
    return SL_OK;
}

static enum sl_code round_open(struct sl_store *base, uint64_t run, uint32_t round,
                               uint32_t attempt, const uint32_t *members, size_t n,
                               uint64_t remaining_ms, struct sl_err *err)
{
    struct sqlite_store *s = self(base);
    enum sl_code rc = sl_db_begin(&s->db, false, err);
    if (rc != SL_OK)
        return rc;
    rc = refuse_committed(s, run, round, err);
    if (rc == SL_OK)
        rc = write_round(s, run, round, attempt, members, n, remaining_ms, err);
    return sl_db_end(&s->db, rc, err);
}

static enum sl_code write_progress(struct sqlite_store *s, uint64_t run, uint32_t round,
                                   uint64_t remaining_ms, struct sl_err *err)
{
    sqlite3_stmt *st = sl_db_bind(&s->db, SL_DB_PROGRESS, "iii", (int64_t)run,
                                  (int64_t)round, (int64_t)remaining_ms);
    enum sl_code rc = sl_db_run(&s->db, st, "progress", err);
    return rc == SL_OK ? changed_one(s, "open round", err) : rc;
}

static enum sl_code round_progress(struct sl_store *base, uint64_t run, uint32_t round,
                                   uint64_t remaining_ms, struct sl_err *err)
{
    struct sqlite_store *s = self(base);
    enum sl_code rc = sl_db_begin(&s->db, true, err);
    if (rc != SL_OK)
        return rc;
    return sl_db_end(&s->db, write_progress(s, run, round, remaining_ms, err), err);
}

static enum sl_code write_accept(struct sqlite_store *s, uint64_t run,
                                 const struct sl_member_row *m, struct sl_err *err)
{
    const struct sl_update_meta *u = &m->meta;
    sqlite3_stmt *st = sl_db_bind(
        &s->db, SL_DB_ACCEPT, "iiiiibiiiiddiiiidbb", (int64_t)run, (int64_t)m->start,
        (int64_t)m->client, (int64_t)m->order, (int64_t)m->slot, m->blob.id.bytes,
        (size_t)SL_XXH_BYTES, (int64_t)m->blob.size, (int64_t)u->weight,
        (int64_t)u->samples, (int64_t)u->steps, u->loss_sum, u->first_loss,
        (int64_t)u->encoding, (int64_t)u->has_eval, (int64_t)u->eval.samples,
        (int64_t)u->eval.correct, u->eval.loss_sum, &u->cost, sizeof(u->cost),
        m->key, (size_t)SL_KEY_BYTES);
    enum sl_code rc = sl_db_run(&s->db, st, "accept", err);
    return rc == SL_OK ? changed_one(s, "member", err) : rc;
}

static enum sl_code accept_update(struct sl_store *base, uint64_t run, uint32_t round,
                                  uint64_t remaining_ms,
                                  const struct sl_member_row *member, struct sl_err *err)
{
    struct sqlite_store *s = self(base);
    enum sl_code rc = sl_db_begin(&s->db, false, err);
    if (rc != SL_OK)
        return rc;
    rc = write_progress(s, run, round, remaining_ms, err);
    if (rc == SL_OK)
        rc = write_accept(s, run, member, err);
    return sl_db_end(&s->db, rc, err);
}

static enum sl_code unaccept(struct sl_store *base, uint64_t run, uint32_t round,
                             uint32_t start, uint32_t client, struct sl_err *err)
{
    struct sqlite_store *s = self(base);
    enum sl_code rc = sl_db_begin(&s->db, false, err);
    if (rc != SL_OK)
        return rc;
    rc = refuse_committed(s, run, round, err);
    if (rc == SL_OK) {
        sqlite3_stmt *st = sl_db_bind(&s->db, SL_DB_UNACCEPT, "iii", (int64_t)run,
                                      (int64_t)start, (int64_t)client);
        rc = sl_db_run(&s->db, st, "unaccept", err);
    }
    if (rc == SL_OK)
        rc = changed_one(s, "accepted member", err);
    return sl_db_end(&s->db, rc, err);
}

static enum sl_code write_report(struct sqlite_store *s, uint64_t run, const char *json,
                                 struct sl_err *err)
{
    sqlite3_stmt *st = sl_db_bind(&s->db, SL_DB_ADD_REPORT, "it", (int64_t)run, json);
    return sl_db_run(&s->db, st, "report", err);
}

static enum sl_code write_commit(struct sqlite_store *s, uint64_t run,
                                 const struct sl_commit_row *row, struct sl_err *err)
{
    int64_t r = (int64_t)run, round = (int64_t)row->round;
    sqlite3_stmt *st = sl_db_bind(&s->db, SL_DB_COMMIT_ROUND, "iibtb", r, round,
                                  row->model_digest, (size_t)SL_DIGEST_BYTES,
                                  row->checkpoint, row->state, row->state_bytes);
    enum sl_code rc = sl_db_run(&s->db, st, "commit", err);
    if (rc == SL_OK)
        rc = changed_one(s, "open round", err);
    for (size_t i = 0; i < row->n_included && rc == SL_OK; i++) {
        int64_t start = row->starts == NULL ? round : (int64_t)row->starts[i];
        st = sl_db_bind(&s->db, SL_DB_INCLUDE, "iii", r, start, (int64_t)row->included[i]);
        rc = sl_db_run(&s->db, st, "commit", err);
        if (rc == SL_OK)
            rc = changed_one(s, "accepted member", err);
    }
    if (rc == SL_OK && row->round < SL_ROUND_CALIBRATION) {
        st = sl_db_bind(&s->db, SL_DB_DROP_STATES, "ii", r, round);
        rc = sl_db_run(&s->db, st, "commit", err);
    }
    if (rc == SL_OK && row->report_json != NULL)
        rc = write_report(s, run, row->report_json, err);
    return rc;
}

static enum sl_code round_commit(struct sl_store *base, uint64_t run,
                                 const struct sl_commit_row *row, struct sl_err *err)
{
    struct sqlite_store *s = self(base);
    enum sl_code rc = sl_db_begin(&s->db, true, err);
    if (rc != SL_OK)
        return rc;
    rc = sl_db_end(&s->db, write_commit(s, run, row, err), err);
    if (rc == SL_OK)
        sl_checkpoint_prune(s->dir_fd, run, row->round, row->keep);
    return rc;
}

static enum sl_code version_open(struct sl_store *base, uint64_t run, uint32_t round,
                                 uint32_t attempt, uint64_t remaining_ms,
                                 const struct sl_blob_id *model, struct sl_err *err)
{
    struct sqlite_store *s = self(base);
    enum sl_code rc = sl_db_begin(&s->db, false, err);
    if (rc != SL_OK)
        return rc;
    rc = refuse_committed(s, run, round, err);
    if (rc == SL_OK) {
        sqlite3_stmt *st = sl_db_bind(&s->db, SL_DB_OPEN_VERSION, "iiiib", (int64_t)run,
                                      (int64_t)round, (int64_t)attempt, (int64_t)remaining_ms,
                                      model->bytes, (size_t)SL_XXH_BYTES);
        rc = sl_db_run(&s->db, st, "open version", err);
    }
    return sl_db_end(&s->db, rc, err);
}

static enum sl_code task_give(struct sl_store *base, uint64_t run, uint32_t start,
                              uint32_t client, struct sl_err *err)
{
    struct sqlite_store *s = self(base);
    sqlite3_stmt *st = sl_db_bind(&s->db, SL_DB_ADD_MEMBER, "iii", (int64_t)run,
                                  (int64_t)start, (int64_t)client);
    return run_alone(s, st, false, "task", NULL, err);
}

static enum sl_code task_take(struct sl_store *base, uint64_t run, uint32_t start,
                              uint32_t client, struct sl_err *err)
{
    struct sqlite_store *s = self(base);
    sqlite3_stmt *st = sl_db_bind(&s->db, SL_DB_TAKE_TASK, "iii", (int64_t)run,
                                  (int64_t)start, (int64_t)client);
    return run_alone(s, st, false, "task", NULL, err);
}

static enum sl_code load_tasks(struct sl_store *base, uint64_t run, struct sl_task_row **ret,
                               size_t *ret_n, struct sl_err *err)
{
    return sl_journal_tasks(&self(base)->db, run, ret, ret_n, err);
}

static enum sl_code load_open_round(struct sl_store *base, uint64_t run,
                                    bool *ret_present, struct sl_open_round *ret,
                                    struct sl_err *err)
{
    return sl_journal_open_round(&self(base)->db, run, ret_present, ret, err);
}

static enum sl_code load_calibration(struct sl_store *base, uint64_t run, uint32_t round,
                                     bool *ret_present, struct sl_open_round *ret,
                                     struct sl_err *err)
{
    return sl_journal_calibration(&self(base)->db, run, round, ret_present, ret, err);
}

static enum sl_code load_last_commit(struct sl_store *base, uint64_t run,
                                     struct sl_last_commit *ret, struct sl_err *err)
{
    return sl_journal_last_commit(&self(base)->db, run, ret, err);
}

static enum sl_code was_included(struct sl_store *base, uint64_t run, uint32_t round,
                                 uint32_t client, bool *ret_known, bool *ret_included,
                                 struct sl_err *err)
{
    return sl_journal_was_included(&self(base)->db, run, round, client, ret_known,
                                   ret_included, err);
}

static enum sl_code put_report(struct sl_store *base, uint64_t run, const char *json,
                               struct sl_err *err)
{
    struct sqlite_store *s = self(base);
    sqlite3_stmt *st = sl_db_bind(&s->db, SL_DB_ADD_REPORT, "it", (int64_t)run, json);
    return run_alone(s, st, false, "report", NULL, err);
}

static enum sl_code each_report(struct sl_store *base, uint64_t run,
                                enum sl_code (*fn)(void *, const char *), void *ctx,
                                struct sl_err *err)
{
    struct sqlite_store *s = self(base);
    sqlite3_stmt *st = sl_db_bind(&s->db, SL_DB_EACH_REPORT, "i", (int64_t)run);
    for (;;) {
        bool row;
        enum sl_code rc = sl_db_row(&s->db, st, "report", &row, err);
        if (rc != SL_OK || !row)
            return rc;
        const char *json = (const char *)sqlite3_column_text(st, 0);
        rc = fn(ctx, json == NULL ? "" : json);
        if (rc != SL_OK) {
            sqlite3_reset(st);
            return rc;
        }
    }
}

/* --- spool
 * --------------------------------------------------------------------------------------
 */

static enum sl_code spool_open(struct sl_store *base, uint64_t run, uint32_t n_slots,
                               uint64_t slot_bytes, struct sl_err *err)
{
    struct sqlite_store *s = self(base);
    if (s->spool.fd < 0)
        s->spool.fd = openat(s->dir_fd, "spool.bin", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (s->spool.fd < 0)
        return sl_err_errno(err, errno, "spool.bin: open");
    return sl_spool_resize(&s->spool, n_slots, slot_bytes, err);
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
    struct sqlite_store *s = self(base);
    sl_spool_close(&s->spool);
    if (unlinkat(s->dir_fd, "spool.bin", 0) != 0 && errno != ENOENT)
        return sl_err_errno(err, errno, "spool.bin: remove");
    return SL_OK;
}

/* --- checkpoints
 * ---------------------------------------------------------------------------------- */

static enum sl_code checkpoint_write(struct sl_store *base, uint64_t run,
                                     uint32_t round_plus1, const struct sl_layout *layout,
                                     const float *values, char ret_name[64],
                                     struct sl_err *err)
{
    char name[SL_CHECKPOINT_NAME];
    sl_checkpoint_name(run, round_plus1, name);
    enum sl_code rc = sl_checkpoint_save(self(base)->dir_fd, name, layout, values, err);
    if (rc == SL_OK)
        memcpy(ret_name, name, sizeof(name));
    return rc;
}

static enum sl_code checkpoint_read(struct sl_store *base, const char *name,
                                    const struct sl_layout *layout, float *ret_values,
                                    struct sl_err *err)
{
    return sl_checkpoint_load(self(base)->dir_fd, name, layout, ret_values, err);
}

/* --- opening
 * --------------------------------------------------------------------------------------
 */

static void close_store(struct sl_store *base)
{
    struct sqlite_store *s = self(base);
    if (s == NULL)
        return;
    sl_db_close(&s->db);
    sl_spool_close(&s->spool);
    if (s->lock_fd >= 0)
        close(s->lock_fd);
    if (s->dir_fd >= 0)
        close(s->dir_fd);
    free(s);
}

static const struct sl_store_ops ops = {
    .name = "sqlite",
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

/* Whatever is wrong with the folder itself is the state's fault, except a full disk. */
static enum sl_code folder_error(int errnum, const char *what, struct sl_err *err)
{
    enum sl_code rc = sl_err_errno(err, errnum, "%s", what);
    if (err != NULL && rc != SL_E_NOSPACE)
        err->code = SL_E_STATE;
    return rc == SL_E_NOSPACE ? rc : SL_E_STATE;
}

static enum sl_code open_folder(struct sqlite_store *s, const char *state_dir,
                                struct sl_err *err)
{
    if (mkdir(state_dir, 0700) != 0 && errno != EEXIST)
        return folder_error(errno, "create", err);
    s->dir_fd = open(state_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (s->dir_fd < 0)
        return folder_error(errno, "open", err);
    s->lock_fd = openat(s->dir_fd, "lock", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (s->lock_fd < 0)
        return folder_error(errno, "lock file", err);
    if (flock(s->lock_fd, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK)
        return sl_err_set(err, SL_E_STATE, "in use by another coordinator");
    sl_checkpoint_sweep(s->dir_fd);
    return SL_OK;
}

static enum sl_code open_database(struct sqlite_store *s, const char *state_dir,
                                  bool sync_always, struct sl_err *err)
{
    char path[4096];
    int n = snprintf(path, sizeof(path), "%s/starling.db", state_dir);
    if (n < 0 || (size_t)n >= sizeof(path))
        return sl_err_set(err, SL_E_STATE, "path of more than %zu bytes",
                          sizeof(path) - 1);
    return sl_db_open(path, sync_always, &s->db, err);
}

enum sl_code sl_store_sqlite_open(const char *state_dir,
                                  const struct sl_sqlite_options *opt,
                                  struct sl_store **ret, struct sl_err *err)
{
    struct sqlite_store *s = sl_calloc(1, sizeof(*s));
    if (s == NULL)
        return sl_err_set(err, SL_E_NOMEM, "store");
    s->base.ops = &ops;
    s->dir_fd = s->lock_fd = s->spool.fd = -1;
    enum sl_code rc = open_folder(s, state_dir, err);
    if (rc == SL_OK)
        rc = open_database(s, state_dir, opt != NULL && opt->sync_every_update, err);
    if (rc != SL_OK) {
        close_store(&s->base);
        return sl_err_wrap(err, rc, "state directory %s", state_dir);
    }
    *ret = &s->base;
    return SL_OK;
}
