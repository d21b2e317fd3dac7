/* SPDX-License-Identifier: Apache-2.0 */
/* store_journal.h - reading the journal of rounds back from SQLite; the contracts are
 * those of the functions of the same names in server/store.h. Used by store_sqlite.c
 * only. Thread: loop thread. */
#ifndef SL_SERVER_STORE_JOURNAL_H
#define SL_SERVER_STORE_JOURNAL_H

#include "server/store.h"
#include "server/store_db.h"

enum sl_code sl_journal_open_round(struct sl_db *db, uint64_t run, bool *ret_present,
                                   struct sl_open_round *ret, struct sl_err *err);
enum sl_code sl_journal_calibration(struct sl_db *db, uint64_t run, uint32_t round,
                                    bool *ret_present, struct sl_open_round *ret,
                                    struct sl_err *err);
enum sl_code sl_journal_tasks(struct sl_db *db, uint64_t run, struct sl_task_row **ret,
                              size_t *ret_n, struct sl_err *err);
enum sl_code sl_journal_last_commit(struct sl_db *db, uint64_t run,
                                    struct sl_last_commit *ret, struct sl_err *err);
enum sl_code sl_journal_was_included(struct sl_db *db, uint64_t run, uint32_t round,
                                     uint32_t client, bool *ret_known, bool *ret_included,
                                     struct sl_err *err);

#endif
