/* SPDX-License-Identifier: Apache-2.0 */
/* admin.h - the operator's socket: a unix stream socket (mode 0600) that takes one JSON object a line,
 * {"cmd": NAME, ...}, and answers one JSON object a line, {"ok": true, ...} or
 * {"ok": false, "code": N, "error": TEXT}. An answer with "bytes": N is followed by N raw
 * bytes (the model). starlingctl speaks it; so can any script.
 * Commands: command.h.
 *
 * Owns: the socket and its connections. Borrows: env.
 * Thread: loop thread only. */
#ifndef SL_SERVER_ADMIN_H
#define SL_SERVER_ADMIN_H

#include "common/error.h"
#include "server/command.h"

#define SL_ADMIN_LINE_MAX ((size_t)2 << 20)

struct uv_loop_s;
struct sl_admin;

/* A socket file left by a dead coordinator is replaced; one that answers is SL_E_EXISTS. */
enum sl_code sl_admin_open(struct uv_loop_s *loop, const char *path,
                           const struct sl_command_env *env, struct sl_admin **ret,
                           struct sl_err *err);
/* Closes all; the memory goes when the loop has run the closing callbacks. Removes the file. */
void sl_admin_close(struct sl_admin *a);

#endif
