/* SPDX-License-Identifier: Apache-2.0 */
/* coordinator.h - the coordinator: registry, queue of runs, rounds, aggregation, evaluation,
 * checkpoints and reports, without sockets, clocks or threads of its own. The daemon
 * (server/daemon.c) and the simulator (sim/world.c) drive this very code.
 *
 * Data flow. Requests of known clients come in as messages, decrypted and unpacked; replies go out
 * through env.reply, at once or later (a poll is held until there is something to do, at most
 * SL_POLL_HOLD_MS). Heavy work (checking and adding updates, server step, digests, checkpoint,
 * evaluation) are jobs for env.executor; their completion is the next event. What must
 * survive goes to env.store before it is acknowledged.
 *
 * Bytes of a round. Plan and fixed head, which a client fetches once, belong to none. bytes_down: the TRAIN task and, for a model that does not fit into it, its chunks,
 * for every member that was given the task; bytes_up: the poll that fetched it, the requests for
 * the chunks and the update's chunks, for every member whose update was accepted; with probes, report and
 * decision of everyone who reported, and the fetching of those who were stopped. Each message
 * counts once, as first sent, so the numbers depend on neither retries nor timing.
 *
 * Owns: everything about runs and clients. Borrows: env and what it points to.
 * Thread: loop thread only. */
#ifndef SL_SERVER_COORDINATOR_H
#define SL_SERVER_COORDINATOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <jansson.h>

#include "common/error.h"
#include "common/jobs.h"
#include "common/log.h"
#include "common/plan.h"
#include "common/wire.h"
#include "server/round.h"
#include "server/store.h"

#define SL_POLL_HOLD_MS 8000

struct sl_coordinator;

/* A request that waits for its reply; the shell's token, opaque here. */
typedef uint64_t sl_request_id;

struct sl_coordinator_env {
    void *ctx;
    struct sl_store *store;              /* borrowed */
    const struct sl_executor *executor;  /* borrowed */
    struct sl_log *log;                  /* borrowed, may be NULL */
    /* Answers a request, exactly once; the request's own attachment is gone then. The attachment is borrowed until `reply` returns, unless it
     * lies in the current model or plan (see sl_coordinator_blob_hold). */
    void (*reply)(void *ctx, sl_request_id id, const struct sl_msg *m);
    /* Asks for sl_coordinator_time at or after this instant; replaces the one asked before. */
    void (*wake_at)(void *ctx, uint64_t at_ms);
    /* One object of the report (run_start, round, calibration, run_end), borrowed. */
    void (*report)(void *ctx, uint64_t run_id, json_t *line);
    /* Monotonic milliseconds that this machine has really spent (wall_s of the report); in the
     * simulator too. Never decides anything. */
    double (*wall_s)(void *ctx);
    /* Bytes the sockets saw so far (wire_bytes); the simulator counts what it would have sent. */
    uint64_t (*wire_bytes)(void *ctx);
    /* A round with probes is about to be committed: its records (selection/fedmarl/record.h), for
     * learning off line. Comes again for a round whose commit was cut short. NULL = not wanted. */
    void (*record)(void *ctx, uint64_t run_id, uint32_t round, const uint8_t *bytes, size_t n);
    const char *blas_name;
    uint32_t poll_hold_ms; /* a poll is held at most so long; 0 = until there is something */
    const char *data_path; /* where this coordinator's data lie; NULL = the plan's */
    uint32_t max_clients;
    /* --replay: members, order and latencies of a recorded run; NULL = none. Borrowed. */
    const json_t *replay;
};

/* Loads registry, queue and an interrupted run from the store and goes on with it.
 * now_ms: any monotonic clock, the same for all calls. */
enum sl_code sl_coordinator_new(const struct sl_coordinator_env *env, uint64_t now_ms,
                                struct sl_coordinator **ret, struct sl_err *err);
/* Frees memory only, as a kill would: nothing is written. No job may be running any more; one whose
 * `done` has not been called is forgotten, and its `done` must not be called. */
void sl_coordinator_free(struct sl_coordinator *c);

/* --- events ------------------------------------------------------------------------------- */

/* A request of an enrolled client. Always leads to exactly one reply. A message that is malformed
 * for its state is answered, never fatal. */
void sl_coordinator_message(struct sl_coordinator *c, uint64_t now_ms, uint32_t client,
                            sl_request_id id, const struct sl_msg *m);
/* The request's connection is gone: forget it (no reply any more). */
void sl_coordinator_forget(struct sl_coordinator *c, sl_request_id id);
void sl_coordinator_time(struct sl_coordinator *c, uint64_t now_ms);

/* --- registry (server/registry.h is its own module; these are the ways in) -------------------- */

enum sl_code sl_coordinator_key_known(const struct sl_coordinator *c, const uint8_t *key,
                                      struct sl_client_row *ret);
/* First valid message of a session made with a join token: use the token up, enrol. */
enum sl_code sl_coordinator_enrol(struct sl_coordinator *c, uint64_t now_ms,
                                  const uint8_t token[SL_TOKEN_ID_BYTES],
                                  const uint8_t key[SL_KEY_BYTES], const char *name,
                                  int32_t wanted_index, uint32_t *ret_index,
                                  struct sl_err *err);
enum sl_code sl_coordinator_token_add(struct sl_coordinator *c, const struct sl_token_row *t,
                                      struct sl_err *err);
enum sl_code sl_coordinator_token_psk(struct sl_coordinator *c,
                                      const uint8_t id[SL_TOKEN_ID_BYTES], uint8_t ret_psk[32],
                                      struct sl_err *err);
enum sl_code sl_coordinator_approve(struct sl_coordinator *c, uint64_t now_ms,
                                    const struct sl_client_row *row, struct sl_err *err);
enum sl_code sl_coordinator_revoke(struct sl_coordinator *c, uint64_t now_ms, uint32_t index,
                                   struct sl_err *err);

/* --- operator ------------------------------------------------------------------------------ */

/* Queues a plan (text of a plan file). *ret_run is its id. Everything that can be wrong with it is
 * found here, before it is queued. */
enum sl_code sl_coordinator_submit(struct sl_coordinator *c, uint64_t now_ms,
                                   const struct sl_plan *plan, uint64_t *ret_run,
                                   struct sl_err *err);
/* Asks for a calibration of the run under way, between its rounds, or of the last one, which has ended.
 * SL_E_NOTFOUND without a run, SL_E_INPUT for a model that can't be calibrated. */
enum sl_code sl_coordinator_calibrate(struct sl_coordinator *c, uint64_t now_ms, struct sl_err *err);
void sl_coordinator_pause(struct sl_coordinator *c, bool paused); /* between rounds */
/* No new round; held polls are answered with `draining`; sl_coordinator_idle tells when the open
 * round is committed or can be left to the journal. */
void sl_coordinator_drain(struct sl_coordinator *c, uint64_t now_ms);
bool sl_coordinator_idle(const struct sl_coordinator *c); /* no job under way */
bool sl_coordinator_finished(const struct sl_coordinator *c, uint64_t run, enum sl_run_state *ret_state);
/* New references; the caller decrefs. */
json_t *sl_coordinator_status(const struct sl_coordinator *c, uint64_t now_ms);
/* What a round waits for, whom it dropped and why; round -1 = the current one. */
json_t *sl_coordinator_explain(struct sl_coordinator *c, int64_t round, struct sl_err *err);

/* The current (or last) run's model; valid until the next event. NULL before the first. */
const float *sl_coordinator_model(const struct sl_coordinator *c,
                                  const struct sl_layout **ret_layout);
/* The best evaluated model of that run, from its checkpoint; *ret_values is the caller's to free.
 * SL_E_NOTFOUND: none was evaluated. */
enum sl_code sl_coordinator_best(const struct sl_coordinator *c, float **ret_values,
                                 const struct sl_layout **ret_layout, struct sl_err *err);
/* What its strategy keeps (fedavgm: v; adaptive ones: m and v of each value beside each other;
 * scaffold: c), *ret_n floats, for the values that travel; NULL when there is none. */
const float *sl_coordinator_state(const struct sl_coordinator *c, size_t *ret_n);

#endif
