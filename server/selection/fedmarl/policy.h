/* SPDX-License-Identifier: Apache-2.0 */
/* policy.h - the frozen team at work: which clients of a round go on after the probe.
 * decide = argmax of each client's Q, then the rails, in this order:
 *   silent   a client without a valid report is not accepted, whatever else
 *   capped   nor is one that was accepted `cap` times in the last `cap_window` rounds
 *   forced   one that was not accepted for `force_after` rounds is
 *   minimum  while fewer than `min_accepted` are in, the next by Q(1) - Q(0) joins, uncapped clients
 *            before capped ones, the smaller index among equal ones: nobody accepted never
 *            happens while somebody reported
 * Pure and equivariant: the decision about a client does not depend on the place of its row. */
#ifndef SL_SERVER_FEDMARL_POLICY_H
#define SL_SERVER_FEDMARL_POLICY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"
#include "server/selection/facts.h"
#include "server/selection/fedmarl/features.h"
#include "server/selection/fedmarl/qnet.h"

#define SL_FEDMARL_STOP 0 /* actions */
#define SL_FEDMARL_GO 1

struct sl_fedmarl_rails {
    uint32_t min_accepted; /* >= 1 */
    uint32_t force_after;  /* rounds; 0 = off */
    uint32_t cap;          /* acceptances within the window; 0 = off */
    uint32_t cap_window;   /* rounds, 1..64 */
};

#define SL_FEDMARL_RAILS_DEFAULTS .min_accepted = 1, .cap_window = 64

/* What states and decisions were like when the policy was validated. */
struct sl_fedmarl_usual {
    bool known;
    float lo[SL_FEDMARL_INPUTS_MAX], hi[SL_FEDMARL_INPUTS_MAX]; /* 1 % and 99 % quantiles of each input */
    double gap;  /* 5 % quantile of |Q(go) - Q(stop)| */
    double fair; /* share of clients that go on */
};

struct sl_fedmarl_policy {
    struct sl_qnet net; /* 2 actions */
    struct sl_fedmarl_spec spec;
    struct sl_fedmarl_usual usual;
};

enum sl_fedmarl_why {
    SL_WHY_POLICY, /* the network said so */
    SL_WHY_SILENT,
    SL_WHY_CAPPED,
    SL_WHY_FORCED,
    SL_WHY_MINIMUM,
    SL_WHY_DRAWN,       /* too close to call: a fair draw (server/selection/defence) */
    SL_WHY_QUARANTINED, /* stopped for what it did before (the same) */
    SL_WHY_END,
};

struct sl_fedmarl_decision {
    float q[2]; /* of stop and of go; 0 for silent clients */
    uint8_t accept;
    uint8_t why; /* enum sl_fedmarl_why */
};

/* A policy file: the network, and in its metadata "starling.kind" = "fedmarl-policy" and
 * "fedmarl.features" = "probe=3 upload=3 gate=0 times=log2"; where it is known, "fedmarl.usual" = the gap, the share,
 * and low and high of each input, as hexadecimal floats. Errors as of sl_qnet_load; SL_E_INPUT also when
 * the network does not fit its features or has not 2 actions. */
enum sl_code sl_fedmarl_policy_load(const char *path, struct sl_fedmarl_policy *ret,
                                    struct sl_err *err);
enum sl_code sl_fedmarl_policy_parse(const char *where, const uint8_t *bytes, size_t n,
                                     struct sl_fedmarl_policy *ret, struct sl_err *err);
/* notes: further texts (how the policy was made); at most SL_FEDMARL_NOTES. */
#define SL_FEDMARL_NOTES 13
enum sl_code sl_fedmarl_policy_save(const struct sl_fedmarl_policy *p,
                                    const struct sl_safetensors_note *notes, size_t n_notes,
                                    const char *path, struct sl_err *err);
void sl_fedmarl_policy_deinit(struct sl_fedmarl_policy *p); /* NULL and {0} allowed */

/* Floats of workspace for n rows. */
size_t sl_fedmarl_scratch(const struct sl_fedmarl_policy *p, size_t n);

/* The rails over decisions that have q, accept and why; where why is silent, capped or
 * quarantined they stay so. */
void sl_fedmarl_settle(const struct sl_fedmarl_rails *rails, const struct sl_client_facts *rows,
                       size_t n, struct sl_fedmarl_decision *io);

/* ret[n]. scratch[sl_fedmarl_scratch]; holds the features [n, n_inputs] afterwards, for the record.
 * Allocates nothing. */
void sl_fedmarl_decide(const struct sl_fedmarl_policy *p, const struct sl_fedmarl_rails *rails,
                       const struct sl_round_facts *round, const struct sl_client_facts *rows,
                       size_t n, float *scratch, struct sl_fedmarl_decision *ret);

#endif
