/* SPDX-License-Identifier: Apache-2.0 */
/* channel.h - losses in bursts: a Markov chain for each ordered pair, sender to receiver, that moves at
 * every step whether or not something is sent. State 0 delivers; state i is the i-th loss in a row;
 * from state i the next is 0 with chance b_i, else i + 1 (the last one stays). The chains light, medium
 * and heavy are those of the authors' code of temporal message control (Zhang, Lin, Zhang 2020),
 * fitted to 802.11ac traces; they lose 1.15, 8.4 and 12.0 % (the paper's text says 1.5, 8.2 and 15.6).
 * A pair's losses are a function of (seed, episode, sender, receiver, step). Thread: one at a time. */
#ifndef SL_SIM_CHANNEL_H
#define SL_SIM_CHANNEL_H

#include <stdbool.h>
#include <stdint.h>

#include "common/error.h"

enum sl_channel_level { SL_CHANNEL_NONE, SL_CHANNEL_LIGHT, SL_CHANNEL_MEDIUM, SL_CHANNEL_HEAVY };
#define SL_CHANNEL_LEVELS 4u
#define SL_CHANNEL_PARTIES_MAX 1024u

/* "none", "light", "medium", "heavy"; NULL beyond. */
const char *sl_channel_name(enum sl_channel_level level);
/* Share of steps in which the chain loses, and its mean run of losses, from the chain itself. 0, 0 for
 * none. */
void sl_channel_expect(enum sl_channel_level level, double *ret_loss, double *ret_burst);

struct sl_channel;

/* n parties, 1..SL_CHANNEL_PARTIES_MAX. Starts episode 0. SL_E_RANGE, SL_E_NOMEM. */
enum sl_code sl_channel_new(enum sl_channel_level level, uint32_t n, uint64_t seed,
                            struct sl_channel **ret, struct sl_err *err);
void sl_channel_free(struct sl_channel *c); /* NULL allowed */

/* All chains in state 0, before the first step of that episode. */
void sl_channel_reset(struct sl_channel *c, uint32_t episode);
/* Moves every chain by one step. */
void sl_channel_step(struct sl_channel *c);
/* Does what `from` sends in this step reach `to`? Both below n; a party reaches itself. */
bool sl_channel_delivers(const struct sl_channel *c, uint32_t from, uint32_t to);

#endif
