/* SPDX-License-Identifier: Apache-2.0 */
/* core.h - what the files of the coordinator share: coordinator.c (events), poll.c (tasks),
 * probe.c (who goes on after a probe), probe_facts.c (what that is decided from),
 * run_build.c (a run from its plan), run_restore.c (taking it up), run.c (from round to round),
 * upload.c (transfers, acceptance), update_walk.c (checks, sum), update_meta.c (what clients say of them),
 * buffer.c (versions instead of rounds), calibrate.c (statistics instead of updates), commit.c (closing a round),
 * step.c (the next model), spooled.c (single updates), best.c (the best model), status.c.
 * Nobody else includes this. */
#ifndef SL_SERVER_CORE_H
#define SL_SERVER_CORE_H

#include "accel/nn/model.h"
#include "accel/nn/train.h"
#include "accel/codec/codec.h"
#include "accel/nn/calibrate.h"
#include "accel/nn/plan_model.h"
#include "accel/units/setup.h"
#include "common/dataset.h"
#include "common/index_file.h"
#include "common/partition.h"
#include "server/aggregate.h"
#include "server/coordinator.h"
#include "server/registry.h"
#include "server/selection/decide.h"
#include "server/selection/selection.h"
#include "server/strategy/strategy.h"

#define TILE_VALUES (SL_CHUNK_BYTES / sizeof(float))
#define EVAL_BATCH 16
#define TICK_MS 1000 /* journalled deadline, expiry of held polls */

/* The check of an update of several chunks, on a worker. It knows what it was begun for: the round
 * may be over, or the member out, when it ends. On the run's list until `done`. */
struct check {
    struct sl_job job;
    struct check *next;
    struct run *run;
    uint32_t round, position, client, slot;
    struct sl_blob_ref blob;
    struct sl_update_meta meta;
    double clip; /* result, as struct upload's */
    enum sl_code rc;
    struct sl_err err;
};

/* What is known of a member's update; beside round.members, same position. */
struct upload {
    struct run *run;
    uint32_t position;
    struct sl_blob_ref blob;   /* being transferred, or accepted */
    struct sl_update_meta meta;
    double clip;               /* factor that brings it down to aggregation.clip_norm; 1 = none */
    uint8_t *have;             /* a bit a chunk; owned */
    uint32_t n_have;
    struct check *check;       /* under way for this update, or NULL */
    bool here;                 /* checked, and waits for the buffer that it may go into ... */
    uint32_t turn;             /* ... in the order of arrival */
    bool added;
    bool kept;                 /* statistics that the last calibration left */
    uint32_t order;            /* of acceptance */
    bool asks;                 /* a request waits for the check */
    sl_request_id request;
    uint64_t accepted_ms;
};

enum run_phase {
    RUN_WAITS,     /* for clients, or paused */
    RUN_OPEN,      /* a round is open */
    RUN_CLOSING,   /* closed: the last updates are being added */
    RUN_FINALISES, /* the job of commit.c is under way */
    RUN_CLIENT_EVAL, /* the final model is measured by the clients */
    RUN_OVER,
};

/* The one heavy job at a time: adding an update, or finalising a round. */
struct work {
    struct sl_job job;
    bool busy;
    struct upload *adds; /* NULL = finalises */
    enum sl_code rc;
    struct sl_err err;
    bool stepped; /* the open round's next model stands in the sum's place */
    bool due;     /* evaluate */
    struct sl_eval_result eval;
    uint8_t digest[SL_DIGEST_BYTES];
    struct sl_blob_id model_id;
    char checkpoint[64];
};

/* A client's task under asynchronous aggregation; position = client. */
struct flight {
    bool under_way; /* neither committed nor given up */
    bool tasked;    /* the client has been told */
    uint32_t start; /* the version of the model it begins from ... */
    struct sl_blob_id model; /* ... and its name */
    uint64_t due_ms; /* given up then, unless the update is here */
};

/* An update of the run that is replayed. */
struct recorded {
    uint32_t start, client, into;
};

struct buffers {
    struct flight *flight; /* [n_clients], owned; NULL: rounds */
    uint32_t given;        /* tasks that begin from the version at hand */
    uint32_t next_turn;
    uint64_t due_ms;       /* no task is due earlier */
    struct recorded *record; /* --replay: by start, then client; owned */
    size_t n_record;
};

struct client_eval { /* held-out shares, summed in client order at the end */
    struct sl_eval_counts *counts; /* by client; owned */
    bool *there;
    bool *asked; /* final phase: given the task */
    uint32_t n;
};

/* Calibrations: rounds whose updates are statistics (accel/nn/calibrate.h), added at the close in client
 * order. */
struct calibration {
    struct sl_calib_shape shape;
    uint64_t bytes;  /* of one client's statistics; 0 = this model can't be calibrated */
    uint32_t number; /* of the next one */
    uint32_t at;     /* rounds done before the last one, or the last try; UINT32_MAX = none yet */
    uint32_t kept_at; /* rounds done before the one whose statistics the journal names; as `at` */
    uint32_t wanted; /* on demand: those of numbers below this */
    bool adopted;    /* the run's model has a calibrated head */
    char checkpoint[64]; /* of the model that is adopted */
    /* of the one under way */
    float *values; /* the model with the new head; owned */
    double lambda;
    uint64_t clients, samples;
    struct sl_eval_result before, after;
};

/* What is known of a member's probe and of what followed; same position as in round.members. Times are
 * this clock's; samples and loss are the client's claims. */
struct probe {
    bool reported;
    float loss;
    uint32_t samples;
    bool timed;         /* tasked_ms is when its first task went out; else the round's opening counts */
    uint64_t tasked_ms;
    double probe_s;     /* reported, or silent: till the decision */
    uint8_t verdict;    /* enum sl_verdict, once it is known; why: enum sl_fedmarl_why */
    uint8_t why;
    bool redecided;     /* --replay: the policy decides otherwise than the record */
    float q[2];         /* fedmarl */
    uint64_t decided_ms, first_ms; /* it was told to go on; first chunk of its update */
    double rest_s, upload_s; /* once its update is in; NAN = not measured */
    bool asks;          /* a report of it is held */
    sl_request_id request;
    uint64_t asked_ms;
};

struct probing {
    bool on;                         /* the plan has probes */
    const struct sl_decide_ops *ops; /* NULL: everybody goes on */
    struct sl_fedmarl_policy policy;
    bool learned;                    /* policy is there, and its name ... */
    char digest[SL_DIGEST_HEX];
    bool changed;                    /* ... is another one than the run began with */
    struct sl_client_facts *known;   /* histories, as of the last commit; [n_clients], owned as all */
    struct sl_fedmarl_times probes, uploads, latencies;
    struct sl_oort oort;
    struct probe *member;            /* [n_clients] */
    struct sl_client_facts *rows;    /* [n_clients], of the open round's members */
    uint8_t *scratch;                /* [n_clients] */
    struct sl_decide_work work;
    double loss_scale;
    uint64_t max_samples;            /* most of a client's */
    json_t *decision;                /* the last in the journal, and its round */
    uint32_t decision_round;
};

/* A client's row of the plan's partition, and what its updates weigh. */
struct share {
    uint64_t train, held; /* samples */
    uint64_t weight;
};

struct run {
    struct sl_coordinator *c;
    uint64_t id;
    enum run_phase phase;
    struct sl_plan plan;
    char *plan_text;
    struct sl_blob_ref plan_ref;
    struct sl_blob_ref model_ref; /* values without a fixed head */
    struct sl_blob_ref head_ref;  /* the head; size 0 = none */
    struct sl_unit_setup unit; /* that evaluates: the plan's */
    struct sl_model *model;
    size_t n_values, n_all; /* that travel; with a fixed head, which stands behind them */
    struct sl_codec codec; /* of updates */
    struct sl_dataset test;
    uint32_t n_clients;
    struct share *share; /* of each client; owned */
    uint64_t all_weight; /* of all clients */
    float *values;
    float *sent; /* the model as it is sent: values; with control variates these behind it, owned */
    size_t n_sent;
    uint8_t digest[SL_DIGEST_BYTES];
    struct sl_sum sum;
    const struct sl_strategy_ops *strategy;
    const struct sl_selection_ops *selection;
    struct sl_index_table selection_file;
    float *state; /* [n_state]; control variates are not in it */
    size_t n_state;
    struct sl_trainer *trainer;
    struct sl_round round;
    struct upload *uploads; /* n_slots */
    uint32_t n_slots, next_order;
    struct check *checks;      /* under way, of whatever round; owned */
    uint64_t weight_in;        /* of the open round's accepted updates */
    uint32_t next_round;
    struct work work;
    struct buffers buffers;
    struct probing probing;
    struct calibration calib;
    struct client_eval eval;
    uint64_t eval_deadline_ms;
    uint64_t opened_ms, journalled_ms;
    bool unjournalled; /* the attempt is repeated, and the store does not know yet */
    double wall_open, wall_s;
    uint64_t wire_open, bytes_up, bytes_down;
    double accuracy, loss;
    struct best {
        bool present, calibrated;
        uint32_t round;
        double accuracy;
        char checkpoint[64];
    } best; /* model that was evaluated by the coordinator */
    bool has_accuracy;
    bool active, started; /* the state in the store, the report's first line */
    bool failed, end_reported, ended; /* the end: how, in the report, in the registry of runs */
    char end_reason[SL_WIRE_REASON];
};

struct run_entry {
    uint64_t id;
    enum sl_run_state state;
    char name[SL_PLAN_NAME];
    char reason[SL_WIRE_REASON];
    char *plan_text; /* of a queued or active one; owned */
    uint32_t calibrations; /* asked for when it was loaded */
};

struct sl_coordinator {
    struct sl_coordinator_env env;
    struct sl_registry registry;
    struct run_entry *runs;
    size_t n_runs;
    struct run *run; /* active, or the last */
    uint64_t now_ms, timed_ms; /* of the last event, of the last of time */
    uint64_t again_ms;         /* when what failed is tried again; 0 = nothing did */
    bool paused, draining;
    struct sl_err fault; /* the store failed; tried again at the next tick */
    char said[SL_ERR_MAX]; /* the fault that was logged last, until something is committed */
    struct stalled {     /* chunks that could not be spooled: asked for again at the next tick */
        sl_request_id id;
        uint64_t offset;
    } *stalled;
    size_t n_stalled;
};

/* --- run_build.c --- */
enum sl_code run_build(struct sl_coordinator *c, uint64_t id, const struct sl_plan *plan,
                       struct run **ret, struct sl_err *err);
void run_free(struct run *r);
void run_name_model(struct run *r); /* as it is sent; from r->values and what variates there are */

/* --- run_restore.c --- */
/* Takes up the active run of the store, or the next one of the queue. */
enum sl_code run_take_up(struct sl_coordinator *c, struct sl_err *err);
/* The last run that is done, to be calibrated; SL_E_NOTFOUND when there is none. */
enum sl_code run_take_up_done(struct sl_coordinator *c, struct sl_err *err);
/* Is there a run to be taken up now? */
bool run_waits_in_queue(const struct sl_coordinator *c);

/* --- run.c --- */
/* Opens the next round, ends the run, or waits: whatever is next between rounds. */
void run_proceed(struct run *r);
void run_end(struct run *r, bool failed, const char *reason);
/* The line of the report, then the state; a kill between them is mended by `restore`, a refusal of the
 * store by run_retry. */
void run_put_end(struct run *r);
/* false: the store refused it. */
bool run_set_state(struct run *r, enum sl_run_state state, const char *reason);
struct sl_round_cfg run_round_cfg(const struct run *r, size_t n_members);
/* The round is open, and was for spent_ms before a restart. */
void run_begin_counting(struct run *r, uint64_t spent_ms);
/* What the store refused: tried again. */
void run_retry(struct run *r);
bool run_target_reached(const struct run *r);
bool run_idle(const struct run *r); /* no job under way */
void run_report(struct run *r, json_t *line); /* hands it out; the store has it already */
struct run_entry *run_entry_of(struct sl_coordinator *c, uint64_t id);
bool run_due(const struct run *r, uint32_t round); /* is the model after this round measured? */
bool run_asks_eval(const struct run *r); /* do this round's tasks ask for an evaluation? */

/* A line to the store, then out. Steals line. false: the store refused it. */
bool run_put_report(struct run *r, json_t *line);

/* Rows of lines of the report. */
json_t *run_not_included(const struct run *r);

/* --- calibrate.c --- */
bool calibrate_under_way(const struct run *r); /* is the open round a calibration? */
/* Opens one if it is its turn. true: it is open, or the store refused it. */
bool calibrate_proceed(struct run *r);
void calibrate_start(struct run *r); /* all statistics are in: sums, solves, measures */
/* A line of the stored report: what was done. */
void calibrate_recall(struct run *r, const json_t *line);
enum sl_code calibrate_restore(struct run *r, struct sl_err *err); /* the adopted model */
/* Room for as many members as there are clients. */
enum sl_code calibrate_ready(struct run *r, struct sl_err *err);
/* Members of the open calibration whose statistics for this model are there already have answered. */
enum sl_code calibrate_keep(struct run *r, struct sl_err *err);
/* Could these n bytes be client's statistics? SL_E_REJECTED with the reason. Any thread. */
enum sl_code calibrate_check(const struct run *r, uint32_t client, const struct sl_update_meta *m,
                             const uint8_t *bytes, size_t n, struct sl_err *err);
enum sl_code calibrate_check_meta(const struct run *r, uint32_t client,
                                  const struct sl_update_meta *m, struct sl_err *err);
uint64_t calibrate_slot_bytes(const struct run *r); /* of the spool */

/* --- probe.c --- */
bool probe_on(const struct run *r); /* do members of the open round probe? */
/* SL_E_INPUT and the like for a policy file that can't be used. */
enum sl_code probe_build(struct run *r, struct sl_err *err);
void probe_free(struct run *r);
void probe_reset(struct run *r); /* a round begins */
uint64_t probe_time_ms(const struct run *r); /* of sl_round_cfg */
uint64_t probe_wake_ms(const struct run *r); /* UINT64_MAX = no need */
void probe_open(struct run *r);    /* the round is open */
void probe_restore(struct run *r); /* it is again: the decision in the journal holds */
void probe_act(struct run *r);     /* something has changed: decides if it is time */
void probe_ask_again(struct run *r); /* whoever waits is to report again, or knows its verdict */
void probe_close(struct run *r);   /* the round is over: whoever waits is told so */
void probe_expire(struct run *r);  /* answers reports held long enough */
void probe_forget(struct run *r, sl_request_id id);
void probe_take(struct sl_coordinator *c, uint32_t client, sl_request_id id,
                const struct sl_msg *m);
void probe_tasked(struct run *r, size_t position);
void probe_first_chunk(struct run *r, size_t position);
void probe_uploaded(struct run *r, size_t position, uint32_t n_chunks);

/* --- probe_facts.c --- */
/* Fills probing.rows. Verdicts but for `silent` need not be known. */
void probe_facts(struct run *r, struct sl_round_facts *ret);
json_t *probe_member_json(const struct run *r, size_t position);
json_t *probe_members_json(const struct run *r);
void probe_read_members(struct run *r, const json_t *list);
/* Of the record's line of that round; NULL = it has none. Borrowed. */
const json_t *probe_recorded(const struct run *r, uint32_t round, const char *key);
void probe_recall_times(struct run *r);    /* the record's instead of the measured ones */
void probe_recall_verdicts(struct run *r); /* and notes where they differ */
void probe_report(struct run *r, json_t *line); /* adds to a round's line; logs its records */
void probe_observe(struct run *r, const json_t *line); /* a committed round's line into the histories */
void probe_recall(struct run *r, const json_t *line);  /* a line of the stored report */

/* --- upload.c --- */
uint64_t upload_bytes(const struct run *r); /* of an update of the open round */
void upload_put(struct sl_coordinator *c, uint32_t client, sl_request_id id, const struct sl_msg *m);
void upload_reset(struct upload *u); /* forgets what was transferred */
/* Of a client that is out: what it sent so far is void, whatever becomes of the round. */
void upload_drop(struct run *r, uint32_t client, const char *reason);
/* The round is over: who still waits for a check is told so. */
void upload_close(struct run *r);
/* A good update into the sum: journal, acknowledge, add. bytes: of a one-chunk update, else NULL. */
void upload_accept(struct run *r, struct upload *u, const uint8_t *bytes);
/* Adds what is accepted and not added yet, or goes on to finalise. */
void upload_advance(struct run *r);
/* Where a member's update lies in the spool: statistics in a slot that is their client's own, so that they
 * stay for the next calibration. */
uint32_t upload_slot(const struct run *r, uint32_t position);
/* The member's update is in, as the journal says: its blob and meta are set. May close the round. */
void upload_take_up(struct run *r, uint32_t position, const struct sl_member_row *row);
/* An accepted update as journalled: verified against its id, then added. */
enum sl_code upload_restore(struct run *r, uint32_t position, const struct sl_member_row *row,
                            struct sl_err *err);


/* --- update_walk.c; any thread --- */
/* Where an update lies: in memory, or in a slot of the spool. */
struct source {
    const uint8_t *bytes; /* NULL: in the spool */
    uint32_t slot;
};
/* Hash and values, of statistics too. *ret_clip: the factor that brings the update down to the norm that is
 * allowed. */
enum sl_code walk_check(struct run *r, struct source from, uint32_t client,
                        const struct sl_update_meta *meta, const struct sl_blob_id *id,
                        double *ret_clip, struct sl_err *err);
enum sl_code walk_add(const struct upload *u, struct source from, struct sl_err *err); /* into the sum */

/* --- buffer.c --- */
/* Does this run aggregate asynchronously, and is it no calibration that is open? */
bool buffer_on(const struct run *r);
/* Once the clients are counted and the uploads are there. SL_E_INPUT for a record that can't be replayed. */
enum sl_code buffer_build(struct run *r, struct sl_err *err);
void buffer_free(struct run *r);
/* Opens the next version. */
void buffer_open(struct run *r);
/* After a restart: the tasks, and the version that is open, NULL = none. */
enum sl_code buffer_restore(struct run *r, const struct sl_open_round *open, struct sl_err *err);
enum sl_code buffer_journal_attempt(struct run *r, struct sl_err *err);
/* Something has changed: tasks that failed are over, and places are given anew. */
void buffer_act(struct run *r);
/* Gives up what is overdue. */
void buffer_time(struct run *r);
uint64_t buffer_wake_ms(const struct run *r); /* UINT64_MAX = no need */
/* The version is committed: its updates' tasks are over; all of them when it was the last. */
void buffer_committed(struct run *r);
/* Is an update of this client that began from that version awaited? */
bool buffer_awaits(const struct run *r, uint32_t client, uint32_t start);
/* The round that the member at this position belongs to: the open one, or the version its task begins from. */
uint32_t buffer_start(const struct run *r, size_t position);
double buffer_damping(const struct upload *u); /* its factor by age; 1 in rounds */
/* A good update: into the open buffer, or it waits for the one that it may go into. */
void buffer_take(struct run *r, struct upload *u, const uint8_t *bytes);
void buffer_void(struct run *r, uint32_t client); /* its task is over, unless its update is accepted */
/* Is it known that the update that the client's poll names, which no buffer committed, never will be? */
bool buffer_settles(struct run *r, uint32_t client, const struct sl_msg *poll);
/* The task that a waiting or tasked client is to be told of now, NULL = none. */
const struct flight *buffer_order(struct run *r, uint32_t client, const struct sl_msg *poll);

/* --- step.c --- */
/* The next model, in the sum's place, and what goes behind it; once step_model has been called for the
 * open round. */
float *step_next(const struct run *r);
/* On a worker. Once a round: a second call after a refusal of the store finds the model made. */
enum sl_code step_model(struct run *r, struct sl_err *err);
void step_name_next(const struct run *r, struct sl_blob_id *ret); /* as it will be sent */
void step_adopt(struct run *r); /* the next model is the model */
/* Server state that a commit stores; n floats, NULL when there are none. Of the next model, or now. */
const float *step_next_state(const struct run *r, size_t *ret_n);
float *step_state(const struct run *r, size_t *ret_n);

/* --- best.c --- */
/* The run's best model once the line of a round or calibration is committed. */
struct best best_after(const struct run *r, const json_t *line);
json_t *best_json(const struct run *r); /* null when there is none */

/* --- spooled.c --- */
/* The open round's accepted updates, by client, clipped; any number of times. */
struct spooled {
    struct run *r;
    struct sl_update_source source; /* its ctx is this object, which must not move */
    const struct upload **upload;   /* [k], owned, as all below */
    double *weight;
    struct sl_decoder *decoder;
    uint8_t *bytes;
};
enum sl_code spooled_open(struct run *r, struct spooled *ret, struct sl_err *err);
void spooled_close(struct spooled *s);

/* --- update_meta.c --- */
uint64_t meta_samples(const struct run *r, uint32_t client); /* that it trains on, at most */
bool meta_own_data(const struct run *r, uint32_t client);
/* What can be said of an update without its values. SL_E_REJECTED with the reason. */
enum sl_code meta_check(const struct run *r, uint32_t client, const struct sl_update_meta *m,
                        struct sl_err *err);
enum sl_code meta_check_eval(const struct run *r, uint32_t client, const struct sl_eval_counts *e,
                             struct sl_err *err);

/* --- commit.c --- */
void commit_start(struct run *r);
void commit_act(struct run *r, enum sl_round_action action);
/* Journals a repeated attempt and tells its members, unless that is done. false: the store refused it;
 * until it is done no task of the attempt is given and no update accepted. */
bool commit_attempt(struct run *r);

/* --- poll.c --- */
void poll_take(struct sl_coordinator *c, struct sl_client_entry *e, sl_request_id id,
               const struct sl_msg *m);
void poll_serve(struct sl_coordinator *c); /* answers held polls that can be answered */
void poll_serve_client(struct sl_coordinator *c, uint32_t client); /* only this one's */
void poll_release(struct sl_client_entry *e); /* forgets the poll that is held */
void poll_expire(struct sl_coordinator *c);   /* answers those held long enough */
/* Under run.reproducible: strict, members that compute with another fp32 kernel are out. Apart from the
 * answering of polls, since it may close the round. */
void poll_refuse_kernels(struct sl_coordinator *c);
uint64_t poll_bytes_down(const struct run *r, uint32_t round); /* of a task that began with it */
uint64_t poll_bytes_up(const struct run *r, const struct upload *u);
uint64_t poll_bytes_fetch(const struct run *r); /* up: the poll and the requests for the model */
uint64_t poll_bytes_probe(const struct run *r, size_t position, bool down); /* report, or decision */

/* --- coordinator.c --- */
#define ROUND_NAME 24
/* "round 3", "calibration 0" of a number with its kind; returns ret. */
const char *core_round_name(uint32_t round, char ret[ROUND_NAME]);
void core_reply_put(struct sl_coordinator *c, sl_request_id id, enum sl_put_status status,
                    uint64_t next_offset, const char *reason);
void core_fault(struct sl_coordinator *c, enum sl_code code, const struct sl_err *err);
/* Asks for the next time event. Last in every event, those of finished jobs too: deadlines may have come or
 * gone. */
void core_wake(struct sl_coordinator *c);
/* Answers MORE at offset at the next tick. */
void core_stall(struct sl_coordinator *c, sl_request_id id, uint64_t offset);

#endif
