/* SPDX-License-Identifier: Apache-2.0 */
/* Configs of both daemons: read, or refused in one line, and the same from memory and
 * from a file. First lines "#set KEY=VALUE" become overrides; behind them, a line "#token
 * TEXT" becomes a file that the client's config names as its join_token_file. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/config.h"
#include "tests/fuzz/files.h"

#define FOLDER "/proc/self/fd" /* of the file that is read */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct input {
    const char *text;
    size_t n;
    const char *path; /* of a file with this text */
    const struct sl_plan_override *o;
    size_t n_o;
};

static void check_server(const struct input *in)
{
    struct sl_server_config a, b;
    struct sl_err err, again;
    enum sl_code rc = sl_server_config_parse(in->text, in->n, in->path, FOLDER, in->o,
                                             in->n_o, &a, &err);
    fuzz_check_line(rc, &err);
    fuzz_must(sl_server_config_load(in->path, in->o, in->n_o, &b, &again) == rc);
    if (rc != SL_OK) {
        fuzz_must(strcmp(err.msg, again.msg) == 0);
        return;
    }
    fuzz_must(a.listen[0] != '\0' && a.state_dir[0] != '\0' && a.identity[0] != '\0' &&
              a.admin_socket[0] != '\0' && a.max_clients > 0);
    fuzz_must(strcmp(a.listen, b.listen) == 0 && strcmp(a.state_dir, b.state_dir) == 0 &&
              strcmp(a.identity, b.identity) == 0 &&
              strcmp(a.admin_socket, b.admin_socket) == 0 &&
              strcmp(a.dataset, b.dataset) == 0 &&
              strcmp(a.data_path, b.data_path) == 0 && a.log == b.log &&
              a.max_clients == b.max_clients &&
              a.handshakes_per_s == b.handshakes_per_s &&
              a.requests_per_client == b.requests_per_client &&
              a.sync_every_update == b.sync_every_update);
    sl_server_config_deinit(&a);
    sl_server_config_deinit(&b);
    fuzz_must(a.listen[0] == '\0');
}

static void check_client(const struct input *in)
{
    struct sl_client_config a, b;
    struct sl_err err, again;
    enum sl_code rc = sl_client_config_parse(in->text, in->n, in->path, FOLDER, in->o,
                                             in->n_o, &a, &err);
    fuzz_check_line(rc, &err);
    fuzz_must(sl_client_config_load(in->path, in->o, in->n_o, &b, &again) == rc);
    if (rc != SL_OK) {
        fuzz_must(strcmp(err.msg, again.msg) == 0);
        return;
    }
    fuzz_must(a.coordinator[0] != '\0' && a.state_dir[0] != '\0' &&
              a.identity[0] != '\0' &&
              (a.coordinator_key[0] != '\0' || a.join_token[0] != '\0') &&
              a.index >= -1 && a.threads > 0 && a.slowdown >= 1);
    fuzz_must(strcmp(a.coordinator, b.coordinator) == 0 &&
              strcmp(a.coordinator_key, b.coordinator_key) == 0 &&
              strcmp(a.identity, b.identity) == 0 &&
              strcmp(a.join_token, b.join_token) == 0 && strcmp(a.name, b.name) == 0 &&
              strcmp(a.state_dir, b.state_dir) == 0 &&
              strcmp(a.data.dataset, b.data.dataset) == 0 &&
              strcmp(a.data.path, b.data.path) == 0 && a.data.limit == b.data.limit &&
              a.index == b.index && a.threads == b.threads && a.log == b.log &&
              a.slowdown == b.slowdown);
    sl_client_config_deinit(&a);
    sl_client_config_deinit(&b);
    fuzz_must(a.join_token[0] == '\0' && b.coordinator[0] == '\0');
}

static bool has(const uint8_t *data, size_t size, const char *word)
{
    return memmem(data, size, word, strlen(word)) != NULL;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char head[] = "#token ";
    char set[FUZZ_SETS][FUZZ_SET_BYTES], token_set[FUZZ_SET_BYTES];
    struct sl_plan_override o[FUZZ_SETS + 1] = {{set[0]}, {set[1]}, {set[2]}, {set[3]}};
    struct fuzz_file file, token;
    fuzz_file_open(&file, data, size);
    struct input in = {.text = (const char *)data, .n = size, .path = file.path, .o = o};
    in.n_o = fuzz_set_lines(data, size, set);
    check_server(&in);

    const uint8_t *at = memmem(data, size, head, sizeof(head) - 1);
    if (at != NULL) {
        at += sizeof(head) - 1;
        size_t left = (size_t)(data + size - at);
        const uint8_t *nl = memchr(at, '\n', left);
        fuzz_file_open(&token, at, nl != NULL ? (size_t)(nl - at) : left);
        snprintf(token_set, sizeof(token_set), "join_token_file=%s", token.path);
        o[in.n_o++].text = token_set;
    }
    if (!has(data, size, "join_token_file")) /* would read files of this machine */
        check_client(&in);
    if (at != NULL)
        fuzz_file_close(&token);
    fuzz_file_close(&file);
    return 0;
}
