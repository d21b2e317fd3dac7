/* SPDX-License-Identifier: Apache-2.0 */
/* core_rig.h - the coordinator's core as the daemon drives it, without sockets or
 * threads: the real core over the real store in memory, a clock that stands until it is
 * moved, an executor that holds jobs when told to, a store that refuses what a test says,
 * and clients of a few lines.
 *
 * Every request is answered at most once, and every answer fits the wire: a breach fails
 * the test. Owns: all of it; deinit frees what is there. Thread: one. */
#ifndef SL_TESTS_CORE_RIG_H
#define SL_TESTS_CORE_RIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <jansson.h>

#include "common/jobs.h"
#include "server/coordinator.h"

#define RIG_NEVER UINT64_MAX
#define RIG_ALWAYS UINT32_MAX /* of rig.refuse */

/* Calls of the store that can be refused. */
enum rig_call {
    RIG_SET_RUN_STATE,
    RIG_WANT_CALIBRATIONS,
    RIG_PUT_CLIENT,
    RIG_ROUND_OPEN,
    RIG_ACCEPT,
    RIG_COMMIT,
    RIG_PUT_REPORT,
    RIG_WAS_INCLUDED,
    RIG_SPOOL_WRITE,
    RIG_SPOOL_READ,
    RIG_CHECKPOINT_WRITE,
    RIG_VERSION_OPEN,
    RIG_TASK_GIVE,
    RIG_TASK_TAKE,
    RIG_CALLS
};

/* Begins with the table that the core sees; the store's own functions are behind it. */
struct rig_ops {
    struct sl_store_ops seen;
    const struct sl_store_ops *real;
    uint32_t pass[RIG_CALLS];   /* so many calls from now on go through, */
    uint32_t refuse[RIG_CALLS]; /* then so many are refused */
    uint32_t tried[RIG_CALLS];  /* calls so far */
};

struct rig_answer {
    uint32_t n; /* 0 = none yet */
    bool forgotten;
    struct sl_msg m;
    uint8_t *bytes; /* copy of the attachment */
};

struct rig {
    struct sl_store *store;
    struct rig_ops *ops;
    struct sl_executor executor;
    struct sl_coordinator_env env; /* may be changed before the first boot */
    struct sl_coordinator *c;      /* NULL = down */
    uint64_t now, wake_at;
    bool holds; /* jobs wait for rig_run and rig_done; else they run at once */
    struct rig_job {
        struct sl_job *job;
        bool ran;
    } * jobs;
    size_t n_jobs;
    struct rig_answer *answers; /* by request id */
    size_t n_answers;
    json_t *lines; /* of the report, in order */
    uint8_t *records; /* of the last round with probes */
    size_t n_record_bytes;
    uint8_t *wire;
    uint8_t frame[SL_CHUNK_BYTES]; /* the attachment of the latest request ... */
    sl_request_id frame_of;        /* ... which is this one */
};

/* A plan of synthetic data; zeros stand for the values in brackets. */
struct rig_plan {
    const char *name;
    uint32_t rounds;    /* [2] */
    uint32_t clients;   /* [2] of the partition, 20 samples each */
    uint32_t per_round; /* [all] */
    uint32_t retries;   /* 0 */
    double quorum;      /* [1] */
    double over_select; /* [1] */
    enum {
        RIG_SMALL, /* 111 values */
        RIG_TWO,   /* 68,003 values: 2 chunks */
        RIG_WIDE,  /* 132,483 values: 3 chunks, the last of 5,644 bytes */
        RIG_EXACT, /* 65,536 values: 1 whole chunk */
        RIG_EIGHT, /* 524,288 values: 8 whole chunks */
    } shape;
    const char *selection; /* more keys of the section, with a comma in front */
    const char *run;
    const char *more; /* more sections */
};

void rig_init(struct rig *r);
void rig_deinit(struct rig *r);

void rig_boot(struct rig *r);
/* Drops the core with all jobs under way, as a kill or a power cut does; its requests are
 * never answered. */
void rig_kill(struct rig *r, bool power_cut);

/* Plan, queued or not. The caller deinits it. */
struct sl_plan rig_make_plan(const struct rig_plan *p);
uint64_t rig_submit(struct rig *r, const struct rig_plan *p);
void rig_enrol(struct rig *r, uint32_t first,
               uint32_t n); /* indices first, first + 1, ... */
struct sl_client_row rig_client(uint32_t index);
/* Boots, enrols all clients of the plan and submits it: its first round is open. */
uint64_t rig_start(struct rig *r, const struct rig_plan *p);

/* --- time and jobs --- */

void rig_time(struct rig *r, uint64_t at_ms); /* one event of time */
/* As the daemon: time passes, the core is told of it when it asked for that. */
void rig_sleep(struct rig *r, uint64_t until_ms);
void rig_run(struct rig *r, size_t i);  /* on a worker */
void rig_done(struct rig *r, size_t i); /* back on the loop; the job is off the list */
void rig_finish(struct rig *r, size_t i);
void rig_finish_all(struct rig *r); /* also those that come meanwhile, the oldest first */

/* --- requests: what they return is the id --- */

sl_request_id rig_send(struct rig *r, uint32_t client, const struct sl_msg *m);
bool rig_answered(const struct rig *r, sl_request_id id);
/* The answer; fails the test when there is none, or none of this kind. */
const struct sl_msg *rig_answer(const struct rig *r, sl_request_id id,
                                enum sl_msg_kind kind);
void rig_forget(struct rig *r, sl_request_id id);

sl_request_id rig_poll(struct rig *r, uint32_t client);
/* A poll that asks what became of an update. */
sl_request_id rig_poll_pending(struct rig *r, uint32_t client, uint64_t run,
                               uint32_t round);
sl_request_id rig_register(struct rig *r, uint32_t client, uint64_t own_samples);

/* The task a client is given now, by a poll; kind NONE when the poll is held. */
struct sl_task_order rig_task(struct rig *r, uint32_t client);

/* An update of equal values. */
struct rig_update {
    uint64_t run;
    uint32_t round;
    float *values;
    struct sl_blob_ref blob;
    struct sl_update_meta meta;
};
struct rig_update rig_update(const struct rig *r, uint64_t run, uint32_t round,
                             float value);
void rig_rename(struct rig_update *u); /* after its values changed */
void rig_update_deinit(struct rig_update *u);

size_t rig_chunks(const struct rig_update *u);
struct sl_msg rig_chunk(const struct rig_update *u,
                        size_t chunk); /* the last has the meta */
sl_request_id rig_put_chunk(struct rig *r, uint32_t client, const struct rig_update *u,
                            size_t chunk);
/* All chunks in order; the id of the last. */
sl_request_id rig_put(struct rig *r, uint32_t client, const struct rig_update *u);
/* A whole update of equal values, which nobody needs afterwards. */
sl_request_id rig_give(struct rig *r, uint32_t client, uint64_t run, uint32_t round,
                       float value);

/* --- what is to be seen --- */

/* Fails the test unless the put was answered so; reason: part of it, NULL = any. */
void rig_expect_put(const struct rig *r, sl_request_id id, enum sl_put_status status,
                    const char *reason);
/* Fails the test unless the open round's member is in this state ("waiting", "tasked",
 * "accepted", "failed") with this in its reason; state NULL = no member. */
void rig_expect_member(const struct rig *r, uint32_t client, const char *state,
                       const char *reason);
/* The n-th line of the report of this event, NULL = there is none; -1 = the last.
 * Borrowed. */
const json_t *rig_line(const struct rig *r, const char *event, int n);
size_t rig_lines(const struct rig *r, const char *event);
json_int_t rig_integer(const json_t *o, const char *key);
const char *rig_text(const json_t *o, const char *key);
/* "ID ROUND ATTEMPT PHASE" of the current run. */
void rig_expect_run(const struct rig *r, const char *want);
bool rig_fault(
    const struct rig *r); /* does the store refuse something, as status says? */
float rig_value(const struct rig *r); /* the model's first */
float rig_last_value(const struct rig *r);

#endif
