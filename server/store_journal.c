/* SPDX-License-Identifier: Apache-2.0 */
#include "server/store_journal.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static enum sl_code read_member(sqlite3_stmt *st, struct sl_member_row *m,
                                struct sl_err *err)
{
    *m = (struct sl_member_row){.client = (uint32_t)sqlite3_column_int64(st, 0),
                                .start = (uint32_t)sqlite3_column_int64(st, 18),
                                .accepted = sqlite3_column_int(st, 1) != 0};
    if (!m->accepted)
        return SL_OK;
    m->order = (uint32_t)sqlite3_column_int64(st, 2);
    m->slot = (uint32_t)sqlite3_column_int64(st, 3);
    enum sl_code rc = sl_db_bytes(st, 4, m->blob.id.bytes, SL_XXH_BYTES, err);
    m->blob.size = (uint64_t)sqlite3_column_int64(st, 5);
    m->meta = (struct sl_update_meta){
        .weight = (uint64_t)sqlite3_column_int64(st, 6),
        .samples = (uint64_t)sqlite3_column_int64(st, 7),
        .steps = (uint32_t)sqlite3_column_int64(st, 8),
        .loss_sum = sqlite3_column_double(st, 9),
        .first_loss = sqlite3_column_double(st, 10),
        .encoding = (uint32_t)sqlite3_column_int64(st, 11),
        .has_eval = sqlite3_column_int(st, 12) != 0,
        .eval = {.samples = (uint64_t)sqlite3_column_int64(st, 13),
                 .correct = (uint64_t)sqlite3_column_int64(st, 14),
                 .loss_sum = sqlite3_column_double(st, 15)},
    };
    if (rc == SL_OK)
        rc = sl_db_bytes(st, 16, (uint8_t *)&m->meta.cost, sizeof(m->meta.cost), err);
    if (rc == SL_OK)
        rc = sl_db_bytes(st, 17, m->key, SL_KEY_BYTES, err);
    return rc;
}

static enum sl_code load_members(struct sl_db *db, uint64_t run,
                                 struct sl_open_round *ret, struct sl_err *err)
{
    sqlite3_stmt *st =
        sl_db_bind(db, SL_DB_MEMBERS, "ii", (int64_t)run, (int64_t)ret->round);
    size_t cap = 0;
    for (;;) {
        bool row;
        enum sl_code rc = sl_db_row(db, st, "members", &row, err);
        if (rc != SL_OK || !row)
            return rc;
        if (ret->n_members == cap) {
            cap = cap == 0 ? 16 : 2 * cap;
            struct sl_member_row *more = realloc(ret->members, cap * sizeof(*more));
            if (more == NULL) {
                sqlite3_reset(st);
                return sl_err_set(err, SL_E_NOMEM, "members of round %" PRIu32,
                                  ret->round);
            }
            ret->members = more;
        }
        rc = read_member(st, &ret->members[ret->n_members++], err);
        if (rc != SL_OK) {
            sqlite3_reset(st);
            return rc;
        }
    }
}

static enum sl_code read_task(sqlite3_stmt *st, struct sl_task_row *t, struct sl_err *err)
{
    enum sl_code rc = read_member(st, &t->member, err);
    return rc == SL_OK ? sl_db_bytes(st, 19, t->model.bytes, SL_XXH_BYTES, err) : rc;
}

enum sl_code sl_journal_tasks(struct sl_db *db, uint64_t run, struct sl_task_row **ret,
                              size_t *ret_n, struct sl_err *err)
{
    sqlite3_stmt *st = sl_db_bind(db, SL_DB_TASKS, "i", (int64_t)run);
    struct sl_task_row *tasks = NULL;
    size_t n = 0, cap = 0;
    bool row = true;
    enum sl_code rc = SL_OK;
    while ((rc = sl_db_row(db, st, "tasks", &row, err)) == SL_OK && row) {
        if (n == cap) {
            cap = cap == 0 ? 16 : 2 * cap;
            struct sl_task_row *more = realloc(tasks, cap * sizeof(*more));
            if (more == NULL) {
                rc = sl_err_set(err, SL_E_NOMEM, "tasks of run %" PRIu64, run);
                break;
            }
            tasks = more;
        }
        rc = read_task(st, &tasks[n++], err);
        if (rc != SL_OK)
            break;
    }
    sqlite3_reset(st);
    if (rc != SL_OK) {
        free(tasks);
        return rc;
    }
    *ret = tasks;
    *ret_n = n;
    return SL_OK;
}

enum sl_code sl_journal_open_round(struct sl_db *db, uint64_t run, bool *ret_present,
                                   struct sl_open_round *ret, struct sl_err *err)
{
    sqlite3_stmt *st = sl_db_bind(db, SL_DB_OPEN_OF_RUN, "i", (int64_t)run);
    bool row;
    enum sl_code rc = sl_db_row(db, st, "open round", &row, err);
    if (rc != SL_OK)
        return rc;
    if (!row) {
        *ret_present = false;
        return SL_OK;
    }
    struct sl_open_round r = {.round = (uint32_t)sqlite3_column_int64(st, 0),
                              .attempt = (uint32_t)sqlite3_column_int64(st, 1),
                              .remaining_ms = (uint64_t)sqlite3_column_int64(st, 2)};
    sqlite3_reset(st);
    rc = load_members(db, run, &r, err);
    if (rc != SL_OK) {
        free(r.members);
        return rc;
    }
    *ret_present = true;
    *ret = r;
    return SL_OK;
}

enum sl_code sl_journal_calibration(struct sl_db *db, uint64_t run, uint32_t round,
                                    bool *ret_present, struct sl_open_round *ret,
                                    struct sl_err *err)
{
    struct sl_open_round r = {.round = round};
    enum sl_code rc = load_members(db, run, &r, err);
    if (rc != SL_OK) {
        free(r.members);
        return rc;
    }
    *ret_present = r.n_members > 0;
    *ret = r;
    return SL_OK;
}

static enum sl_code copy_state(sqlite3_stmt *st, struct sl_last_commit *c,
                               struct sl_err *err)
{
    const void *data = sqlite3_column_blob(st, 3);
    size_t n = (size_t)sqlite3_column_bytes(st, 3);
    if (data == NULL || n == 0)
        return SL_OK;
    c->state = malloc(n);
    if (c->state == NULL)
        return sl_err_set(err, SL_E_NOMEM, "strategy state of %zu bytes", n);
    memcpy(c->state, data, n);
    c->state_bytes = n;
    return SL_OK;
}

enum sl_code sl_journal_last_commit(struct sl_db *db, uint64_t run,
                                    struct sl_last_commit *ret, struct sl_err *err)
{
    sqlite3_stmt *st = sl_db_bind(db, SL_DB_LAST_COMMIT, "i", (int64_t)run);
    bool row;
    enum sl_code rc = sl_db_row(db, st, "last commit", &row, err);
    if (rc != SL_OK)
        return rc;
    struct sl_last_commit c = {.present = row};
    if (row) {
        c.round = (uint32_t)sqlite3_column_int64(st, 0);
        rc = sl_db_bytes(st, 1, c.model_digest, SL_DIGEST_BYTES, err);
        sl_db_text(st, 2, c.checkpoint, sizeof(c.checkpoint));
        if (rc == SL_OK)
            rc = copy_state(st, &c, err);
        sqlite3_reset(st);
    }
    if (rc == SL_OK)
        *ret = c;
    return rc;
}

enum sl_code sl_journal_was_included(struct sl_db *db, uint64_t run, uint32_t round,
                                     uint32_t client, bool *ret_known, bool *ret_included,
                                     struct sl_err *err)
{
    sqlite3_stmt *st = sl_db_bind(db, SL_DB_WAS_INCLUDED, "iii", (int64_t)run,
                                  (int64_t)round, (int64_t)client);
    bool row;
    enum sl_code rc = sl_db_row(db, st, "included", &row, err);
    if (rc != SL_OK)
        return rc;
    *ret_known = row && sqlite3_column_int(st, 0) != 0;
    *ret_included = *ret_known && sqlite3_column_int(st, 1) != 0;
    if (row)
        sqlite3_reset(st);
    return SL_OK;
}
