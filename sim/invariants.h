/* SPDX-License-Identifier: Apache-2.0 */
/* invariants.h - what must hold in every run whatever goes wrong, checked after each step
 * of a world:
 *   - rounds are committed once, in order, and a committed round never changes: its
 * report line, its model digest and its members are the same after every restart;
 *   - no update is counted twice: a round's members are distinct and as many as it says;
 *   - every acknowledged update of a client is in its round's sum (unless over-selection
 * closed it first, or a power cut took both the acknowledgement's record and the update);
 *   - of asynchronous aggregation, where a round is a buffer: an update is named by its client and the
 *     version it began from; each acknowledged one is in the buffer of the next commit, and in no other;
 *   - no wait beyond the deadline: a round ends within its attempts' deadlines plus the
 * time that the coordinator was down;
 *   - nothing piles up: requests, kept updates and held blobs stay bounded by the
 * clients. Owns: what it remembers. Thread: one. */
#ifndef SL_SIM_INVARIANTS_H
#define SL_SIM_INVARIANTS_H

#include "common/error.h"
#include "common/plan.h"
#include "sim/world.h"

struct sl_invariants;

/* plans: as given to the world; borrowed. */
enum sl_code sl_invariants_new(const struct sl_plan *plans, size_t n_plans,
                               struct sl_invariants **ret, struct sl_err *err);
void sl_invariants_free(struct sl_invariants *v); /* NULL allowed */

/* Hooks for the world's options. */
struct sl_world_hooks sl_invariants_hooks(struct sl_invariants *v);
/* The world whose store is looked at; before its first step. */
void sl_invariants_watch(struct sl_invariants *v, const struct sl_world *w);

/* SL_OK, or SL_E_BUG with the first thing that did not hold, and when. */
enum sl_code sl_invariants_result(const struct sl_invariants *v, struct sl_err *err);
/* The same, and what must hold at the end: every run has an end and all its rounds. */
enum sl_code sl_invariants_end(struct sl_invariants *v, struct sl_err *err);

#endif
