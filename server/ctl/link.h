/* SPDX-License-Identifier: Apache-2.0 */
/* link.h - one blocking conversation with the admin socket (server/admin.h). Thread: one. */
#ifndef SL_SERVER_CTL_LINK_H
#define SL_SERVER_CTL_LINK_H

#include <stddef.h>
#include <stdint.h>

#include <jansson.h>

#include "common/error.h"

struct sl_ctl_link {
    int fd; /* -1 = closed */
    char *buf;
    size_t n, cap;
};

/* SL_E_UNREACHABLE when nobody listens at path. */
enum sl_code sl_ctl_open(const char *path, struct sl_ctl_link *ret, struct sl_err *err);
void sl_ctl_close(struct sl_ctl_link *l);

/* Sends a request (stolen) and reads its answer, an object of the caller's. An answer with ok false
 * is an error with its code and text. */
enum sl_code sl_ctl_ask(struct sl_ctl_link *l, json_t *request, json_t **ret, struct sl_err *err);

/* The n raw bytes behind the last answer. */
enum sl_code sl_ctl_bytes(struct sl_ctl_link *l, void *ret, size_t n, struct sl_err *err);

#endif
