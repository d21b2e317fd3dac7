/* SPDX-License-Identifier: Apache-2.0 */
/* Statements are prepared once and kept. `synchronous` is NORMAL between transactions and
 * FULL around a synced one: in WAL mode FULL adds one fsync of the log after the commit,
 * which covers every commit written before it, so a round's acknowledged updates become
 * safe with its end. */
#include "server/store_db.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define APPLICATION_ID 0x534c5354 /* "SLST" */

static const char schema[] =
    "CREATE TABLE client(key BLOB PRIMARY KEY, name TEXT NOT NULL, idx INTEGER NOT NULL,"
    " state INTEGER NOT NULL) WITHOUT ROWID;"
    "CREATE UNIQUE INDEX client_idx ON client(idx) WHERE state = 1;"
    "CREATE TABLE token(id BLOB PRIMARY KEY, psk BLOB NOT NULL, idx INTEGER NOT NULL,"
    " used INTEGER NOT NULL) WITHOUT ROWID;"
    "CREATE TABLE run(id INTEGER PRIMARY KEY, state INTEGER NOT NULL, plan BLOB NOT NULL,"
    " reason TEXT NOT NULL, calibrations INTEGER NOT NULL DEFAULT 0);"
    "CREATE TABLE round(run INTEGER NOT NULL, round INTEGER NOT NULL,"
    " attempt INTEGER NOT NULL, remaining_ms INTEGER NOT NULL,"
    " committed INTEGER NOT NULL, digest BLOB, checkpoint TEXT, strategy BLOB, model BLOB,"
    " PRIMARY KEY(run, round));"
    "CREATE TABLE member(run INTEGER NOT NULL, round INTEGER NOT NULL,"
    " client INTEGER NOT NULL, accepted INTEGER NOT NULL, included INTEGER NOT NULL,"
    " ord INTEGER, slot INTEGER, blob BLOB, blob_size INTEGER, weight INTEGER,"
    " samples INTEGER, steps INTEGER, loss_sum REAL, first_loss REAL, encoding INTEGER,"
    " has_eval INTEGER, eval_samples INTEGER, eval_correct INTEGER, eval_loss REAL,"
    " cost BLOB, key BLOB,"
    " PRIMARY KEY(run, round, client)) WITHOUT ROWID;"
    "CREATE TABLE report(run INTEGER NOT NULL, seq INTEGER NOT NULL, json TEXT NOT NULL,"
    " PRIMARY KEY(run, seq)) WITHOUT ROWID;";

static const char *const sql[SL_DB_N_STATEMENTS] = {
    [SL_DB_PUT_CLIENT] =
        "INSERT INTO client(key, name, idx, state) VALUES(?1, ?2, ?3, ?4)"
        " ON CONFLICT(key) DO UPDATE SET name = ?2, idx = ?3, state = ?4",
    [SL_DB_EACH_CLIENT] = "SELECT key, name, idx, state FROM client ORDER BY idx, key",
    [SL_DB_PUT_TOKEN] = "INSERT INTO token(id, psk, idx, used) VALUES(?1, ?2, ?3, ?4)"
                        " ON CONFLICT(id) DO UPDATE SET psk = ?2, idx = ?3, used = ?4",
    [SL_DB_FIND_TOKEN] = "SELECT psk, idx, used FROM token WHERE id = ?1",
    [SL_DB_USE_TOKEN] = "UPDATE token SET used = 1 WHERE id = ?1 AND used = 0",
    [SL_DB_ADD_RUN] = "INSERT INTO run(state, plan, reason) VALUES(?1, ?2, ?3)",
    [SL_DB_PUT_RUN] = "INSERT INTO run(id, state, plan, reason) VALUES(?4, ?1, ?2, ?3)"
                      " ON CONFLICT(id) DO UPDATE SET state = ?1, plan = ?2, reason = ?3",
    [SL_DB_SET_RUN] = "UPDATE run SET state = ?2, reason = ?3 WHERE id = ?1",
    [SL_DB_WANT_CALIBRATIONS] = "UPDATE run SET state = ?2, calibrations = ?3 WHERE id = ?1",
    [SL_DB_EACH_RUN] = "SELECT id, state, plan, reason, calibrations FROM run ORDER BY id",
    [SL_DB_FIND_ROUND] = "SELECT committed FROM round WHERE run = ?1 AND round = ?2",
    [SL_DB_OPEN_ROUND] = "INSERT INTO round(run, round, attempt, remaining_ms, committed)"
                         " VALUES(?1, ?2, ?3, ?4, 0) ON CONFLICT(run, round)"
                         " DO UPDATE SET attempt = ?3, remaining_ms = ?4",
    [SL_DB_OPEN_VERSION] =
        "INSERT INTO round(run, round, attempt, remaining_ms, committed, model)"
        " VALUES(?1, ?2, ?3, ?4, 0, ?5) ON CONFLICT(run, round)"
        " DO UPDATE SET attempt = ?3, remaining_ms = ?4",
    [SL_DB_CLEAR_MEMBERS] =
        "DELETE FROM member WHERE run = ?1 AND round = ?2 AND accepted = 0",
    [SL_DB_ADD_MEMBER] = "INSERT INTO member(run, round, client, accepted, included)"
                         " VALUES(?1, ?2, ?3, 0, 0) ON CONFLICT DO NOTHING",
    [SL_DB_TAKE_TASK] = "DELETE FROM member"
                        " WHERE run = ?1 AND round = ?2 AND client = ?3 AND accepted = 0",
    [SL_DB_PROGRESS] = "UPDATE round SET remaining_ms = ?3"
                       " WHERE run = ?1 AND round = ?2 AND committed = 0",
    [SL_DB_ACCEPT] =
        "UPDATE member SET accepted = 1, ord = ?4, slot = ?5, blob = ?6, blob_size = ?7,"
        " weight = ?8, samples = ?9, steps = ?10, loss_sum = ?11, first_loss = ?12,"
        " encoding = ?13, has_eval = ?14, eval_samples = ?15, eval_correct = ?16,"
        " eval_loss = ?17, cost = ?18, key = ?19 WHERE run = ?1 AND round = ?2 AND client = ?3",
    [SL_DB_UNACCEPT] = "UPDATE member SET accepted = 0"
                       " WHERE run = ?1 AND round = ?2 AND client = ?3 AND accepted = 1",
    [SL_DB_COMMIT_ROUND] =
        "UPDATE round SET committed = 1, digest = ?3, checkpoint = ?4, strategy = ?5"
        " WHERE run = ?1 AND round = ?2 AND committed = 0",
    [SL_DB_DROP_STATES] = "UPDATE round SET strategy = NULL"
                          " WHERE run = ?1 AND round < ?2 AND strategy IS NOT NULL",
    [SL_DB_INCLUDE] = "UPDATE member SET included = 1"
                      " WHERE run = ?1 AND round = ?2 AND client = ?3 AND accepted = 1",
    [SL_DB_OPEN_OF_RUN] = "SELECT round, attempt, remaining_ms FROM round"
                          " WHERE run = ?1 AND committed = 0 ORDER BY round DESC LIMIT 1",
    [SL_DB_MEMBERS] =
        "SELECT client, accepted, ord, slot, blob, blob_size, weight, samples, steps,"
        " loss_sum, first_loss, encoding, has_eval, eval_samples, eval_correct, eval_loss,"
        " cost, key, round"
        " FROM member WHERE run = ?1 AND round = ?2 ORDER BY client",
    [SL_DB_TASKS] =
        "SELECT m.client, m.accepted, m.ord, m.slot, m.blob, m.blob_size, m.weight, m.samples,"
        " m.steps, m.loss_sum, m.first_loss, m.encoding, m.has_eval, m.eval_samples,"
        " m.eval_correct, m.eval_loss, m.cost, m.key, m.round, r.model"
        " FROM member m JOIN round r ON r.run = m.run AND r.round = m.round"
        " WHERE m.run = ?1 AND m.included = 0 AND r.model IS NOT NULL"
        " ORDER BY m.client, m.round",
    [SL_DB_LAST_COMMIT] = "SELECT round, digest, checkpoint, strategy FROM round"
                          " WHERE run = ?1 AND committed = 1 AND round < 2147483648"
                          " ORDER BY round DESC LIMIT 1",
    [SL_DB_WAS_INCLUDED] =
        "SELECT r.committed, m.included FROM round r LEFT JOIN member m"
        " ON m.run = r.run AND m.round = r.round AND m.client = ?3"
        " WHERE r.run = ?1 AND r.round = ?2",
    [SL_DB_ADD_REPORT] =
        "INSERT INTO report(run, seq, json) VALUES(?1,"
        " (SELECT ifnull(max(seq), 0) + 1 FROM report WHERE run = ?1), ?2)",
    [SL_DB_EACH_REPORT] = "SELECT json FROM report WHERE run = ?1 ORDER BY seq",
};

enum sl_code sl_db_error(const struct sl_db *db, const char *what, struct sl_err *err)
{
    int code = sqlite3_extended_errcode(db->conn), os = sqlite3_system_errno(db->conn);
    enum sl_code rc = SL_E_IO;
    switch (code & 0xff) {
    case SQLITE_FULL:
        rc = SL_E_NOSPACE;
        break;
    case SQLITE_NOMEM:
        rc = SL_E_NOMEM;
        break;
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
    case SQLITE_READONLY:
    case SQLITE_CANTOPEN:
    case SQLITE_PERM:
    case SQLITE_AUTH:
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        rc = SL_E_STATE;
        break;
    case SQLITE_CONSTRAINT:
        rc = SL_E_EXISTS;
        break;
    default:
        if (os == ENOSPC || os == EDQUOT)
            rc = SL_E_NOSPACE;
    }
    return sl_err_set(err, rc, "state database: %s: %s", what, sqlite3_errmsg(db->conn));
}

static enum sl_code exec(struct sl_db *db, const char *text, const char *what,
                         struct sl_err *err)
{
    if (sqlite3_exec(db->conn, text, NULL, NULL, NULL) != SQLITE_OK)
        return sl_db_error(db, what, err);
    return SL_OK;
}

static enum sl_code pragma_int(struct sl_db *db, const char *text, int64_t *ret,
                               struct sl_err *err)
{
    sqlite3_stmt *st = NULL;
    if (sqlite3_prepare_v2(db->conn, text, -1, &st, NULL) != SQLITE_OK)
        return sl_db_error(db, "open", err);
    enum sl_code rc = SL_OK;
    if (sqlite3_step(st) == SQLITE_ROW)
        *ret = sqlite3_column_int64(st, 0);
    else
        rc = sl_db_error(db, "open", err);
    sqlite3_finalize(st);
    return rc;
}

static enum sl_code quick_check(struct sl_db *db, struct sl_err *err)
{
    sqlite3_stmt *st = NULL;
    if (sqlite3_prepare_v2(db->conn, "PRAGMA quick_check(1)", -1, &st, NULL) != SQLITE_OK)
        return sl_db_error(db, "check", err);
    enum sl_code rc = SL_OK;
    if (sqlite3_step(st) != SQLITE_ROW) {
        rc = sl_db_error(db, "check", err);
    } else {
        const char *text = (const char *)sqlite3_column_text(st, 0);
        if (text == NULL || strcmp(text, "ok") != 0)
            rc = sl_err_set(err, SL_E_STATE, "state database is corrupt: %.200s",
                            text == NULL ? "?" : text);
    }
    sqlite3_finalize(st);
    return rc;
}

static enum sl_code create_schema(struct sl_db *db, struct sl_err *err)
{
    char text[sizeof(schema) + 128];
    snprintf(text, sizeof(text),
             "BEGIN IMMEDIATE; %s PRAGMA application_id = %d; PRAGMA user_version = %d; "
             "COMMIT;",
             schema, APPLICATION_ID, SL_DB_SCHEMA);
    return exec(db, text, "create", err);
}

static enum sl_code check_version(struct sl_db *db, struct sl_err *err)
{
    int64_t version = 0, application = 0, tables = 0;
    enum sl_code rc = pragma_int(db, "PRAGMA user_version", &version, err);
    if (rc == SL_OK)
        rc = pragma_int(db, "PRAGMA application_id", &application, err);
    if (rc == SL_OK)
        rc = pragma_int(db, "SELECT count(*) FROM sqlite_master", &tables, err);
    if (rc != SL_OK)
        return rc;
    if (version == 0 && application == 0 && tables == 0)
        return create_schema(db, err);
    if (application != APPLICATION_ID)
        return sl_err_set(
            err, SL_E_STATE,
            "state database belongs to another program (application id %lld)",
            (long long)application);
    if (version != SL_DB_SCHEMA)
        return sl_err_set(err, SL_E_STATE,
                          "state database has schema %lld (this program knows %d)",
                          (long long)version, SL_DB_SCHEMA);
    return quick_check(db, err);
}

static enum sl_code prepare_all(struct sl_db *db, struct sl_err *err)
{
    for (int i = 0; i < SL_DB_N_STATEMENTS; i++)
        if (sqlite3_prepare_v3(db->conn, sql[i], -1, SQLITE_PREPARE_PERSISTENT,
                               &db->stmt[i], NULL) != SQLITE_OK)
            return sl_db_error(db, "prepare", err);
    return SL_OK;
}

enum sl_code sl_db_open(const char *path, bool sync_always, struct sl_db *ret,
                        struct sl_err *err)
{
    *ret = (struct sl_db){.sync_always = sync_always};
    int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX;
    if (sqlite3_open_v2(path, &ret->conn, flags, NULL) != SQLITE_OK) {
        enum sl_code rc = ret->conn == NULL ? sl_err_set(err, SL_E_NOMEM, "out of memory")
                                            : sl_db_error(ret, "open", err);
        sl_db_close(ret);
        return rc;
    }
    sqlite3_extended_result_codes(ret->conn, 1);
    enum sl_code rc = exec(ret,
                           "PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = WAL; "
                           "PRAGMA synchronous = FULL;",
                           "open", err);
    if (rc == SL_OK)
        rc = check_version(ret, err);
    if (rc == SL_OK && !sync_always)
        rc = exec(ret, "PRAGMA synchronous = NORMAL", "open", err);
    if (rc == SL_OK)
        rc = prepare_all(ret, err);
    if (rc != SL_OK)
        sl_db_close(ret);
    return rc;
}

void sl_db_close(struct sl_db *db)
{
    for (int i = 0; i < SL_DB_N_STATEMENTS; i++)
        sqlite3_finalize(db->stmt[i]);
    sqlite3_close(db->conn);
    *db = (struct sl_db){0};
}

sqlite3_stmt *sl_db_bind(struct sl_db *db, enum sl_db_statement s, const char *fmt, ...)
{
    sqlite3_stmt *st = db->stmt[s];
    sqlite3_reset(st);
    sqlite3_clear_bindings(st);
    va_list ap;
    va_start(ap, fmt);
    for (int i = 1; *fmt != '\0'; fmt++, i++) {
        if (*fmt == 'i') {
            sqlite3_bind_int64(st, i, va_arg(ap, int64_t));
        } else if (*fmt == 'd') {
            sqlite3_bind_double(st, i, va_arg(ap, double));
        } else if (*fmt == 't') {
            sqlite3_bind_text(st, i, va_arg(ap, const char *), -1, SQLITE_STATIC);
        } else {
            const void *data = va_arg(ap, const void *);
            size_t n = va_arg(ap, size_t);
            sqlite3_bind_blob64(st, i, data, n, SQLITE_STATIC);
        }
    }
    va_end(ap);
    return st;
}

enum sl_code sl_db_run(struct sl_db *db, sqlite3_stmt *st, const char *what,
                       struct sl_err *err)
{
    enum sl_code rc = SL_OK;
    if (sqlite3_step(st) != SQLITE_DONE)
        rc = sl_db_error(db, what, err);
    sqlite3_reset(st);
    return rc;
}

enum sl_code sl_db_row(struct sl_db *db, sqlite3_stmt *st, const char *what,
                       bool *ret_row, struct sl_err *err)
{
    int step = sqlite3_step(st);
    if (step == SQLITE_ROW) {
        *ret_row = true;
        return SL_OK;
    }
    enum sl_code rc = step == SQLITE_DONE ? SL_OK : sl_db_error(db, what, err);
    sqlite3_reset(st);
    if (rc == SL_OK)
        *ret_row = false;
    return rc;
}

enum sl_code sl_db_bytes(sqlite3_stmt *st, int col, uint8_t *ret, size_t n,
                         struct sl_err *err)
{
    const void *data = sqlite3_column_blob(st, col);
    int got = sqlite3_column_bytes(st, col);
    if (data == NULL || (size_t)got != n)
        return sl_err_set(err, SL_E_STATE,
                          "state database: cell \"%s\" of %d bytes (%zu wanted)",
                          sqlite3_column_name(st, col), got, n);
    memcpy(ret, data, n);
    return SL_OK;
}

void sl_db_text(sqlite3_stmt *st, int col, char *ret, size_t cap)
{
    const char *text = (const char *)sqlite3_column_text(st, col);
    snprintf(ret, cap, "%s", text == NULL ? "" : text);
}

enum sl_code sl_db_begin(struct sl_db *db, bool synced, struct sl_err *err)
{
    db->synced = synced && !db->sync_always;
    enum sl_code rc = SL_OK;
    if (db->synced)
        rc = exec(db, "PRAGMA synchronous = FULL", "begin", err);
    if (rc == SL_OK)
        rc = exec(db, "BEGIN IMMEDIATE", "begin", err);
    if (rc != SL_OK)
        return sl_db_end(db, rc, err);
    return SL_OK;
}

enum sl_code sl_db_end(struct sl_db *db, enum sl_code rc, struct sl_err *err)
{
    if (rc == SL_OK)
        rc = exec(db, "COMMIT", "commit", err);
    if (rc != SL_OK && !sqlite3_get_autocommit(db->conn))
        sqlite3_exec(db->conn, "ROLLBACK", NULL, NULL, NULL);
    if (db->synced)
        sqlite3_exec(db->conn, "PRAGMA synchronous = NORMAL", NULL, NULL, NULL);
    db->synced = false;
    return rc;
}
