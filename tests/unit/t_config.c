/* SPDX-License-Identifier: Apache-2.0 */
#include "common/config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define UNUSED(x) (void)(x)
#define N(a) (sizeof(a) / sizeof((a)[0]))
#define SERVER "listen: tcp://0.0.0.0:7450\nstate_dir: st\n"
#define CLIENT "coordinator: tcp://a:1\ncoordinator_key: abc\nstate_dir: st\n"

static enum sl_code server(const char *text, const char *folder, const char *set,
                           struct sl_server_config *ret, struct sl_err *err)
{
    const struct sl_plan_override o = {set};
    return sl_server_config_parse(text, strlen(text), "s", folder, &o, set != NULL, ret, err);
}

static enum sl_code client(const char *text, const char *folder, const char *set,
                           struct sl_client_config *ret, struct sl_err *err)
{
    const struct sl_plan_override o = {set};
    return sl_client_config_parse(text, strlen(text), "c", folder, &o, set != NULL, ret, err);
}

static void a_short_server_config_has_defaults(void **state)
{
    UNUSED(state);
    struct sl_server_config c;
    struct sl_err err = {0};
    assert_int_equal(server(SERVER, NULL, NULL, &c, &err), SL_OK);
    assert_string_equal(c.listen, "tcp://0.0.0.0:7450");
    assert_string_equal(c.state_dir, "st");
    assert_string_equal(c.identity, "st/identity");
    assert_string_equal(c.admin_socket, "st/admin.sock");
    assert_int_equal(c.log, SL_LOG_INFO);
    assert_int_equal(c.max_clients, 10000);
    assert_int_equal(c.handshakes_per_s, 1000);
    assert_int_equal(c.requests_per_client, 64);
    assert_false(c.sync_every_update);
    assert_string_equal(c.dataset, "");
    assert_string_equal(c.data_path, "");
    sl_server_config_deinit(&c);
    sl_server_config_deinit(NULL);
}

static void every_key_of_a_server_config_is_read(void **state)
{
    UNUSED(state);
    struct sl_server_config c;
    struct sl_err err = {0};
    const char *text = "listen: tcp://[::1]:0\nstate_dir: /s\nidentity: k\nadmin_socket: a\n"
                       "http: '[::1]:0'\nlog: debug\n"
                       "limits: {max_clients: 7, handshakes_per_s: 0, requests_per_client: 5}\n"
                       "state: {sync: every-update}\ndata: {dataset: csv, path: d}\n";
    assert_int_equal(server(text, "/etc/x", NULL, &c, &err), SL_OK);
    assert_string_equal(c.state_dir, "/s");
    assert_string_equal(c.identity, "/etc/x/k");
    assert_string_equal(c.admin_socket, "/etc/x/a");
    assert_string_equal(c.http, "[::1]:0");
    assert_int_equal(c.log, SL_LOG_DEBUG);
    assert_int_equal(c.max_clients, 7);
    assert_int_equal(c.handshakes_per_s, 0);
    assert_int_equal(c.requests_per_client, 5);
    assert_true(c.sync_every_update);
    assert_string_equal(c.dataset, "csv");
    assert_string_equal(c.data_path, "/etc/x/d");
}

static void a_short_client_config_has_defaults(void **state)
{
    UNUSED(state);
    struct sl_client_config c;
    struct sl_err err = {0};
    assert_int_equal(client(CLIENT, "/f", NULL, &c, &err), SL_OK);
    assert_string_equal(c.coordinator, "tcp://a:1");
    assert_string_equal(c.coordinator_key, "abc");
    assert_string_equal(c.state_dir, "/f/st");
    assert_string_equal(c.identity, "/f/st/identity");
    assert_string_equal(c.join_token, "");
    assert_string_equal(c.name, "");
    assert_int_equal(c.index, -1);
    assert_int_equal(c.threads, 1);
    assert_int_equal(c.log, SL_LOG_INFO);
    assert_true(c.slowdown == 1.0);
    assert_false(c.hardware.given); /* as the plan says */
    assert_string_equal(c.data.dataset, "");
    assert_true(c.data.limit == 0);
    sl_client_config_deinit(&c);
    sl_client_config_deinit(NULL);
}

static void every_key_of_a_client_config_is_read(void **state)
{
    UNUSED(state);
    struct sl_client_config c;
    struct sl_err err = {0};
    const char *text = "coordinator: tcp://host:65535\njoin_token: sljt1-x\nidentity: k\n"
                       "name: edge 1\nindex: 99999\nstate_dir: /s\n"
                       "data: {dataset: csv, path: d, limit: 9}\nhardware: {matmul: fast, precision: 4}\n"
                       "threads: 2\nlog: error\nslowdown: 2.5\n";
    assert_int_equal(client(text, "/f", NULL, &c, &err), SL_OK);
    assert_string_equal(c.join_token, "sljt1-x");
    assert_string_equal(c.coordinator_key, "");
    assert_string_equal(c.identity, "/f/k");
    assert_string_equal(c.name, "edge 1");
    assert_int_equal(c.index, 99999);
    assert_string_equal(c.data.dataset, "csv");
    assert_string_equal(c.data.path, "/f/d");
    assert_true(c.data.limit == 9 && c.slowdown == 2.5);
    assert_true(c.hardware.given && c.hardware.accelerator.matmul == SL_MATMUL_FAST &&
                c.hardware.accelerator.precision == SL_PRECISION_1 + 3);
    assert_int_equal(c.threads, 2);
    assert_int_equal(c.log, SL_LOG_ERROR);
    sl_client_config_deinit(&c);
    const struct sl_client_config zero = {0};
    assert_memory_equal(&c, &zero, sizeof(zero));
    assert_int_equal(client(CLIENT "hardware: {matmul: rtn, word_bits: 32, lanes: 8, mhz: 50, "
                                   "e_ternary: 0.1, e_fp32: 2}\n",
                            "/f", NULL, &c, &err),
                     SL_OK);
    const struct sl_accelerator *a = &c.hardware.accelerator;
    assert_true(a->matmul == SL_MATMUL_RTN && a->word_bits == 32 && a->lanes == 8 &&
                a->mhz == 50 && a->e_ternary == 0.1 && a->e_fp32 == 2);
    sl_client_config_deinit(&c);
}

static void options_of_a_synthetic_set_are_no_path(void **state)
{
    UNUSED(state);
    struct sl_client_config c;
    struct sl_server_config s;
    struct sl_err err = {0};
    const char *data = "data: {dataset: synthetic, path: \"train=40\"}\n";
    char text[256];
    snprintf(text, sizeof(text), CLIENT "%s", data);
    assert_int_equal(client(text, "/f", NULL, &c, &err), SL_OK);
    assert_string_equal(c.data.path, "train=40");
    snprintf(text, sizeof(text), SERVER "%s", data);
    assert_int_equal(server(text, "/f", NULL, &s, &err), SL_OK);
    assert_string_equal(s.data_path, "train=40");
}

static void bad_server_configs_are_refused(void **state)
{
    UNUSED(state);
    static const struct {
        const char *text, *msg;
    } bad[] = {
        {"", "s: listen: is missing"},
        {"listen: tcp://a:1\n", "s: state_dir: is missing"},
        {"listen: a:1\nstate_dir: s\n",
         "s:1: listen: a:1 must be tcp://HOST:PORT (port 0 to 65535)"},
        {"listen: tcp://a\nstate_dir: s\n",
         "s:1: listen: tcp://a must be tcp://HOST:PORT (port 0 to 65535)"},
        {"listen: tcp://:5\nstate_dir: s\n",
         "s:1: listen: tcp://:5 must be tcp://HOST:PORT (port 0 to 65535)"},
        {"listen: tcp://a:65536\nstate_dir: s\n",
         "s:1: listen: tcp://a:65536 must be tcp://HOST:PORT (port 0 to 65535)"},
        {"listen: tcp://a:1x\nstate_dir: s\n",
         "s:1: listen: tcp://a:1x must be tcp://HOST:PORT (port 0 to 65535)"},
        {"listen: tcp\nstate_dir: s\n",
         "s:1: listen: tcp must be tcp://HOST:PORT (port 0 to 65535)"},
        {SERVER "http: tcp://a:80\n",
         "s:3: http: tcp://a:80 must be ADDRESS:PORT, such as 127.0.0.1:8080 or [::1]:8080"},
        {SERVER "http: localhost:80\n",
         "s:3: http: localhost:80 must be ADDRESS:PORT, such as 127.0.0.1:8080 or [::1]:8080"},
        {SERVER "http: 127.0.0.1:65536\n",
         "s:3: http: 127.0.0.1:65536 must be ADDRESS:PORT, such as 127.0.0.1:8080 or [::1]:8080"},
        {SERVER "http: '::1:80'\n",
         "s:3: http: ::1:80 must be ADDRESS:PORT, such as 127.0.0.1:8080 or [::1]:8080"},
        {SERVER "port: 5\n", "s:3: port: unknown key (allowed here: listen, state_dir, identity, "
                             "admin_socket, http, log, limits, state, data)"},
        {SERVER "limits: {max_peers: 5}\n",
         "s:3: limits.max_peers: unknown key (allowed here: max_clients, handshakes_per_s, "
         "requests_per_client)"},
        {SERVER "limits: {max_clients: 0}\n",
         "s:3: limits.max_clients: 0 is out of range (1 to 100000)"},
        {SERVER "limits: {handshakes_per_s: 10/s}\n",
         "s:3: limits.handshakes_per_s: 10/s: wrong unit (a number of handshakes a second is "
         "wanted, without a unit)"},
        {SERVER "limits: {requests_per_client: 0}\n",
         "s:3: limits.requests_per_client: 0 is out of range (4 to 65536)"},
        {SERVER "state: {sync: never}\n",
         "s:3: state.sync: never is not available (commit, every-update)"},
        {SERVER "log: loud\n", "s:3: log: loud is not available (error, warn, info, debug)"},
        {SERVER "identity: \n", "s:3: identity: has no value, must be text"},
        {SERVER "state_dir: x\n", "s:3: state_dir: given twice (first in line 2)"},
    };
    for (size_t i = 0; i < N(bad); i++) {
        struct sl_server_config c = {.max_clients = 77};
        struct sl_err err = {0};
        if (server(bad[i].text, NULL, NULL, &c, &err) == SL_OK)
            fail_msg("accepted: %s", bad[i].text);
        assert_string_equal(err.msg, bad[i].msg);
        assert_int_equal(sl_code_exit_status(err.code), 2);
        assert_int_equal(c.max_clients, 77);
    }
}

static void bad_client_configs_are_refused(void **state)
{
    UNUSED(state);
    static const struct {
        const char *text, *msg;
    } bad[] = {
        {"", "c: coordinator: is missing"},
        {"coordinator: tcp://a:1\n", "c: state_dir: is missing"},
        {"coordinator: tcp://a:1\nstate_dir: s\n",
         "c: coordinator_key: is missing (it or a join token must be given)"},
        {"coordinator: http://a:1\nstate_dir: s\n",
         "c:1: coordinator: http://a:1 must be tcp://HOST:PORT (port 0 to 65535)"},
        {CLIENT "join_token: a\njoin_token_file: b\n",
         "c:5: join_token_file: only one of join_token and join_token_file"},
        {CLIENT "index: -2\n", "c:4: index: -2 is out of range (-1 to 99999)"},
        {CLIENT "index: 100000\n", "c:4: index: 100000 is out of range (-1 to 99999)"},
        {CLIENT "threads: 0\n", "c:4: threads: 0 is out of range (1 to 256)"},
        {CLIENT "slowdown: 0.5\n", "c:4: slowdown: 0.5 is out of range (1 to 1000)"},
        {CLIENT "hardware: {matmul: tpu}\n",
         "c:4: hardware.matmul: tpu is not available (plan, fp32, fast, tr, rtn)"},
        {CLIENT "hardware: {matmul: fast, precision: 9}\n",
         "c:4: hardware.precision: 9 is not available (adaptive, low, high, 1, 2, 3, 4, 5, 6, 7, "
         "8)"},
        {CLIENT "hardware: {gpu: 1}\n", "c:4: hardware.gpu: unknown key (allowed here: matmul, precision, g, e, round, "
         "round_gradient, alpha, beta, refresh, bits_w, bits_x, k, s, enc, rows, cols, word_bits, "
         "lanes, mhz, e_bit, e_pass, e_pair, e_ternary, e_fp32)"},
        {CLIENT "hardware: {matmul: rtn, lanes: 65537}\n",
         "c:4: hardware.lanes: 65537 is out of range (1 to 65536)"},
        {CLIENT "hardware: {matmul: tr, lanes: 8}\n",
         "c:4: hardware.lanes: is no key of hardware.matmul: tr"},
        {CLIENT "hardware: {matmul: fast, mhz: 1000001}\n",
         "c:4: hardware.mhz: 1000001 is out of range (0 to 1000000)"},
        {CLIENT "data: {dataset: mnist}\n",
         "c:4: data.dataset: mnist is not available (fashion-mnist, idx, cifar10, csv, npz, "
         "synthetic)"},
        {CLIENT "data: {limit: -1}\n",
         "c:4: data.limit: -1 is out of range (0 to 1000000000000)"},
        {CLIENT "proxy: x\n",
         "c:4: proxy: unknown key (allowed here: coordinator, coordinator_key, identity, "
         "join_token, join_token_file, name, index, state_dir, data, hardware, threads, log, "
         "slowdown)"},
    };
    for (size_t i = 0; i < N(bad); i++) {
        struct sl_client_config c = {.threads = 77};
        struct sl_err err = {0};
        if (client(bad[i].text, NULL, NULL, &c, &err) == SL_OK)
            fail_msg("accepted: %s", bad[i].text);
        assert_string_equal(err.msg, bad[i].msg);
        assert_int_equal(sl_code_exit_status(err.code), 2);
        assert_int_equal(c.threads, 77);
    }
}

static void set_overrides_a_config_and_keeps_its_path(void **state)
{
    UNUSED(state);
    struct sl_server_config c;
    struct sl_err err = {0};
    assert_int_equal(server(SERVER, "/f", "identity=here", &c, &err), SL_OK);
    assert_string_equal(c.identity, "here");
    assert_string_equal(c.state_dir, "/f/st");
    assert_int_equal(server(SERVER, "/f", "limits.max_clients=0", &c, &err), SL_E_RANGE);
    assert_string_equal(err.msg,
                        "--set limits.max_clients: 0 is out of range (1 to 100000)");
    assert_int_equal(server(SERVER, "/f", "listen=x", &c, &err), SL_E_INPUT);
    assert_string_equal(err.msg, "--set listen: x must be tcp://HOST:PORT (port 0 to 65535)");
}

static void long_paths_are_refused(void **state)
{
    UNUSED(state);
    struct sl_server_config c;
    struct sl_err err = {0};
    char text[2048] = "listen: tcp://a:1\nstate_dir: /";
    size_t n = strlen(text);
    memset(text + n, 'x', SL_CONFIG_PATH - 2);
    assert_int_equal(server(text, NULL, NULL, &c, &err), SL_E_LIMIT);
    assert_non_null(strstr(err.msg, "state_dir/identity is 1032 bytes (at most 1023)"));
    text[n + SL_CONFIG_PATH - 2] = 'x';
    assert_int_equal(server(text, NULL, NULL, &c, &err), SL_E_LIMIT);
    assert_string_equal(err.msg, "s:2: state_dir: text of 1024 bytes (at most 1023)");
}

/* --- files ------------------------------------------------------------------------------------- */

static void write_file(const char *path, const char *text)
{
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    assert_int_equal(fclose(f), 0);
}

static void a_token_file_is_read_beside_the_config(void **state)
{
    UNUSED(state);
    char dir[] = "/tmp/sl_config.XXXXXX", path[64], token[64], wanted[128];
    struct sl_client_config c;
    struct sl_err err = {0};
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof(path), "%s/c.yaml", dir);
    snprintf(token, sizeof(token), "%s/tok", dir);
    const char *text = "coordinator: tcp://a:1\nstate_dir: s\njoin_token_file: tok\n";
    write_file(path, text);
    assert_int_equal(sl_client_config_load(path, NULL, 0, &c, &err), SL_E_NOTFOUND);
    assert_memory_equal(err.msg, "join_token_file: ", 17);
    write_file(token, "\n  sljt1-abc \n");
    assert_int_equal(sl_client_config_load(path, NULL, 0, &c, &err), SL_OK);
    assert_string_equal(c.join_token, "sljt1-abc");
    snprintf(wanted, sizeof(wanted), "%s/s/identity", dir);
    assert_string_equal(c.identity, wanted);
    write_file(token, " \n");
    assert_int_equal(sl_client_config_load(path, NULL, 0, &c, &err), SL_E_INPUT);
    assert_non_null(strstr(err.msg, "no token in it"));
    unlink(token);
    write_file(path, CLIENT "join_token_file: tok\n"); /* used up: the key is known without it */
    assert_int_equal(sl_client_config_load(path, NULL, 0, &c, &err), SL_OK);
    assert_string_equal(c.join_token, "");
    unlink(path);
    assert_int_equal(sl_client_config_load(path, NULL, 0, &c, &err), SL_E_NOTFOUND);
    rmdir(dir);
}

static void the_sample_configs_are_valid(void **state)
{
    UNUSED(state);
    const char *golden = getenv("SL_GOLDEN");
    char path[1024];
    struct sl_server_config s;
    struct sl_client_config c;
    struct sl_err err = {0};
    if (golden == NULL)
        skip();
    snprintf(path, sizeof(path), "%s/../../docs/server.yaml", golden);
    if (sl_server_config_load(path, NULL, 0, &s, &err) != SL_OK)
        fail_msg("%s", err.msg);
    snprintf(path, sizeof(path), "%s/../../docs/client.yaml", golden);
    if (sl_client_config_load(path, NULL, 0, &c, &err) != SL_OK)
        fail_msg("%s", err.msg);
}

static void every_truncation_of_a_config_is_read_or_refused(void **state)
{
    UNUSED(state);
    static const char text[] = SERVER "limits: {max_clients: 5}\nstate: {sync: commit}\n";
    for (size_t n = 0; n < sizeof(text); n++) {
        struct sl_server_config s;
        struct sl_err err = {0};
        if (sl_server_config_parse(text, n, "s", NULL, NULL, 0, &s, &err) != SL_OK)
            assert_true(err.msg[0] != '\0' && strchr(err.msg, '\n') == NULL);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_short_server_config_has_defaults),
        cmocka_unit_test(every_key_of_a_server_config_is_read),
        cmocka_unit_test(a_short_client_config_has_defaults),
        cmocka_unit_test(every_key_of_a_client_config_is_read),
        cmocka_unit_test(options_of_a_synthetic_set_are_no_path),
        cmocka_unit_test(bad_server_configs_are_refused),
        cmocka_unit_test(bad_client_configs_are_refused),
        cmocka_unit_test(set_overrides_a_config_and_keeps_its_path),
        cmocka_unit_test(long_paths_are_refused),
        cmocka_unit_test(a_token_file_is_read_beside_the_config),
        cmocka_unit_test(the_sample_configs_are_valid),
        cmocka_unit_test(every_truncation_of_a_config_is_read_or_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
