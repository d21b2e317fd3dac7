/* SPDX-License-Identifier: Apache-2.0 */
/* events.h - what is going to happen: a queue ordered by (virtual time, order of asking),
 * so that equal times never depend on anything but the order in which they were asked
 * for. Owns: its heap. Thread: one. */
#ifndef SL_SIM_EVENTS_H
#define SL_SIM_EVENTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct sl_sim_event {
    uint64_t at_us, seq;
    uint32_t kind; /* the world's enum */
    uint32_t client;
    uint64_t token; /* what the kind says */
    uint8_t *bytes; /* owned by the event; NULL = none */
    uint32_t n_bytes;
};

struct sl_events {
    struct sl_sim_event *heap;
    size_t n, cap;
    uint64_t next_seq;
};

void sl_events_deinit(struct sl_events *q); /* frees events' bytes too */

/* Takes over e->bytes (also on failure, when they are freed); sets seq. false without
 * memory. */
bool sl_events_push(struct sl_events *q, const struct sl_sim_event *e);

/* The next one; its bytes belong to the caller. false when the queue is empty. */
bool sl_events_pop(struct sl_events *q, struct sl_sim_event *ret);

#endif
