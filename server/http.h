/* SPDX-License-Identifier: Apache-2.0 */
/* http.h - a page for people and figures for monitoring, read only (config: http).
 *
 *   GET /                               the page: one file, fetches what follows every two seconds
 *   GET /status.json  /clients.json  /explain.json?round=N  /report.json?run=N&from=LINES
 *                                       the answers of the commands of that name (command.h)
 *   GET /metrics                        text format of Prometheus, version 0.0.4
 *
 * An answer that cannot be given is a JSON object with the code and the error, status 400 or 404. No
 * request changes anything; whoever reaches the address may read. HTTP itself is libmicrohttpd's, driven
 * by the loop.
 *
 * Owns: its socket and connections. Borrows: env. Thread: loop thread only. */
#ifndef SL_SERVER_HTTP_H
#define SL_SERVER_HTTP_H

#include "common/error.h"
#include "common/log.h"
#include "server/command.h"

#define SL_HTTP_CONNECTIONS 32 /* at once; more wait to be accepted */
#define SL_HTTP_IDLE_S 15      /* then a connection is closed */

struct uv_loop_s;
struct sl_http;

/* address: ADDRESS:PORT or [ADDRESS]:PORT, numeric; port 0 = a free one, named in the log. */
enum sl_code sl_http_open(struct uv_loop_s *loop, const char *address,
                          const struct sl_command_env *env, struct sl_log *log,
                          struct sl_http **ret, struct sl_err *err);
/* Closes all; the memory goes when the loop has run the closing callbacks. */
void sl_http_close(struct sl_http *h);

#endif
