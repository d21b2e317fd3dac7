/* SPDX-License-Identifier: Apache-2.0 */
/* client_store.h - what a client remembers across a kill, as an ops table: the update it has made and
 * whose round is not settled yet, and (later) state of its local algorithm. One update at a time.
 * store_files.c keeps it in the state directory (written, not synced: a lost update is trained
 * again to the same bytes); the simulator has its own.
 * Thread: update_write runs on the worker that trained; the rest on the loop thread. */
#ifndef SL_CLIENT_STORE_H
#define SL_CLIENT_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"
#include "common/wire.h"

struct sl_kept_update {
    uint64_t run_id;
    uint32_t round;
    struct sl_blob_ref blob;
    struct sl_update_meta meta;
};

struct sl_client_store;

struct sl_client_store_ops {
    /* Replaces the kept update, all or nothing. */
    enum sl_code (*update_write)(struct sl_client_store *s, const struct sl_kept_update *u,
                                 const uint8_t *data, size_t n, struct sl_err *err);
    /* What is kept; *ret_present false when nothing is, or what is there fails its checksum. */
    enum sl_code (*update_load)(struct sl_client_store *s, bool *ret_present,
                                struct sl_kept_update *ret, struct sl_err *err);
    enum sl_code (*update_read)(struct sl_client_store *s, uint64_t offset, uint8_t *ret,
                                size_t n, struct sl_err *err);
    enum sl_code (*update_drop)(struct sl_client_store *s, struct sl_err *err);
    void (*close)(struct sl_client_store *s);
};

struct sl_client_store {
    const struct sl_client_store_ops *ops;
};

enum sl_code sl_client_store_files_open(const char *state_dir, struct sl_client_store **ret,
                                        struct sl_err *err);

#endif
