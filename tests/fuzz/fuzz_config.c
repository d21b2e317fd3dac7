/* SPDX-License-Identifier: Apache-2.0 */
/* Configs of both daemons: read, or refused in one line. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_line(enum sl_code rc, const struct sl_err *err)
{
    if (rc != SL_OK && (err->msg[0] == '\0' || strchr(err->msg, '\n') != NULL))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char word[] = "join_token_file";
    struct sl_server_config s;
    struct sl_client_config c;
    struct sl_err err;
    const char *text = (const char *)data;
    enum sl_code rc = sl_server_config_parse(text, size, "f", "/etc/x", NULL, 0, &s, &err);
    check_line(rc, &err);
    if (rc == SL_OK) {
        if (s.identity[0] == '\0' || s.admin_socket[0] == '\0' || s.max_clients == 0)
            abort();
        sl_server_config_deinit(&s);
    }
    if (size >= sizeof(word) && memmem(data, size, word, sizeof(word) - 1) != NULL)
        return 0; /* would read files of this machine */
    rc = sl_client_config_parse(text, size, "f", "/etc/x", NULL, 0, &c, &err);
    check_line(rc, &err);
    if (rc == SL_OK) {
        if (c.identity[0] == '\0' || c.index < -1 || !(c.slowdown >= 1))
            abort();
        sl_client_config_deinit(&c);
    }
    return 0;
}
