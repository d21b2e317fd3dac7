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
 * A round with probes (cfg.probe_ms > 0): its members train in two parts. Who has done the first is
 * PROBED and waits; sl_round_wants_decision tells when it is time to decide, sl_round_decide takes the
 * verdicts, once a round, whatever the attempt. Updates count only of those who go on, and quorum
 * is over them alone:
 *
 *   WAITING, TASKED --probed--> PROBED --go--> TASKED --update--> ACCEPTED
 *                                      \--stop--> STOPPED (final, no failure)
 *   WAITING, TASKED --silent at the decision--> FAILED
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
    SL_MEMBER_PROBED,   /* waits for the decision */
    SL_MEMBER_STOPPED,  /* finally, after its probe */
};

struct sl_round_cfg {
    uint32_t target;      /* over_select > 1: closes at this many updates; 0 = waits for all */
    uint32_t quorum;      /* updates needed at the deadline, 1..n_members */
    uint64_t deadline_ms; /* of one attempt */
    uint32_t max_retries;
    bool buffered;        /* with a target */
    uint64_t probe_ms;    /* at the latest so long after an attempt began is decided who goes on,
                             once anybody has probed; at most deadline_ms. 0 = without probes */
};

struct sl_member {
    uint32_t client;
    enum sl_member_state state;
    bool go;         /* was told to go on after its probe */
    char reason[64]; /* FAILED: why */
};

/* About a member that has not failed. */
enum sl_verdict { SL_VERDICT_SILENT, SL_VERDICT_GO, SL_VERDICT_STOP };

enum sl_round_event_kind {
    SL_ROUND_EV_TASKED,   /* client was given its task */
    SL_ROUND_EV_ACCEPTED, /* client's update is journalled */
    SL_ROUND_EV_FAILED,   /* client finally failed (reason) */
    SL_ROUND_EV_LOST,     /* an accepted update is unreadable: ask again */
    SL_ROUND_EV_TIME,     /* now_ms went on */
    SL_ROUND_EV_DRAWN,    /* of a buffer: an idle client has a task from now on */
    SL_ROUND_EV_PROBED,   /* client has reported its probe */
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
    bool decided;            /* of a round with probes, as all below */
    uint64_t probe_at_ms;    /* of this attempt */
    size_t n_probed, n_stopped; /* members in these states */
};

void sl_round_deinit(struct sl_round *r);

/* IDLE/CLOSED/FAILED -> OPEN with these members (ascending, distinct). `remaining_ms` is the full
 * deadline, or what was left of it when a journalled round goes on. */
enum sl_code sl_round_open(struct sl_round *r, const struct sl_round_cfg *cfg, uint32_t number,
                           uint32_t attempt, const uint32_t *clients, size_t n,
                           uint64_t now_ms, uint64_t remaining_ms, struct sl_err *err);

/* Touches only r; same inputs, same results. */
enum sl_round_action sl_round_step(struct sl_round *r, const struct sl_round_event *ev);

/* Everybody has probed or failed, or the time for probes is over and somebody has. */
bool sl_round_wants_decision(const struct sl_round *r, uint64_t now_ms);
/* verdicts[n_members] of enum sl_verdict, and the quorum of those who go on (at least 1). May close the
 * round. IGNORED when it is decided already or has no probes. */
enum sl_round_action sl_round_decide(struct sl_round *r, const uint8_t *verdicts,
                                     uint32_t quorum, uint64_t now_ms);

const struct sl_member *sl_round_member(const struct sl_round *r, uint32_t client);
uint64_t sl_round_remaining_ms(const struct sl_round *r, uint64_t now_ms);

#endif
