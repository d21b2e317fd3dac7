/* SPDX-License-Identifier: Apache-2.0 */
/* facts.h - what the coordinator knows about the clients of a round once they have probed: plain
 * values, all that a decision may look at (decide.h). Loss and samples are the client's claims,
 * times are the coordinator's own clock. Histories are the newest first. */
#ifndef SL_SERVER_SELECTION_FACTS_H
#define SL_SERVER_SELECTION_FACTS_H

#include <stdbool.h>
#include <stdint.h>

#define SL_FACTS_HISTORY 8

struct sl_client_facts {
    uint32_t client;         /* index; distinct within a round */
    bool reported;           /* a valid probe report is in; never accepted otherwise */
    double probe_loss;       /* mean over the probe epoch */
    uint64_t samples;        /* >= 1 */
    uint64_t upload_bytes;   /* of its update, as encoded */
    uint32_t n_probe;        /* entries of probe_s, at most SL_FACTS_HISTORY */
    uint32_t n_upload;       /* the same of upload_s */
    double probe_s[SL_FACTS_HISTORY];  /* [0] is this round's */
    double upload_s[SL_FACTS_HISTORY]; /* this round's is not known yet */
    uint64_t accepted;       /* bit i: it was accepted i + 1 rounds ago */
    uint32_t idle_rounds;    /* since it was accepted, 0: in the round before; since enrolment when never */
    double message_age;      /* rounds since its last telemetry (gated features) */
    bool message_valid;      /* that telemetry still counts */
};

struct sl_round_facts {
    uint64_t seed;           /* of the run */
    uint32_t round, rounds;  /* this one, from 0; of the run, >= 1 */
    uint32_t epochs;         /* of a whole local training */
    uint32_t probe_epochs;   /* of these, before the decision */
    double loss_scale;       /* > 0: what an untrained model's loss is (fedmarl/features.h) */
    double median_probe_s;   /* running median of all probe times, > 0; 0 = none yet */
    double mean_probe_s;     /* running means; 0 = none yet */
    double mean_upload_s;
    uint64_t full_bytes;     /* of the model, unencoded */
    uint64_t max_samples;    /* largest of any client seen */
};

#endif
