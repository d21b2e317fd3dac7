/* SPDX-License-Identifier: Apache-2.0 */
/* config.h - the configs of the two daemons (DESIGN section 6): YAML in, checked struct out.
 * Same rules as plans: unknown keys, wrong types and values out of range are errors that
 * name file, line, key and what is allowed. Relative paths in a file are relative to the
 * file's folder; paths of --set are taken as they are. Owns: nothing outside the struct, which
 * is large (some KiB); a join token is wiped by deinit. Thread: any; constant once loaded. */
#ifndef SL_COMMON_CONFIG_H
#define SL_COMMON_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/address.h"
#include "common/error.h"
#include "common/log.h"
#include "common/plan.h"

#define SL_CONFIG_PATH 1024
#define SL_CONFIG_URL 256
#define SL_CONFIG_TEXT 64  /* client name, dataset: with the closing zero */
#define SL_CONFIG_KEY 72   /* 64 hex digits, closing zero, room to tell what is too long */
#define SL_CONFIG_TOKEN 256

struct sl_server_config {
    char listen[SL_CONFIG_URL];       /* required: "tcp://0.0.0.0:7450" */
    char state_dir[SL_CONFIG_PATH];   /* required */
    char identity[SL_CONFIG_PATH];    /* key file; default STATE_DIR/identity */
    char admin_socket[SL_CONFIG_PATH]; /* default STATE_DIR/admin.sock */
    char http[SL_ADDRESS_TEXT];       /* status page, ADDRESS:PORT; "" = none */
    enum sl_log_level log;            /* info */
    uint32_t max_clients;             /* limits.max_clients, 10000 */
    uint32_t handshakes_per_s;        /* limits.handshakes_per_s, 1000; 0 = no limit */
    uint32_t requests_per_client;     /* limits.requests_per_client in flight, 64 */
    bool sync_every_update;           /* state.sync: every-update (else commit, the default) */
    char dataset[SL_CONFIG_TEXT];     /* data.dataset; "" = the plan's */
    char data_path[SL_CONFIG_PATH];   /* data.path, wins over the plan's; "" = the plan's */
};

struct sl_client_config {
    char coordinator[SL_CONFIG_URL];     /* required: "tcp://host:7450" */
    char coordinator_key[SL_CONFIG_KEY]; /* 64 hex digits; "" = the token's */
    char identity[SL_CONFIG_PATH];       /* key file; default STATE_DIR/identity */
    char join_token[SL_CONFIG_TOKEN];    /* join_token, or what join_token_file holds; "" = none */
    char name[SL_CONFIG_TEXT];           /* for people; "" = none */
    int32_t index;                       /* client number to ask for; -1 = any */
    char state_dir[SL_CONFIG_PATH];      /* required */
    struct {
        char dataset[SL_CONFIG_TEXT]; /* own data; "" = the plan's partition */
        char path[SL_CONFIG_PATH];
        uint64_t limit; /* first N samples; 0 = all */
    } data;
    struct {
        bool given; /* false: as the plan says */
        struct sl_accelerator accelerator;
    } hardware;
    uint32_t threads; /* 1; more changes nothing, and the client says so */
    enum sl_log_level log; /* info */
    double slowdown;  /* training takes this times as long, [1, 1000]; 1 */
};

/* Reads and checks a config; n_overrides values of --set are applied on top, in order
 * (overrides may be NULL when there are none). SL_E_NOTFOUND, SL_E_IO, SL_E_INPUT with one
 * line; *ret is untouched on failure. */
enum sl_code sl_server_config_load(const char *path, const struct sl_plan_override *overrides,
                                   size_t n_overrides, struct sl_server_config *ret,
                                   struct sl_err *err);
enum sl_code sl_client_config_load(const char *path, const struct sl_plan_override *overrides,
                                   size_t n_overrides, struct sl_client_config *ret,
                                   struct sl_err *err);

/* The same from text; `where` names it in messages, `folder` is what relative paths are
 * relative to (NULL: they stay as they are). */
enum sl_code sl_server_config_parse(const char *text, size_t n, const char *where,
                                    const char *folder,
                                    const struct sl_plan_override *overrides,
                                    size_t n_overrides, struct sl_server_config *ret,
                                    struct sl_err *err);
enum sl_code sl_client_config_parse(const char *text, size_t n, const char *where,
                                    const char *folder,
                                    const struct sl_plan_override *overrides,
                                    size_t n_overrides, struct sl_client_config *ret,
                                    struct sl_err *err);

void sl_server_config_deinit(struct sl_server_config *c); /* NULL, {0} allowed */
void sl_client_config_deinit(struct sl_client_config *c); /* wipes the token; NULL, {0} allowed */

#endif
