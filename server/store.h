/* SPDX-License-Identifier: Apache-2.0 */
/* store.h - what the coordinator remembers across a kill or a power cut, as an ops table.
 * Two implementations: store_sqlite.c (SQLite in WAL mode plus files in the state directory) and
 * store_mem.c (the simulator's and the tests' twin, which forgets what was not synced when told that
 * the power failed). The coordinator is the only writer.
 *
 * Durability. `written` survives kill -9 of the process; `synced` survives a power cut.
 *   clients, tokens, runs      synced when the call returns (rare)
 *   round_open, accept,        written; synced by the next round_commit or progress, or at once
 *   version_open, task_...     with state.sync: every-update
 *   progress                   synced (once a second at most): a power cut does not give a round
 *                              its deadline back
 *   round_commit               one transaction, synced when the call returns; what it names
 *                              (the checkpoint) was synced before
 *   spool                      written; checked by its XXH3-128 when read again
 * A calibration is a round whose number has SL_ROUND_CALIBRATION set; load_last_commit does not see it.
 *
 * Asynchronous aggregation: round v is the buffer that turns version v of the model into the next one.
 * version_open opens it. Its tasks come one by one: a client that is given one is a member of the version
 * that its task begins from, until task_take or until a buffer commits its update, perhaps that of a later
 * version. So (version, client) names at most one update.
 * Thread: loop thread, except spool_read and checkpoint_write, which workers may call for
 * slots and checkpoints that the loop thread does not touch meanwhile. */
#ifndef SL_SERVER_STORE_H
#define SL_SERVER_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"
#include "common/hash.h"
#include "common/limits.h"
#include "common/plan.h"
#include "common/tensor.h"
#include "common/wire.h"

#define SL_KEY_BYTES 32
#define SL_TOKEN_ID_BYTES 16

enum sl_client_state { SL_CLIENT_PENDING, SL_CLIENT_ENROLLED, SL_CLIENT_REVOKED };

struct sl_client_row {
    uint8_t key[SL_KEY_BYTES];
    char name[SL_WIRE_NAME];
    uint32_t index; /* unique among enrolled clients */
    enum sl_client_state state;
};

struct sl_token_row {
    uint8_t id[SL_TOKEN_ID_BYTES];
    uint8_t psk[32];
    int32_t index; /* index it gives; -1 = the client's wish, or the lowest free one */
    bool used;
};

enum sl_run_state { SL_RUN_QUEUED, SL_RUN_ACTIVE, SL_RUN_DONE, SL_RUN_FAILED };

struct sl_run_row {
    uint64_t id; /* from 1, in the order of submission */
    enum sl_run_state state;
    const char *plan_text; /* canonical plan; borrowed for the call, or until the next load */
    size_t plan_bytes;
    char reason[SL_WIRE_REASON]; /* why it ended */
    uint32_t calibrations; /* that were asked for: those of lower numbers are to be made */
};

/* One member of a round as journalled. */
struct sl_member_row {
    uint32_t client;
    uint32_t start; /* the round it is a member of; before the open one only in a version */
    bool accepted;
    uint8_t key[SL_KEY_BYTES]; /* accepted: of who had the index then */
    uint32_t order;   /* accepted: 0, 1, ... in the order of acceptance */
    uint32_t slot;    /* accepted: where the update lies in the spool */
    struct sl_blob_ref blob;
    struct sl_update_meta meta;
};

struct sl_open_round {
    uint32_t round, attempt;
    uint64_t remaining_ms; /* of the deadline, as last written */
    struct sl_member_row *members; /* owned by the caller of what loaded them */
    size_t n_members;
};

/* A task that is neither committed nor taken back, and the model it begins from. */
struct sl_task_row {
    struct sl_member_row member;
    struct sl_blob_id model;
};

struct sl_commit_row {
    uint32_t round;
    uint8_t model_digest[SL_DIGEST_BYTES];
    char checkpoint[64];      /* name given by checkpoint_write */
    const char *report_json;  /* the round's line of the report */
    const uint32_t *included; /* clients whose updates are in the model, ascending */
    size_t n_included;
    const uint32_t *starts;   /* a version's: the rounds they are members of; NULL = this one */
    const uint8_t *state;     /* strategy's server state, opaque; may be NULL */
    size_t state_bytes;
    const char *keep; /* a checkpoint that is not removed with the old ones; NULL or "" = none */
};

struct sl_last_commit {
    bool present;
    uint32_t round;
    uint8_t model_digest[SL_DIGEST_BYTES];
    char checkpoint[64];
    uint8_t *state; /* owned by the caller */
    size_t state_bytes;
};

struct sl_store; /* implementation's object, begins with its ops pointer */

struct sl_store_ops {
    const char *name;
    void (*close)(struct sl_store *s);

    enum sl_code (*put_client)(struct sl_store *s, const struct sl_client_row *row,
                               struct sl_err *err);
    enum sl_code (*each_client)(struct sl_store *s,
                                enum sl_code (*fn)(void *ctx, const struct sl_client_row *),
                                void *ctx, struct sl_err *err);
    enum sl_code (*put_token)(struct sl_store *s, const struct sl_token_row *row,
                              struct sl_err *err);
    enum sl_code (*find_token)(struct sl_store *s, const uint8_t id[SL_TOKEN_ID_BYTES],
                               struct sl_token_row *ret, struct sl_err *err);
    /* Uses the token up and enrols the client in one synced transaction. */
    enum sl_code (*enrol)(struct sl_store *s, const uint8_t token[SL_TOKEN_ID_BYTES],
                          const struct sl_client_row *row, struct sl_err *err);

    enum sl_code (*put_run)(struct sl_store *s, const struct sl_run_row *row,
                            uint64_t *ret_id, struct sl_err *err); /* id 0: appended */
    enum sl_code (*set_run_state)(struct sl_store *s, uint64_t id, enum sl_run_state state,
                                  const char *reason, struct sl_err *err);
    /* The run is active, and its calibrations of numbers below n are to be made. Synced. */
    enum sl_code (*want_calibrations)(struct sl_store *s, uint64_t id, uint32_t n,
                                      struct sl_err *err);
    enum sl_code (*each_run)(struct sl_store *s,
                             enum sl_code (*fn)(void *ctx, const struct sl_run_row *),
                             void *ctx, struct sl_err *err);

    enum sl_code (*round_open)(struct sl_store *s, uint64_t run, uint32_t round,
                               uint32_t attempt, const uint32_t *members, size_t n,
                               uint64_t remaining_ms, struct sl_err *err);
    enum sl_code (*round_progress)(struct sl_store *s, uint64_t run, uint32_t round,
                                   uint64_t remaining_ms, struct sl_err *err);
    enum sl_code (*accept)(struct sl_store *s, uint64_t run, uint32_t round,
                           uint64_t remaining_ms, const struct sl_member_row *member,
                           struct sl_err *err);
    /* A spooled update turned out unreadable: the member is waiting again. */
    enum sl_code (*unaccept)(struct sl_store *s, uint64_t run, uint32_t round, uint32_t start,
                             uint32_t client, struct sl_err *err);
    /* Opens a version, or notes another attempt of it. model: that its tasks begin from. */
    enum sl_code (*version_open)(struct sl_store *s, uint64_t run, uint32_t round, uint32_t attempt,
                                 uint64_t remaining_ms, const struct sl_blob_id *model,
                                 struct sl_err *err);
    enum sl_code (*task_give)(struct sl_store *s, uint64_t run, uint32_t start, uint32_t client,
                              struct sl_err *err);
    /* Nothing when there is none, or its update is accepted. */
    enum sl_code (*task_take)(struct sl_store *s, uint64_t run, uint32_t start, uint32_t client,
                              struct sl_err *err);
    /* Of all versions, by client; *ret is the caller's to free. */
    enum sl_code (*load_tasks)(struct sl_store *s, uint64_t run, struct sl_task_row **ret,
                               size_t *ret_n, struct sl_err *err);
    enum sl_code (*round_commit)(struct sl_store *s, uint64_t run,
                                 const struct sl_commit_row *row, struct sl_err *err);
    enum sl_code (*load_open_round)(struct sl_store *s, uint64_t run, bool *ret_present,
                                    struct sl_open_round *ret, struct sl_err *err);
    /* A calibration's members, open or committed; of the run's last one that is committed at least. */
    enum sl_code (*load_calibration)(struct sl_store *s, uint64_t run, uint32_t round,
                                     bool *ret_present, struct sl_open_round *ret,
                                     struct sl_err *err);
    enum sl_code (*load_last_commit)(struct sl_store *s, uint64_t run,
                                     struct sl_last_commit *ret, struct sl_err *err);
    /* Was client's update part of the committed round? *ret_known is false while the round is open or
     * unknown. Of a version: was it part of that one's buffer or a later one's? */
    enum sl_code (*was_included)(struct sl_store *s, uint64_t run, uint32_t round,
                                 uint32_t client, bool *ret_known, bool *ret_included,
                                 struct sl_err *err);
    /* Every line of the run's report, in order, run_start first. */
    enum sl_code (*put_report)(struct sl_store *s, uint64_t run, const char *json,
                               struct sl_err *err);
    enum sl_code (*each_report)(struct sl_store *s, uint64_t run,
                                enum sl_code (*fn)(void *ctx, const char *json), void *ctx,
                                struct sl_err *err);

    /* Spool: n_slots regions of slot_bytes, used again every round of the run (fresh pages are
     * dear). spool_open keeps what is there when the sizes are the same. */
    enum sl_code (*spool_open)(struct sl_store *s, uint64_t run, uint32_t n_slots,
                               uint64_t slot_bytes, struct sl_err *err);
    enum sl_code (*spool_write)(struct sl_store *s, uint32_t slot, uint64_t offset,
                                const uint8_t *data, size_t n, struct sl_err *err);
    enum sl_code (*spool_read)(struct sl_store *s, uint32_t slot, uint64_t offset,
                               uint8_t *ret, size_t n, struct sl_err *err);
    enum sl_code (*spool_drop)(struct sl_store *s, struct sl_err *err);

    /* Writes a checkpoint (temp, sync, rename, sync of the folder) and names it (sl_checkpoint_name).
     * Older ones than
     * the one before are removed by round_commit. round_plus1 0 = the initial model. */
    enum sl_code (*checkpoint_write)(struct sl_store *s, uint64_t run, uint32_t round_plus1,
                                     const struct sl_layout *layout, const float *values,
                                     char ret_name[64], struct sl_err *err);
    enum sl_code (*checkpoint_read)(struct sl_store *s, const char *name,
                                    const struct sl_layout *layout, float *ret_values,
                                    struct sl_err *err);
};

struct sl_store {
    const struct sl_store_ops *ops;
};

struct sl_sqlite_options {
    bool sync_every_update; /* state.sync: every-update */
};

/* Opens (creates) the state directory; a lock keeps a second coordinator out. SL_E_STATE when it
 * can't be used, is locked, or its content is corrupt. */
enum sl_code sl_store_sqlite_open(const char *state_dir, const struct sl_sqlite_options *opt,
                                  struct sl_store **ret, struct sl_err *err);

/* The twin in memory. It outlives the coordinator that used it: close() keeps the content, free
 * ends it. Spool bytes lie in an unlinked temporary file, so that memory does not grow with the
 * cohort. crash(power_loss) does what a kill (false) or a power cut (true) does. */
enum sl_code sl_store_mem_new(struct sl_store **ret, struct sl_err *err);
void sl_store_mem_crash(struct sl_store *s, bool power_loss);
void sl_store_mem_free(struct sl_store *s);

#endif
