/* SPDX-License-Identifier: Apache-2.0 */
/* round.h - one training round as a pure state machine (DESIGN section 3).
 * Owns: the member table. Thread: loop thread only. Never reads a clock, draws numbers, sends,
 * stores or logs: time comes with the event, and what has to be done comes back as an action.
 *
 *            open                update (last one needed)
 *   IDLE ----------> OPEN -----------------------------------> CLOSED(commit)
 *                     |  deadline or all final, >= quorum ----->   "
 *                     |  deadline or all final, < quorum, retries left: attempt + 1, deadline anew,
 *                     |        accepted updates stay, the others are asked again  -> OPEN
 *                     +- the same, no retries left ------------> FAILED
 *
 * A buffer (cfg.buffered; asynchronous aggregation) is a round whose members come and go: all of them
 * begin idle, DRAWN gives one a task, and the target alone closes it before the deadline. An attempt
 * that is repeated keeps tasks under way and makes failed members idle.
 *
 * A late, repeated or foreign event changes nothing and says so (SL_ROUND_IGNORED). */
#ifndef SL_SERVER_ROUND_H
#define SL_SERVER_ROUND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"

enum sl_round_state { SL_ROUND_IDLE, SL_ROUND_OPEN, SL_ROUND_CLOSED, SL_ROUND_FAILED };

enum sl_member_state {
    SL_MEMBER_WAITING,  /* selected, has not asked yet */
    SL_MEMBER_TASKED,   /* has been given the task of this attempt */
    SL_MEMBER_ACCEPTED, /* its update is journalled */
    SL_MEMBER_FAILED,   /* finally failed, or rejected */
    SL_MEMBER_IDLE,     /* of a buffer: without a task */
};

struct sl_round_cfg {
    uint32_t target;      /* over_select > 1: closes at this many updates; 0 = waits for all */
    uint32_t quorum;      /* updates needed at the deadline, 1..n_members */
    uint64_t deadline_ms; /* of one attempt */
    uint32_t max_retries;
    bool buffered;        /* with a target */
};

struct sl_member {
    uint32_t client;
    enum sl_member_state state;
    char reason[64]; /* FAILED: why */
};

enum sl_round_event_kind {
    SL_ROUND_EV_TASKED,   /* client was given its task */
    SL_ROUND_EV_ACCEPTED, /* client's update is journalled */
    SL_ROUND_EV_FAILED,   /* client finally failed (reason) */
    SL_ROUND_EV_LOST,     /* an accepted update is unreadable: ask again */
    SL_ROUND_EV_TIME,     /* now_ms went on */
    SL_ROUND_EV_DRAWN,    /* of a buffer: an idle client has a task from now on */
};

struct sl_round_event {
    enum sl_round_event_kind kind;
    uint64_t now_ms;
    uint32_t client;
    const char *reason; /* FAILED */
};

enum sl_round_action {
    SL_ROUND_IGNORED,  /* not a member, late or repeated */
    SL_ROUND_NOTHING,  /* state taken note of */
    SL_ROUND_COMMIT,   /* closed: aggregate and commit the accepted updates */
    SL_ROUND_REPEAT,   /* a new attempt is open: tell the members not accepted */
    SL_ROUND_GIVE_UP,  /* failed: quorum not reached and no retries left */
};

struct sl_round {
    enum sl_round_state state;
    struct sl_round_cfg cfg;
    uint32_t number, attempt;
    uint64_t deadline_at_ms; /* on the caller's monotonic clock */
    struct sl_member *members; /* ascending by client, owned */
    size_t n_members;
    size_t n_accepted, n_failed;
};

void sl_round_deinit(struct sl_round *r);

/* IDLE/CLOSED/FAILED -> OPEN with these members (ascending, distinct). `remaining_ms` is the full
 * deadline, or what was left of it when a journalled round goes on. */
enum sl_code sl_round_open(struct sl_round *r, const struct sl_round_cfg *cfg, uint32_t number,
                           uint32_t attempt, const uint32_t *clients, size_t n,
                           uint64_t now_ms, uint64_t remaining_ms, struct sl_err *err);

/* Touches only r; same inputs, same results. */
enum sl_round_action sl_round_step(struct sl_round *r, const struct sl_round_event *ev);

const struct sl_member *sl_round_member(const struct sl_round *r, uint32_t client);
uint64_t sl_round_remaining_ms(const struct sl_round *r, uint64_t now_ms);

#endif
