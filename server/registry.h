/* SPDX-License-Identifier: Apache-2.0 */
/* registry.h - who the clients are: keys, names, indices, and what each is doing now (its held poll, its
 * software). Owns: the table. The store has what survives. Thread: loop thread only. */
#ifndef SL_SERVER_REGISTRY_H
#define SL_SERVER_REGISTRY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"
#include "common/wire.h"
#include "server/store.h"

struct sl_client_entry {
    struct sl_client_row row;
    bool registered;     /* has been heard of since the coordinator started */
    uint64_t seen_ms;    /* its last message */
    uint64_t own_samples;
    char blas[SL_WIRE_TEXT];
    bool holds;          /* a poll of it is held */
    uint64_t held_id;    /* sl_request_id */
    uint64_t held_since_ms;
    struct sl_msg *poll; /* of the held poll; owned */
};

struct sl_registry {
    struct sl_client_entry *clients; /* in order of enrolment */
    uint32_t n, cap;
    uint32_t *by_index; /* position of the enrolled client of an index, UINT32_MAX = none */
    uint32_t n_index;   /* length of by_index */
    uint32_t n_enrolled, max_clients;
};

enum sl_code sl_registry_load(struct sl_registry *r, struct sl_store *store, uint32_t max_clients,
                              struct sl_err *err);
void sl_registry_deinit(struct sl_registry *r);

/* Enrolled client of this index, NULL = none. */
struct sl_client_entry *sl_registry_at(const struct sl_registry *r, uint32_t index);
struct sl_client_entry *sl_registry_of_key(const struct sl_registry *r, const uint8_t *key);

/* Checks that row can be enrolled: a new key, a free index, room left. */
enum sl_code sl_registry_check(const struct sl_registry *r, const struct sl_client_row *row,
                               struct sl_err *err);
/* Takes a row that passed the check and is in the store. */
enum sl_code sl_registry_add(struct sl_registry *r, const struct sl_client_row *row,
                             struct sl_err *err);
void sl_registry_revoke(struct sl_registry *r, struct sl_client_entry *e);
uint32_t sl_registry_lowest_free(const struct sl_registry *r);

/* Enrolled indices below `limit`, ascending; ret has room for limit entries. */
size_t sl_registry_candidates(const struct sl_registry *r, uint32_t limit, uint32_t *ret);

#endif
