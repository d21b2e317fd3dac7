/* SPDX-License-Identifier: Apache-2.0 */
#include "server/registry.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/mem.h"

#define NONE UINT32_MAX

void sl_registry_deinit(struct sl_registry *r)
{
    if (r == NULL)
        return;
    for (uint32_t i = 0; i < r->n; i++)
        free(r->clients[i].poll);
    free(r->clients);
    free(r->by_index);
    *r = (struct sl_registry){0};
}

struct sl_client_entry *sl_registry_at(const struct sl_registry *r, uint32_t index)
{
    if (index >= r->n_index || r->by_index[index] == NONE)
        return NULL;
    return &r->clients[r->by_index[index]];
}

struct sl_client_entry *sl_registry_of_key(const struct sl_registry *r, const uint8_t *key)
{
    for (uint32_t i = r->n; i-- > 0;)
        if (memcmp(r->clients[i].row.key, key, SL_KEY_BYTES) == 0)
            return &r->clients[i];
    return NULL;
}

enum sl_code sl_registry_check(const struct sl_registry *r, const struct sl_client_row *row,
                               struct sl_err *err)
{
    if (sl_registry_of_key(r, row->key) != NULL)
        return sl_err_set(err, SL_E_EXISTS, "this key is in the registry already");
    if (row->index >= SL_CLIENTS_MAX)
        return sl_err_set(err, SL_E_RANGE, "index %" PRIu32 " (0 to %d allowed)", row->index,
                          SL_CLIENTS_MAX - 1);
    if (sl_registry_at(r, row->index) != NULL)
        return sl_err_set(err, SL_E_EXISTS, "index %" PRIu32 " is taken by client \"%s\"",
                          row->index, sl_registry_at(r, row->index)->row.name);
    if (r->n_enrolled >= r->max_clients)
        return sl_err_set(err, SL_E_LIMIT, "%" PRIu32 " clients are enrolled (limits.max_clients)",
                          r->n_enrolled);
    return SL_OK;
}

static bool grow_index(struct sl_registry *r, uint32_t index)
{
    if (index < r->n_index)
        return true;
    uint32_t n = r->n_index == 0 ? 64 : r->n_index;
    while (n <= index)
        n *= 2;
    uint32_t *more = realloc(r->by_index, n * sizeof(*more));
    if (more == NULL)
        return false;
    for (uint32_t i = r->n_index; i < n; i++)
        more[i] = NONE;
    r->by_index = more;
    r->n_index = n;
    return true;
}

static bool grow(struct sl_registry *r)
{
    if (r->n < r->cap)
        return true;
    uint32_t cap = r->cap == 0 ? 64 : r->cap * 2;
    struct sl_client_entry *more = realloc(r->clients, cap * sizeof(*more));
    if (more == NULL)
        return false;
    r->clients = more;
    r->cap = cap;
    return true;
}

enum sl_code sl_registry_add(struct sl_registry *r, const struct sl_client_row *row,
                             struct sl_err *err)
{
    if (!grow(r) || (row->state == SL_CLIENT_ENROLLED && !grow_index(r, row->index)))
        return sl_err_set(err, SL_E_NOMEM, "registry of %" PRIu32 " clients", r->n + 1);
    r->clients[r->n] = (struct sl_client_entry){.row = *row};
    if (row->state == SL_CLIENT_ENROLLED) {
        r->by_index[row->index] = r->n;
        r->n_enrolled++;
    }
    r->n++;
    return SL_OK;
}

void sl_registry_revoke(struct sl_registry *r, struct sl_client_entry *e)
{
    if (e->row.state != SL_CLIENT_ENROLLED)
        return;
    e->row.state = SL_CLIENT_REVOKED;
    r->by_index[e->row.index] = NONE;
    r->n_enrolled--;
}

uint32_t sl_registry_lowest_free(const struct sl_registry *r)
{
    uint32_t i = 0;
    while (i < r->n_index && r->by_index[i] != NONE)
        i++;
    return i;
}

size_t sl_registry_candidates(const struct sl_registry *r, uint32_t limit, uint32_t *ret)
{
    size_t n = 0;
    for (uint32_t i = 0; i < r->n_index && i < limit; i++)
        if (r->by_index[i] != NONE)
            ret[n++] = i;
    return n;
}

struct load {
    struct sl_registry *r;
    struct sl_err *err;
};

static enum sl_code load_row(void *ctx, const struct sl_client_row *row)
{
    struct load *l = ctx;
    return sl_registry_add(l->r, row, l->err);
}

enum sl_code sl_registry_load(struct sl_registry *r, struct sl_store *store, uint32_t max_clients,
                              struct sl_err *err)
{
    *r = (struct sl_registry){.max_clients = max_clients};
    struct load l = {r, err};
    return store->ops->each_client(store, load_row, &l, err);
}
