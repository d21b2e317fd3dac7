/* SPDX-License-Identifier: Apache-2.0 */
/* store_db.h - the SQLite side of the store: the database file, its schema, prepared
 * statements, transactions, and the translation of SQLite's codes (full disk ->
 * SL_E_NOSPACE; corrupt, locked or unwritable -> SL_E_STATE; else SL_E_IO). Used by the
 * store only. WAL mode. A commit is written at once and survives a kill; a synced one (or
 * any one with sync_always) has also passed fsync, together with all commits before it.
 * Owns: connection and statements. Thread: loop thread. */
#ifndef SL_SERVER_STORE_DB_H
#define SL_SERVER_STORE_DB_H

#include <sqlite3.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"

#define SL_DB_SCHEMA 4 /* PRAGMA user_version of the files this program writes */

enum sl_db_statement {
    SL_DB_PUT_CLIENT,
    SL_DB_EACH_CLIENT,
    SL_DB_PUT_TOKEN,
    SL_DB_FIND_TOKEN,
    SL_DB_USE_TOKEN,
    SL_DB_ADD_RUN,
    SL_DB_PUT_RUN,
    SL_DB_SET_RUN,
    SL_DB_WANT_CALIBRATIONS,
    SL_DB_EACH_RUN,
    SL_DB_FIND_ROUND,
    SL_DB_OPEN_ROUND,
    SL_DB_OPEN_VERSION,
    SL_DB_CLEAR_MEMBERS,
    SL_DB_ADD_MEMBER,
    SL_DB_TAKE_TASK,
    SL_DB_PROGRESS,
    SL_DB_ACCEPT,
    SL_DB_UNACCEPT,
    SL_DB_COMMIT_ROUND,
    SL_DB_DROP_STATES,
    SL_DB_INCLUDE,
    SL_DB_OPEN_OF_RUN,
    SL_DB_MEMBERS,
    SL_DB_TASKS,
    SL_DB_LAST_COMMIT,
    SL_DB_WAS_INCLUDED,
    SL_DB_ADD_REPORT,
    SL_DB_EACH_REPORT,
    SL_DB_N_STATEMENTS,
};

struct sl_db {
    sqlite3 *conn;
    sqlite3_stmt *stmt[SL_DB_N_STATEMENTS];
    bool sync_always;
    bool synced; /* the transaction under way ends synced */
};

/* Opens or creates the file. SL_E_STATE naming what is wrong with it. */
enum sl_code sl_db_open(const char *path, bool sync_always, struct sl_db *ret,
                        struct sl_err *err);
void sl_db_close(struct sl_db *db); /* {0} and half open allowed */

/* Translates the connection's last error; `what` says what was tried. */
enum sl_code sl_db_error(const struct sl_db *db, const char *what, struct sl_err *err);

/* The statement, rewound, with values bound by `fmt`, one letter each: i int64_t, d
 * double, t const char * (text), b const void * and size_t (bytes; NULL binds null). What
 * is bound is borrowed until the statement is used again. */
sqlite3_stmt *sl_db_bind(struct sl_db *db, enum sl_db_statement s, const char *fmt, ...);

/* Runs a bound statement that returns no rows. */
enum sl_code sl_db_run(struct sl_db *db, sqlite3_stmt *st, const char *what,
                       struct sl_err *err);
/* Next row: *ret_row false behind the last, and the statement is rewound. */
enum sl_code sl_db_row(struct sl_db *db, sqlite3_stmt *st, const char *what,
                       bool *ret_row, struct sl_err *err);

/* Copies n bytes of a column; a cell of another size is corruption, SL_E_STATE. */
enum sl_code sl_db_bytes(sqlite3_stmt *st, int col, uint8_t *ret, size_t n,
                         struct sl_err *err);
/* Copies a text, cut to `cap` with its closing zero. */
void sl_db_text(sqlite3_stmt *st, int col, char *ret, size_t cap);

enum sl_code sl_db_begin(struct sl_db *db, bool synced, struct sl_err *err);
/* Commits when rc is SL_OK, rolls back otherwise; returns rc or the commit's own failure.
 */
enum sl_code sl_db_end(struct sl_db *db, enum sl_code rc, struct sl_err *err);

#endif
