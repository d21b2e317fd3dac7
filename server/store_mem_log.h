/* SPDX-License-Identifier: Apache-2.0 */
/* store_mem_log.h - the log of the store in memory, and the tables that it says
 * (store_mem.c). Every change is an operation appended to the log and applied to the
 * tables; `n_synced` marks how much of the log a power cut leaves. Owns: operations and
 * tables; operations own their data, tables point into them. Thread: one at a time. */
#ifndef SL_SERVER_STORE_MEM_LOG_H
#define SL_SERVER_STORE_MEM_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "server/store.h"

enum sl_op_kind {
    SL_OP_CLIENT,
    SL_OP_TOKEN,
    SL_OP_RUN,
    SL_OP_RUN_STATE,
    SL_OP_WANT_CALIBRATIONS,
    SL_OP_ROUND,
    SL_OP_VERSION,
    SL_OP_GIVE,
    SL_OP_TAKE,
    SL_OP_PROGRESS,
    SL_OP_ACCEPT,
    SL_OP_UNACCEPT,
    SL_OP_COMMIT,
    SL_OP_REPORT,
};

/* One change; `bytes` is the operation's own copy of what its rows point to. */
struct sl_op {
    enum sl_op_kind kind;
    uint64_t run, remaining_ms;
    uint32_t round, attempt;
    union {
        struct sl_client_row client;
        struct sl_token_row token;
        struct sl_run_row run_row;
        struct sl_member_row member; /* ACCEPT; UNACCEPT, GIVE, TAKE: start, client */
        struct sl_blob_id model;     /* VERSION */
        struct sl_commit_row commit;
    };
    size_t n;       /* ROUND: members; others: bytes */
    uint8_t *bytes; /* owned */
};

struct sl_round_entry {
    uint64_t run;
    uint32_t round, attempt;
    uint64_t remaining_ms;
    struct sl_member_row *members; /* ascending by client, owned */
    size_t n_members;
    bool version;
    struct sl_blob_id model;    /* a version's */
    const struct sl_op *commit; /* NULL = open */
};

/* An included update: the bytes of a COMMIT begin with commit.n_included of them. */
struct sl_mem_pair {
    uint32_t client, start;
};

/* A growing array. */
#define SL_LIST(type)                                                                    \
    struct {                                                                             \
        type *at;                                                                        \
        size_t n, cap;                                                                   \
    }

struct sl_mem_log {
    SL_LIST(struct sl_op *) log;
    size_t n_synced;
    SL_LIST(struct sl_client_row) clients;
    SL_LIST(uint32_t) buckets;  /* hash of key -> position in clients + 1; 0 = free */
    SL_LIST(uint32_t) enrolled; /* index -> position in clients + 1; 0 = free */
    SL_LIST(struct sl_token_row) tokens;
    SL_LIST(struct sl_run_row) runs;
    SL_LIST(struct sl_round_entry) rounds;
    SL_LIST(const struct sl_op *) reports;
};

/* Room for `want` elements of a list; new room is zero. false without memory. */
bool sl_list_reserve(void **at, size_t *cap, size_t want, size_t element);

#define SL_RESERVE(list, want)                                                           \
    sl_list_reserve((void **)&(list).at, &(list).cap, (want), sizeof(*(list).at))

/* Appends a copy of *op with a copy of n_bytes of data and applies it. The caller has
 * checked that what the operation names is there. SL_E_NOMEM leaves everything as it was.
 */
enum sl_code sl_mem_log_add(struct sl_mem_log *l, const struct sl_op *op,
                            const void *data, size_t n_bytes, struct sl_err *err);
/* Everything logged so far is synced. */
void sl_mem_log_sync(struct sl_mem_log *l);
/* Drops what is not synced and builds the tables from the rest. */
void sl_mem_log_power_cut(struct sl_mem_log *l);
/* The strategy state of a committed round that is not the last is of no use any more. */
void sl_mem_log_forget_state(struct sl_mem_log *l, uint64_t run, uint32_t round);
void sl_mem_log_deinit(struct sl_mem_log *l);

/* NULL when there is none. */
struct sl_token_row *sl_mem_log_token(struct sl_mem_log *l,
                                      const uint8_t id[SL_TOKEN_ID_BYTES]);
struct sl_run_row *sl_mem_log_run(struct sl_mem_log *l, uint64_t id);
struct sl_round_entry *sl_mem_log_round(struct sl_mem_log *l, uint64_t run,
                                        uint32_t round);
struct sl_mem_pair sl_mem_log_included(const struct sl_op *commit, size_t i);
struct sl_member_row *sl_mem_log_member(const struct sl_round_entry *r, uint32_t client);

#endif
