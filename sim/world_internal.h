/* SPDX-License-Identifier: Apache-2.0 */
/* world_internal.h - the world's insides, shared by world.c (life, coordinator, kills),
 * world_link.c (requests and replies on their way) and world_clients.c (clients and their
 * training). */
#ifndef SL_SIM_WORLD_INTERNAL_H
#define SL_SIM_WORLD_INTERNAL_H

#include "client/client.h"
#include "common/jobs.h"
#include "server/coordinator.h"
#include "sim/blob_cache.h"
#include "sim/events.h"
#include "sim/fault.h"
#include "sim/network.h"
#include "sim/training.h"
#include "sim/vfile.h"
#include "sim/workers.h"
#include "sim/world.h"

#define NONE UINT32_MAX
#define RESEND_US                                                                        \
    12000000u /* REQ sends a request again after this long without a reply */
#define RECONNECT_US 1000000u /* a session is renewed within this time */

enum event_kind {
    EV_REQUEST,          /* token: arrives at the coordinator */
    EV_REPLY,            /* token: arrives at the client */
    EV_RESEND,           /* token: no reply yet */
    EV_CUT,              /* client: its connection */
    EV_CONNECT,          /* client: a new session is up */
    EV_CLIENT_TIME,      /* client, token: generation of its alarm */
    EV_CLIENT_START,     /* client: starts, first or again */
    EV_TRAINED,          /* client: its device has finished */
    EV_COORDINATOR_TIME, /* token: generation of its alarm */
    EV_COORDINATOR_START,
    EV_JOB_RUN,  /* token: the coordinator's job, to be run and done */
    EV_JOB_DONE, /* token: the coordinator's job, to be done */
};

/* A request from its first sending to the arrival of its reply. */
struct request {
    uint64_t id;    /* the client's */
    uint8_t *bytes; /* as packed, for sending again */
    uint8_t *reply; /* as packed; NULL = none yet */
    uint32_t n_bytes, n_reply;
    uint32_t client;
    uint32_t generation; /* of this table entry */
    uint32_t flight;     /* messages of earlier flights are lost */
    uint32_t next;       /* of the client's list, or of the free list */
    uint8_t kind;
    bool used, at_coordinator;
};

/* A client's task on its device. */
struct work {
    struct sl_worker_job job;
    struct sl_world *w;
    struct sl_training *training;
    struct sl_training_task task;
    struct sl_training_result result;
    struct sl_task_order order;
    struct sl_blob_ref model, head; /* one more holder while the worker reads them */
    uint32_t client, boot;
};

struct vclient {
    struct sl_world *w;
    struct sl_client *core; /* NULL while it is down */
    struct sl_vstore store;
    struct work *work; /* NULL = none */
    const struct sl_client_job *job; /* of a client that has probed; the core's */
    uint64_t up_free_us, down_free_us;
    uint32_t index, boot;
    uint32_t epoch; /* start of the coordinator that its session belongs to; 0 = none */
    uint32_t alarm; /* generation */
    uint32_t first_request; /* list */
    struct sl_blob_ref held[SL_CLIENT_BLOBS];
    uint8_t n_held;
    bool connecting;        /* an EV_CONNECT is under way */
    bool away;              /* a dropout: neither hears nor speaks ... */
    uint64_t away_until_us; /* ... until then */
};

struct sl_world {
    struct sl_world_options opt;
    struct sl_events events;
    uint64_t now_us;
    struct sl_faults faults;
    struct sl_device_model devices;
    struct sl_network_model network;
    struct sl_vfile file, states; /* updates; what clients carry over */
    struct sl_blob_cache blobs;
    struct sl_workers *workers;
    struct sl_training **training; /* [n_plans] */
    uint64_t *runs;                /* [n_plans] */
    struct sl_store *store;
    struct sl_coordinator *core; /* NULL while it is down */
    struct sl_executor executor;
    uint32_t epoch; /* starts of the coordinator */
    uint32_t alarm;
    struct vclient *clients;
    uint32_t n_clients;
    struct request *requests;
    uint32_t n_requests, cap_requests, free_request;
    size_t used_requests;
    uint32_t round;  /* the first that is not committed */
    bool round_done; /* a round was reported in this step */
    uint64_t round_run;
    uint32_t round_number;
    struct sl_world_stats stats;
    struct sl_err failure;           /* first thing that went wrong inside a callback */
    char end_reason[SL_WIRE_REASON]; /* of the first run that failed */
};

/* Notes the first failure; the run ends with it. */
void world_fail(struct sl_world *w, enum sl_code rc, const char *what);
void world_push(struct sl_world *w, enum event_kind kind, uint64_t at_us, uint32_t client,
                uint64_t token, uint32_t flight);
static inline uint64_t world_now_ms(const struct sl_world *w)
{
    return w->now_us / 1000;
}

/* world_link.c */
void link_send(struct vclient *v, uint64_t id, const struct sl_msg *m);
void link_reply(struct sl_world *w, uint64_t token, const struct sl_msg *m);
void link_event(struct sl_world *w, const struct sl_sim_event *e);
/* The client is gone: its requests too. */
void link_forget_client(struct vclient *v);
/* A new session: open requests are told lost. */
void link_lose(struct vclient *v);
/* The coordinator is gone; replies on their way arrive or not. */
void link_coordinator_gone(struct sl_world *w);
void link_deinit(struct sl_world *w);

/* world_clients.c */
enum sl_code clients_init(struct sl_world *w, struct sl_err *err);
void clients_deinit(struct sl_world *w);
void clients_event(struct sl_world *w, const struct sl_sim_event *e);
void clients_kill(struct sl_world *w);
/* Ask for a new session at `at_us`, unless that is under way. */
void clients_connect(struct vclient *v, uint64_t at_us);
/* The client was selected, and stays away until the deadline. */
void clients_drop_out(struct vclient *v, uint64_t back_us);

#endif
