/* SPDX-License-Identifier: Apache-2.0 */
/* vdn.h - the team's learner: value decomposition (Sunehag et al. 2018) over one shared network.
 *   Q_tot(s, a) = sum over agents of Q(s_n, a_n)
 *   y = r + gamma (1 - done) sum over agents of Q^-(s'_n, argmax Q(s'_n, .))     (double Q)
 *   loss = mean over a batch of huber(Q_tot - y); every agent's chosen action gets the same factor
 * With `credit`, what of the reward is known to be an agent's own doing (its bytes, its share of
 * the seconds) does not go through the sum: Q = F + G, F learns the team's part as
 * above, G(s_n, a_n) is fitted to the agent's own, and both are outputs of one network, which are
 * added up when it acts.
 * With a replay of joint transitions, a target copy, the norm of the gradient clipped, and Adam.
 * Everything is a function of (options, what was pushed, number of updates).
 * Owns: nets, moments, replay. Thread: one at a time; allocates nothing once made. */
#ifndef SL_SERVER_FEDMARL_VDN_H
#define SL_SERVER_FEDMARL_VDN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"
#include "server/selection/fedmarl/qnet.h"

#define SL_VDN_AGENTS_MAX 64u

struct sl_vdn_options {
    struct sl_qnet_shape shape;
    uint32_t n_agents;     /* most of one transition, 1..SL_VDN_AGENTS_MAX */
    double gamma;          /* [0, 1] */
    double lr;             /* Adam */
    double clip_norm;      /* of the gradient; 0 = off */
    uint32_t replay;       /* transitions kept; 5000 */
    uint32_t batch;        /* 32 */
    uint32_t warmup;       /* transitions before the first update; 500, at least batch */
    uint32_t target_every; /* updates between copies to the target net; 200 */
    bool double_q, huber;
    bool credit;           /* at most SL_QNET_ACTIONS_MAX / 2 actions then */
    double epsilon_start, epsilon_end; /* exploration, linear over epsilon_steps steps */
    uint64_t epsilon_steps;
    uint64_t seed;
};

/* The digest's values for everything but shape, n_agents, epsilon_steps and seed. */
#define SL_VDN_DEFAULTS                                                                      \
    .gamma = 0.99, .lr = 1e-3, .clip_norm = 10, .replay = 5000, .batch = 32, .warmup = 500,  \
    .target_every = 200, .double_q = true, .huber = true, .credit = true, .epsilon_start = 1, .epsilon_end = 0.05

/* A joint step; all borrowed. */
struct sl_vdn_transition {
    const float *s;         /* [n, n_inputs] */
    const uint8_t *actions; /* [n] */
    uint32_t n;             /* 1..n_agents */
    double reward;          /* with `own`: the team's part */
    const double *own;      /* [n], credit only; NULL = zeros */
    const float *next;      /* [n_next, n_inputs]; not read when done */
    uint32_t n_next;        /* 1..n_agents unless done */
    bool done;
};

struct sl_vdn;

/* SL_E_RANGE, SL_E_NOMEM. */
enum sl_code sl_vdn_new(const struct sl_vdn_options *o, struct sl_vdn **ret, struct sl_err *err);
void sl_vdn_free(struct sl_vdn *v); /* NULL allowed */

/* Goes on from a network of options.shape instead of a new one, all of it as the team's part. */
void sl_vdn_start_from(struct sl_vdn *v, const struct sl_qnet *net);

const struct sl_vdn_options *sl_vdn_options_of(const struct sl_vdn *v);
/* Writes the net that acts as the learner stands: ret, of options.shape, is overwritten. */
void sl_vdn_acting(const struct sl_vdn *v, struct sl_qnet *ret);
uint64_t sl_vdn_updates(const struct sl_vdn *v);
uint32_t sl_vdn_stored(const struct sl_vdn *v); /* transitions in the replay */

/* Chance of a random action after so many steps of the environment. */
double sl_vdn_epsilon(const struct sl_vdn_options *o, uint64_t step);

/* The oldest makes room. */
void sl_vdn_push(struct sl_vdn *v, const struct sl_vdn_transition *t);

/* One update on a drawn batch; false (and *ret_loss untouched) while the replay warms up. */
bool sl_vdn_update(struct sl_vdn *v, double *ret_loss);

/* The loss of one joint step against the target y and its gradient: ret_dq[n, n_actions] is scale
 * x d loss / d Q_n, one and the same number at every chosen action and 0 elsewhere. q[n,
 * n_actions]. */
double sl_vdn_loss(const float *q, const uint8_t *actions, uint32_t n, uint32_t n_actions,
                   double y, bool huber, double scale, float *ret_dq);

/* Actions of n agents: the largest Q (the first of equal ones), ret[n]. */
void sl_vdn_greedy(const float *q, uint32_t n, uint32_t n_actions, uint8_t *ret);

/* A net kept in the file beside the learner's own. */
struct sl_vdn_extra {
    const char *name;
    struct sl_qnet *net;
};

/* A learner as a file (.safetensors) and back: all that its next update depends on, the extra nets,
 * and texts. Saving is atomic. Loading wants a learner made with the same options: SL_E_INPUT,
 * one line that names the file, for anything else; v and the extras are undefined then. *ret_file
 * has the texts; it borrows *ret_bytes (the caller's to free after sl_safetensors_deinit). */
enum sl_code sl_vdn_save(const struct sl_vdn *v, const struct sl_vdn_extra *extras,
                         size_t n_extras, const struct sl_safetensors_note *notes, size_t n_notes,
                         const char *path, struct sl_err *err);
enum sl_code sl_vdn_load(struct sl_vdn *v, const struct sl_vdn_extra *extras, size_t n_extras,
                         const char *path, struct sl_safetensors *ret_file, uint8_t **ret_bytes,
                         struct sl_err *err);

#endif
