/* SPDX-License-Identifier: Apache-2.0 */
/* client.h - a client without sockets, clocks or threads of its own: registers, polls,
 * fetches plan and model, has the task done, keeps the update, pushes it, and waits until
 * its round is settled. The daemon (client/daemon.c) and the simulator (sim/world.c)
 * drive this very code. client/task.h is the pure machine inside; this object turns its
 * actions into calls.
 *
 * Owns: the task machine and what it has fetched. Borrows: env. Thread: loop thread only.
 * Small: a registered, idle client takes under 2 KiB, so that a simulation holds many. */
#ifndef SL_CLIENT_CLIENT_H
#define SL_CLIENT_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "client/client_store.h"
#include "common/error.h"
#include "common/log.h"
#include "common/plan.h"
#include "common/wire.h"

struct sl_client;

/* A task ready to be done; borrowed pointers stay valid until sl_client_done. */
struct sl_client_job {
    struct sl_client *client;
    struct sl_task_order order;
    const uint8_t *plan_text; /* canonical plan as received and checked against its id */
    size_t plan_bytes;
    const float *model; /* n = order.model.size / 4 floats, without a fixed head */
    const float *head;  /* the head: order.head.size / 4 floats; NULL = none */
    uint32_t index;     /* this client's */
};

struct sl_client_env {
    void *ctx;
    struct sl_client_store *store; /* borrowed */
    struct sl_log *log;            /* borrowed, may be NULL */
    /* Sends a request; its reply comes back as sl_client_reply with the same id, or
     * sl_client_lost when the session ended first, or there was none: then nothing more
     * is sent until sl_client_connected. At most SL_CLIENT_WINDOW are open. The message
     * and its attachment are borrowed until send returns. No function of env calls back
     * from inside. */
    void (*send)(void *ctx, uint64_t id, const struct sl_msg *m);
    void (*wake_at)(void *ctx, uint64_t at_ms);
    /* Where received blobs live. begin: room for `ref`. write: chunk arrived, in any
     * order. finish: all there and checked by its id: the bytes, aligned to 8, valid
     * until blob_release. A plan and a head are held until a task with another one comes, a
     * model for one task. release follows each begin that succeeded, after a failure too,
     * except sl_client_free. */
    enum sl_code (*blob_begin)(void *ctx, const struct sl_blob_ref *ref,
                               struct sl_err *err);
    enum sl_code (*blob_write)(void *ctx, const struct sl_blob_ref *ref, uint64_t offset,
                               const uint8_t *data, size_t n, struct sl_err *err);
    enum sl_code (*blob_finish)(void *ctx, const struct sl_blob_ref *ref,
                                const uint8_t **ret_bytes, struct sl_err *err);
    void (*blob_release)(void *ctx, const struct sl_blob_ref *ref);
    /* Has the job done on a worker (which writes the update to the store, see
     * sl_client_keep), then calls sl_client_done, or sl_client_probed first. One at a time; *job is borrowed until
     * then. */
    void (*work)(void *ctx, const struct sl_client_job *job);
    /* After sl_client_probed. go: the job goes on from where it stands, and ends in sl_client_done;
     * otherwise it is over. */
    void (*decided)(void *ctx, bool go);
    uint64_t seed; /* for the spread of retries only */
    uint64_t boot_id;
    char name[SL_WIRE_NAME];
    int32_t index; /* wanted; -1 = the registry's */
    char blas[SL_WIRE_TEXT], hardware[SL_WIRE_TEXT];
    uint64_t own_samples;
};

#define SL_CLIENT_WINDOW 2 /* beside one registration */
#define SL_CLIENT_BLOBS 3  /* held at once: a plan, a head, a model */

struct sl_client_result {
    enum sl_code rc;
    char reason[SL_WIRE_REASON]; /* rc != OK */
    struct sl_kept_update kept;  /* TRAIN, CALIBRATE: as written to the store */
    struct sl_eval_counts eval;  /* EVALUATE */
    bool probed;     /* TRAIN of a plan with probes: this is its first part, for sl_client_probed */
    float loss;      /* mean over the probe epochs */
    uint32_t samples; /* of the client */
};

enum sl_code sl_client_new(const struct sl_client_env *env, uint64_t now_ms,
                           struct sl_client **ret, struct sl_err *err);
void sl_client_free(struct sl_client *c); /* as a kill would */

/* A session is up (again): registers and goes on. */
void sl_client_connected(struct sl_client *c, uint64_t now_ms);
void sl_client_reply(struct sl_client *c, uint64_t now_ms, uint64_t id,
                     const struct sl_msg *m);
void sl_client_lost(struct sl_client *c, uint64_t now_ms, uint64_t id);
/* The session is gone: as sl_client_lost for every open request. */
void sl_client_disconnected(struct sl_client *c, uint64_t now_ms);
void sl_client_done(struct sl_client *c, uint64_t now_ms,
                    const struct sl_client_result *r);
/* The first part of a TRAIN job is done; the worker waits for env.decided. */
void sl_client_probed(struct sl_client *c, uint64_t now_ms, const struct sl_client_result *r);
void sl_client_time(struct sl_client *c, uint64_t now_ms);
/* No new task; a push under way, or one that follows the training under way, is finished.
 * sl_client_idle: nothing is worked on, pushed or reported. */
void sl_client_drain(struct sl_client *c);
bool sl_client_idle(const struct sl_client *c);
/* For status lines: "training round 3", "waiting". */
const char *sl_client_phase(const struct sl_client *c);
uint32_t
sl_client_index(const struct sl_client *c); /* UINT32_MAX before the first registration */
/* An update is kept whose round is not settled yet. */
bool sl_client_keeps(const struct sl_client *c);

/* What a worker writes to the store for a TRAIN or CALIBRATE job's n bytes of update. Thread: any. */
void sl_client_keep(const struct sl_client_job *job, const struct sl_update_meta *meta,
                    const uint8_t *data, size_t n, struct sl_kept_update *ret);

#endif
