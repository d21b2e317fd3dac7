/* SPDX-License-Identifier: Apache-2.0 */
/* task.h - what a client does next, as a pure state machine (DESIGN section 3, step 2).
 * Touches only itself and the list of actions; never reads a clock, draws numbers, sends,
 * stores or logs: time comes with the event, and what has to be done comes back as
 * actions, some of which are answered by an event of their own. Thread: loop thread only.
 *
 * The link: DOWN --connected--> REGISTERING --registered--> UP; a lost request leads back
 * to DOWN, an answer that makes no sense to PAUSED, which registers anew after a while.
 * Nothing is sent unless the link is UP. Beside it, untouched by all that:
 *
 *   IDLE --time--> POLLING --nothing to do--> IDLE
 *                     |  task whose update is kept: CHECKING --bytes are good--> PUSHING
 *                     |                                 \--damaged--> PLAN
 *                     +--any other task--> PLAN --there--> HEAD --there--> MODEL --there-->
 *                                          WORKING (HEAD: of a model with a fixed one)
 *   WORKING --probe epoch done--> PROBED --go--> WORKING
 *                                        \--stop--> POLLING
 *   WORKING --update made and kept--> PUSHING --accepted, rejected, stale--> POLLING
 *           --evaluated, or failed--> REPORTING --acknowledged--> POLLING (or IDLE)
 *   PLAN, HEAD, MODEL --the coordinator has the blob no more--> POLLING
 *
 * A kept update stays until the coordinator reports its round settled, refuses it, or
 * gives a task of another round, after which its own can't come back. A late, repeated or
 * foreign event (an id that is not open, an answer to an earlier session) changes
 * nothing. */
#ifndef SL_CLIENT_TASK_H
#define SL_CLIENT_TASK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "client/client_store.h"
#include "common/wire.h"

#define SL_TASK_WINDOW 2        /* requests open at once, a registration apart */
#define SL_TASK_PAUSE_MS 500    /* draining coordinator, failed task, blobs gone */
#define SL_TASK_REFUSED_MS 2000 /* an answer that makes no sense */
#define SL_TASK_AGAIN_MAX 3     /* answers "more" to a last chunk before a pause */
#define SL_TASK_ACTIONS_MAX 16  /* of one step */
#define SL_TASK_NEVER UINT64_MAX

enum sl_link_state { SL_LINK_DOWN, SL_LINK_REGISTERING, SL_LINK_UP, SL_LINK_PAUSED };

enum sl_task_state {
    SL_TASK_IDLE,
    SL_TASK_POLLING,
    SL_TASK_CHECKING, /* is what is kept still good? answered by KEPT */
    SL_TASK_PLAN,     /* fetching it */
    SL_TASK_HEAD,
    SL_TASK_MODEL,
    SL_TASK_WORKING,
    SL_TASK_PROBED, /* reports, and waits for the decision */
    SL_TASK_PUSHING,
    SL_TASK_REPORTING, /* a failure or an evaluation */
};

enum sl_blob_kind { SL_BLOB_PLAN, SL_BLOB_HEAD, SL_BLOB_MODEL };
#define SL_BLOB_KINDS 3

enum sl_task_event_kind {
    SL_TASK_EV_CONNECTED,    /* a new session; requests of the earlier one are lost */
    SL_TASK_EV_DISCONNECTED, /* the session is gone, and all open requests with it */
    SL_TASK_EV_REPLY,        /* id, msg */
    SL_TASK_EV_LOST,         /* id: its session ended first */
    SL_TASK_EV_TIME,
    SL_TASK_EV_DRAIN, /* no new task */
    SL_TASK_EV_KEPT,  /* answers LOAD_KEPT: kept, or NULL when it is not there or damaged
                       */
    SL_TASK_EV_BLOB,  /* answers FINISH_BLOB: all bytes are there and checked */
    SL_TASK_EV_BLOB_FAILED, /* answers any blob action: reason */
    SL_TASK_EV_UNREADABLE,  /* answers SEND_PUT: the kept bytes can't be read */
    SL_TASK_EV_DONE,        /* answers WORK, GO_ON: kept, or eval, or reason */
    SL_TASK_EV_PROBED,      /* answers WORK: loss, samples; the worker waits */
};

struct sl_task_event {
    enum sl_task_event_kind kind;
    uint64_t now_ms;
    uint64_t id;
    const struct sl_msg *msg;
    const struct sl_kept_update *kept;
    const struct sl_eval_counts *eval;
    const char *reason;
    float loss;
    uint32_t samples;
};

enum sl_task_action_kind {
    SL_TASK_SEND_REGISTER, /* id */
    SL_TASK_SEND_POLL,     /* id */
    SL_TASK_SEND_GET,      /* id, ref, offset, n */
    SL_TASK_SEND_PUT,      /* id, offset, n; last: with meta */
    SL_TASK_SEND_FAILED,   /* id */
    SL_TASK_SEND_EVAL,     /* id */
    SL_TASK_SEND_PROBE,    /* id */
    SL_TASK_BEGIN_BLOB,    /* blob, ref */
    SL_TASK_WRITE_BLOB,    /* blob, ref, offset: the attachment of the event's message */
    SL_TASK_FINISH_BLOB,   /* blob, ref */
    SL_TASK_RELEASE_BLOB,  /* blob, ref */
    SL_TASK_LOAD_KEPT,
    SL_TASK_COMMIT_STATE, /* the kept update's round is committed with it */
    SL_TASK_DROP_KEPT,
    SL_TASK_WORK,
    SL_TASK_GO_ON, /* the worker that has probed */
    SL_TASK_STOP,  /* what it has done so far is of no use */
    SL_TASK_SAY, /* note: something an operator wants to read */
};

enum sl_task_note {
    SL_NOTE_REGISTERED,
    SL_NOTE_TASK,    /* a task begins */
    SL_NOTE_AGAIN,   /* what is kept is pushed for it */
    SL_NOTE_DAMAGED, /* what is kept is not there or damaged: trained again */
    SL_NOTE_ACCEPTED,
    SL_NOTE_REJECTED,  /* t->reason */
    SL_NOTE_STALE,     /* t->reason */
    SL_NOTE_COMMITTED, /* settled, the update is in the model */
    SL_NOTE_LEFT_OUT,  /* settled without it */
    SL_NOTE_GONE,      /* the task's blobs are not there any more: t->reason */
    SL_NOTE_FAILED,    /* t->reason */
    SL_NOTE_REFUSED,   /* an answer that makes no sense: t->reason */
    SL_NOTE_STOPPED,   /* after its probe; t->reason, if there is one */
    SL_NOTE_DRAINING,  /* the coordinator is about to stop */
};

struct sl_task_action {
    enum sl_task_action_kind kind;
    enum sl_blob_kind blob;
    enum sl_task_note note;
    bool last;
    uint32_t n;
    uint64_t id, offset;
    struct sl_blob_ref ref;
};

struct sl_task_actions {
    size_t n;
    struct sl_task_action a[SL_TASK_ACTIONS_MAX];
};

enum sl_hold { SL_HOLD_NONE, SL_HOLD_PART, SL_HOLD_WHOLE };

enum sl_slot_use { SL_SLOT_FREE, SL_SLOT_OPEN, SL_SLOT_LOST, SL_SLOT_ABANDONED };

struct sl_task_slot {
    uint64_t id, offset;
    uint8_t use;
};

struct sl_task {
    enum sl_link_state link;
    enum sl_task_state state;
    bool draining;                 /* this client */
    uint8_t hold[SL_BLOB_KINDS];   /* enum sl_hold: of blob[], by enum sl_blob_kind */
    bool kept_present, kept_accepted;
    bool failed;                   /* REPORTING: a failure, otherwise `eval` */
    bool probe_waits;              /* PROBED: not asked before idle_until_ms */
    uint8_t again;                 /* how often the last chunk was answered by "more" */
    uint32_t index;                /* once registered */
    uint64_t next_id, register_id; /* register_id 0 = none open */
    uint64_t idle_until_ms, pause_until_ms; /* SL_TASK_NEVER = not by time */
    uint64_t next_offset; /* first byte not asked for, or not sent, yet */
    struct sl_task_slot slot[SL_TASK_WINDOW];
    struct sl_blob_ref blob[SL_BLOB_KINDS]; /* plan and head: kept for the next task */
    struct sl_task_order order;
    struct sl_kept_update kept;
    struct sl_eval_counts eval;
    float loss; /* of the probe */
    uint32_t samples;
    char reason[SL_WIRE_REASON];
};

/* A machine without a link. kept: what the store holds, NULL = nothing. */
void sl_task_init(struct sl_task *t, const struct sl_kept_update *kept);

/* Same machine and event, same result. Carry the actions out in order; answers go into
 * steps of their own, after the list is done; behind a failed blob action only the other
 * blob actions are left out. */
void sl_task_step(struct sl_task *t, const struct sl_task_event *ev,
                  struct sl_task_actions *out);

/* When it wants a TIME event; SL_TASK_NEVER = not at all. */
uint64_t sl_task_wake_at(const struct sl_task *t);

/* Nothing under way: no task is worked on, pushed or reported. */
bool sl_task_at_rest(const struct sl_task *t);

#endif
