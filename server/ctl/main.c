/* SPDX-License-Identifier: Apache-2.0 */
/* starlingctl - the operator's program. Every command but keygen and pubkey talks to a running
 * coordinator through its admin socket. */
#include <getopt.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/keyfile.h"
#include "common/mem.h"
#include "common/model_file.h"
#include "common/plan.h"
#include "common/plot_svg.h"
#include "server/ctl/ctl.h"

#define DEFAULT_SOCKET "/run/starling/admin.sock"

/* --- commands without a coordinator ----------------------------------------------------------- */

static enum sl_code print_public(const uint8_t secret[SL_KEYFILE_KEY])
{
    uint8_t key[SL_KEYFILE_KEY];
    char hex[SL_KEYFILE_HEX];
    sl_keyfile_public(secret, key);
    sl_key_format(key, hex);
    puts(hex);
    return SL_OK;
}

static enum sl_code cmd_keygen(struct sl_ctl_link *l, const struct sl_ctl_options *o,
                               struct sl_err *err)
{
    uint8_t secret[SL_KEYFILE_KEY];
    enum sl_code rc = sl_keyfile_generate(o->args[0], secret, err);
    if (rc == SL_OK)
        rc = print_public(secret);
    sodium_memzero(secret, sizeof(secret));
    return rc;
}

static enum sl_code cmd_pubkey(struct sl_ctl_link *l, const struct sl_ctl_options *o,
                               struct sl_err *err)
{
    uint8_t secret[SL_KEYFILE_KEY];
    enum sl_code rc = sl_keyfile_read(o->args[0], secret, err);
    if (rc == SL_OK)
        rc = print_public(secret);
    sodium_memzero(secret, sizeof(secret));
    return rc;
}

/* --- small helpers ---------------------------------------------------------------------------- */

static enum sl_code number(const char *text, const char *what, int64_t *ret, struct sl_err *err)
{
    char *end;
    long long v = strtoll(text, &end, 10);
    if (*text == '\0' || *end != '\0' || v < 0)
        return sl_err_set(err, SL_E_USAGE, "%s: a whole number expected, got \"%s\"", what, text);
    *ret = v;
    return SL_OK;
}

/* Asks and, with --json, prints the part named key. */
static enum sl_code ask(struct sl_ctl_link *l, json_t *request, const char *key,
                        const struct sl_ctl_options *o, json_t **ret, struct sl_err *err)
{
    enum sl_code rc = sl_ctl_ask(l, request, ret, err);
    if (rc == SL_OK && o->json) {
        json_dumpf(key == NULL ? *ret : json_object_get(*ret, key), stdout,
                   JSON_INDENT(2) | JSON_REAL_PRECISION(17));
        putchar('\n');
    }
    return rc;
}

static enum sl_code simple(struct sl_ctl_link *l, const char *cmd, struct sl_err *err)
{
    json_t *answer;
    enum sl_code rc = sl_ctl_ask(l, json_pack("{s:s}", "cmd", cmd), &answer, err);
    if (rc == SL_OK)
        json_decref(answer);
    return rc;
}

static const char *text_of(const json_t *o, const char *key)
{
    const char *s = json_string_value(json_object_get(o, key));
    return s != NULL ? s : "-";
}

/* --- registry --------------------------------------------------------------------------------- */

static enum sl_code cmd_token(struct sl_ctl_link *l, const struct sl_ctl_options *o,
                              struct sl_err *err)
{
    json_t *request = json_pack("{s:s}", "cmd", "token"), *answer;
    if (o->index >= 0)
        json_object_set_new(request, "index", json_integer(o->index));
    enum sl_code rc = ask(l, request, NULL, o, &answer, err);
    if (rc != SL_OK)
        return rc;
    if (!o->json)
        puts(text_of(answer, "token"));
    json_decref(answer);
    return SL_OK;
}

static enum sl_code cmd_approve(struct sl_ctl_link *l, const struct sl_ctl_options *o,
                                struct sl_err *err)
{
    if (o->key == NULL || o->name == NULL || o->index < 0)
        return sl_err_set(err, SL_E_USAGE, "approve: --key, --name and --index are needed");
    json_t *answer;
    enum sl_code rc = ask(l, json_pack("{s:s, s:s, s:s, s:I}", "cmd", "approve", "key", o->key,
                                       "name", o->name, "index", (json_int_t)o->index),
                          NULL, o, &answer, err);
    if (rc == SL_OK)
        json_decref(answer);
    return rc;
}

static enum sl_code cmd_revoke(struct sl_ctl_link *l, const struct sl_ctl_options *o,
                               struct sl_err *err)
{
    int64_t index;
    enum sl_code rc = number(o->args[0], "revoke", &index, err);
    if (rc != SL_OK)
        return rc;
    json_t *answer;
    rc = ask(l, json_pack("{s:s, s:I}", "cmd", "revoke", "index", (json_int_t)index), NULL, o,
             &answer, err);
    if (rc == SL_OK)
        json_decref(answer);
    return rc;
}

static enum sl_code cmd_clients(struct sl_ctl_link *l, const struct sl_ctl_options *o,
                                struct sl_err *err)
{
    json_t *answer;
    enum sl_code rc = ask(l, json_pack("{s:s}", "cmd", "clients"), "clients", o, &answer, err);
    if (rc != SL_OK)
        return rc;
    if (!o->json) {
        size_t i;
        json_t *c;
        printf("%6s  %-24s %-9s %s\n", "index", "name", "state", "key");
        json_array_foreach(json_object_get(answer, "clients"), i, c)
        {
            printf("%6lld  %-24s %-9s %s\n",
                   (long long)json_integer_value(json_object_get(c, "index")),
                   text_of(c, "name"), text_of(c, "state"), text_of(c, "key"));
        }
    }
    json_decref(answer);
    return SL_OK;
}

/* --- runs ------------------------------------------------------------------------------------- */

static enum sl_code cmd_submit(struct sl_ctl_link *l, const struct sl_ctl_options *o,
                               struct sl_err *err)
{
    struct sl_plan_override set[64];
    size_t n = 0;
    char seed[48];
    if (o->n_sets + 1 > sizeof(set) / sizeof(set[0]))
        return sl_err_set(err, SL_E_USAGE, "--set: at most %zu", sizeof(set) / sizeof(set[0]) - 1);
    for (size_t i = 0; i < o->n_sets; i++)
        set[n++].text = o->sets[i];
    if (o->seed >= 0) {
        snprintf(seed, sizeof(seed), "run.seed=%lld", (long long)o->seed);
        set[n++].text = seed;
    }
    struct sl_plan plan;
    enum sl_code rc = sl_plan_load(o->args[0], set, n, &plan, err);
    if (rc != SL_OK)
        return rc;
    char *text;
    size_t text_bytes;
    rc = sl_plan_canonical(&plan, &text, &text_bytes, err);
    sl_plan_deinit(&plan);
    if (rc != SL_OK)
        return rc;
    json_t *answer;
    rc = ask(l, json_pack("{s:s, s:s}", "cmd", "submit", "plan", text), NULL, o, &answer, err);
    free(text);
    if (rc != SL_OK)
        return rc;
    if (!o->json)
        printf("run %lld queued\n", (long long)json_integer_value(json_object_get(answer, "run")));
    json_decref(answer);
    return SL_OK;
}

static void print_value(const char *key, const json_t *v, int depth)
{
    if (json_is_object(v)) {
        printf("%*s%s:\n", depth * 2, "", key);
        const char *k;
        json_t *w;
        json_object_foreach((json_t *)v, k, w) print_value(k, w, depth + 1);
        return;
    }
    if (json_is_string(v)) {
        printf("%*s%s: %s\n", depth * 2, "", key, json_string_value(v));
        return;
    }
    char *text = json_dumps(v, JSON_ENCODE_ANY | JSON_COMPACT | JSON_REAL_PRECISION(6));
    printf("%*s%s: %.200s%s\n", depth * 2, "", key, text != NULL ? text : "?",
           text != NULL && strlen(text) > 200 ? "..." : "");
    free(text);
}

static enum sl_code print_part(struct sl_ctl_link *l, const struct sl_ctl_options *o,
                               json_t *request, const char *part, struct sl_err *err)
{
    json_t *answer;
    enum sl_code rc = ask(l, request, part, o, &answer, err);
    if (rc != SL_OK)
        return rc;
    if (!o->json) {
        const char *k;
        json_t *v;
        json_object_foreach(json_object_get(answer, part), k, v) print_value(k, v, 0);
    }
    json_decref(answer);
    return SL_OK;
}

static enum sl_code cmd_status(struct sl_ctl_link *l, const struct sl_ctl_options *o,
                               struct sl_err *err)
{
    return print_part(l, o, json_pack("{s:s}", "cmd", "status"), "status", err);
}

static enum sl_code cmd_explain(struct sl_ctl_link *l, const struct sl_ctl_options *o,
                                struct sl_err *err)
{
    int64_t round = -1;
    if (o->n_args > 0) {
        enum sl_code rc = number(o->args[0], "explain", &round, err);
        if (rc != SL_OK)
            return rc;
    }
    return print_part(l, o, json_pack("{s:s, s:I}", "cmd", "explain", "round", (json_int_t)round),
                      "explain", err);
}

/* The learning curve of a report as an SVG file. */
static enum sl_code draw_curve(const json_t *report, const char *path, struct sl_err *err)
{
    size_t n = 0, i, max = json_array_size(report);
    double *x = sl_calloc(max, sizeof(*x)), *y = sl_calloc(max, sizeof(*y));
    json_t *line;
    json_array_foreach(report, i, line)
    {
        const json_t *a = json_object_get(line, "accuracy");
        if (x == NULL || y == NULL || !json_is_number(a) ||
            strcmp(text_of(line, "event"), "round") != 0)
            continue;
        x[n] = json_number_value(json_object_get(line, "round"));
        y[n++] = json_number_value(a);
    }
    struct sl_plot_series series = {.name = "test accuracy", .x = x, .y = y, .n = n};
    struct sl_plot_lines plot = {.title = "Test accuracy by round",
                                 .x_name = "round",
                                 .y_name = "accuracy",
                                 .series = &series,
                                 .n_series = 1};
    FILE *f = x == NULL || y == NULL ? NULL : fopen(path, "w");
    enum sl_code rc = f == NULL ? sl_err_set(err, SL_E_IO, "%s: can't be written", path)
                                : sl_plot_svg_lines(f, &plot, err);
    if (f != NULL && fclose(f) != 0 && rc == SL_OK)
        rc = sl_err_set(err, SL_E_IO, "%s: write failed", path);
    free(x);
    free(y);
    return rc;
}

static enum sl_code cmd_report(struct sl_ctl_link *l, const struct sl_ctl_options *o,
                               struct sl_err *err)
{
    json_t *answer;
    enum sl_code rc = sl_ctl_ask(l, json_pack("{s:s, s:I}", "cmd", "report", "run",
                                              (json_int_t)(o->run >= 0 ? o->run : 1)),
                                 &answer, err);
    if (rc != SL_OK)
        return rc;
    if (o->svg != NULL) {
        rc = draw_curve(json_object_get(answer, "report"), o->svg, err);
        if (rc != SL_OK || o->out == NULL) {
            json_decref(answer);
            return rc;
        }
    }
    FILE *out = o->out != NULL ? fopen(o->out, "w") : stdout;
    if (out == NULL) {
        json_decref(answer);
        return sl_err_set(err, SL_E_IO, "%s: can't be written", o->out);
    }
    size_t i;
    json_t *line;
    json_array_foreach(json_object_get(answer, "report"), i, line)
    {
        json_dumpf(line, out, JSON_COMPACT | JSON_REAL_PRECISION(17));
        fputc('\n', out);
    }
    bool bad = ferror(out) != 0;
    if (out != stdout && fclose(out) != 0)
        bad = true;
    json_decref(answer);
    return bad ? sl_err_set(err, SL_E_IO, "%s: write failed", o->out != NULL ? o->out : "stdout")
               : SL_OK;
}

static enum sl_code layout_of(const json_t *tensors, struct sl_layout *l, struct sl_err *err)
{
    size_t i;
    json_t *t;
    json_array_foreach(tensors, i, t)
    {
        const json_t *shape = json_object_get(t, "shape");
        uint32_t dim[SL_TENSOR_DIMS] = {0};
        size_t n = json_array_size(shape);
        if (n > SL_TENSOR_DIMS)
            return sl_err_set(err, SL_E_PROTO, "tensor of %zu dimensions", n);
        for (size_t d = 0; d < n; d++)
            dim[d] = (uint32_t)json_integer_value(json_array_get(shape, d));
        enum sl_code rc = sl_layout_add(l, text_of(t, "name"),
                                        (enum sl_tensor_role)json_integer_value(
                                            json_object_get(t, "role")),
                                        (unsigned)n, dim, err);
        if (rc != SL_OK)
            return rc;
    }
    return SL_OK;
}

static enum sl_code save_model(struct sl_ctl_link *l, const struct sl_ctl_options *o,
                               const json_t *answer, struct sl_err *err)
{
    struct sl_layout layout = {0};
    enum sl_code rc = layout_of(json_object_get(answer, "tensors"), &layout, err);
    size_t n = (size_t)json_integer_value(json_object_get(answer, "bytes"));
    if (rc == SL_OK && n != layout.n_values * sizeof(float))
        rc = sl_err_set(err, SL_E_PROTO, "model of %zu bytes, layout of %zu", n,
                        layout.n_values * sizeof(float));
    float *values = NULL;
    if (rc == SL_OK && (values = sl_calloc(layout.n_values, sizeof(float))) == NULL)
        rc = sl_err_set(err, SL_E_NOMEM, "model of %zu bytes", n);
    if (rc == SL_OK)
        rc = sl_ctl_bytes(l, values, n, err);
    if (rc == SL_OK)
        rc = sl_model_file_save(o->out, &layout, values, err);
    free(values);
    sl_layout_deinit(&layout);
    return rc;
}

static enum sl_code cmd_export(struct sl_ctl_link *l, const struct sl_ctl_options *o,
                               struct sl_err *err)
{
    if (o->out == NULL)
        return sl_err_set(err, SL_E_USAGE, "export: -o FILE.npz or -o FILE.safetensors is needed");
    json_t *answer;
    enum sl_code rc = sl_ctl_ask(l, json_pack("{s:s, s:b}", "cmd", "model", "best", o->best),
                                 &answer, err);
    if (rc != SL_OK)
        return rc;
    rc = save_model(l, o, answer, err);
    json_decref(answer);
    return rc;
}

static enum sl_code cmd_calibrate(struct sl_ctl_link *l, const struct sl_ctl_options *o,
                                  struct sl_err *err)
{
    return simple(l, "calibrate", err);
}

static enum sl_code cmd_pause(struct sl_ctl_link *l, const struct sl_ctl_options *o,
                              struct sl_err *err)
{
    return simple(l, "pause", err);
}

static enum sl_code cmd_resume(struct sl_ctl_link *l, const struct sl_ctl_options *o,
                               struct sl_err *err)
{
    return simple(l, "resume", err);
}

static enum sl_code cmd_drain(struct sl_ctl_link *l, const struct sl_ctl_options *o,
                              struct sl_err *err)
{
    return simple(l, "drain", err);
}

/* --- the table -------------------------------------------------------------------------------- */

static const struct command {
    const char *name, *args, *help;
    int min_args, max_args;
    bool offline;
    enum sl_code (*run)(struct sl_ctl_link *l, const struct sl_ctl_options *o,
                        struct sl_err *err);
} commands[] = {
    {"keygen", "FILE", "make an identity, print its public key", 1, 1, true, cmd_keygen},
    {"pubkey", "FILE", "print the public key of an identity", 1, 1, true, cmd_pubkey},
    {"token", "[--index N]", "make a one-time join token and print it", 0, 0, false, cmd_token},
    {"approve", "--key HEX --name NAME --index N", "enrol a client by its key", 0, 0, false,
     cmd_approve},
    {"revoke", "INDEX", "shut a client out", 1, 1, false, cmd_revoke},
    {"clients", "[--json]", "list the registry", 0, 0, false, cmd_clients},
    {"submit", "PLAN [--set K=V] [--seed N]", "queue a run", 1, 1, false, cmd_submit},
    {"status", "[--json]", "what the coordinator is doing", 0, 0, false, cmd_status},
    {"watch", "[--run N]", "follow a run until it ends", 0, 0, false, sl_ctl_watch},
    {"explain", "[ROUND]", "what a round waits for, whom it dropped and why", 0, 1, false,
     cmd_explain},
    {"report", "[--run N] [-o FILE] [--svg FILE]", "the report of a run, JSON lines; its curve", 0, 0,
     false, cmd_report},
    {"export", "-o FILE [--best]", "write the model, or the best one (.npz or .safetensors)", 0, 0,
     false, cmd_export},
    {"calibrate", "", "fit the head to all enrolled clients' data", 0, 0, false, cmd_calibrate},
    {"pause", "", "start no new round", 0, 0, false, cmd_pause},
    {"resume", "", "go on after pause", 0, 0, false, cmd_resume},
    {"drain", "", "finish the open round, then stop the coordinator", 0, 0, false, cmd_drain},
};

#define N_COMMANDS (sizeof(commands) / sizeof(commands[0]))

static void help(void)
{
    printf("usage: starlingctl [--socket PATH] COMMAND ...\n\ncommands:\n");
    for (size_t i = 0; i < N_COMMANDS; i++)
        printf("  %-8s %-32s %s\n", commands[i].name, commands[i].args, commands[i].help);
    printf("\noptions:\n"
           "  --socket PATH  admin socket (default: $STARLING_SOCKET, else %s)\n"
           "  --json         print the coordinator's answer as JSON\n"
           "  --set K=V      change a value of the plan (repeatable)\n"
           "  --seed N       the run's seed\n"
           "  --index N      client's number      --name NAME, --key HEX  client's name, key\n"
           "  --run N        a run's number       -o, --out FILE          where to write\n"
           "  --best         of export: the best evaluated model\n"
           "  --quiet        no progress\n"
           "  --help, --version\n",
           DEFAULT_SOCKET);
}

static enum sl_code parse(int argc, char **argv, struct sl_ctl_options *o, bool *ret_stop,
                          struct sl_err *err)
{
    static const struct option options[] = {
        {"socket", required_argument, NULL, 's'}, {"json", no_argument, NULL, 'j'},
        {"set", required_argument, NULL, 'S'},    {"seed", required_argument, NULL, 'e'},
        {"index", required_argument, NULL, 'i'},  {"name", required_argument, NULL, 'n'},
        {"key", required_argument, NULL, 'k'},    {"run", required_argument, NULL, 'r'},
        {"out", required_argument, NULL, 'o'},    {"svg", required_argument, NULL, 'g'},
        {"quiet", no_argument, NULL, 'q'},        {"best", no_argument, NULL, 'b'},
        {"help", no_argument, NULL, 'h'},         {"version", no_argument, NULL, 'V'},
        {NULL, 0, NULL, 0}};
    enum sl_code rc = SL_OK;
    opterr = 0;
    for (int c; rc == SL_OK && (c = getopt_long(argc, argv, ":o:", options, NULL)) != -1;) {
        switch (c) {
        case 's': o->socket = optarg; break;
        case 'j': o->json = true; break;
        case 'q': o->quiet = true; break;
        case 'b': o->best = true; break;
        case 'S': o->sets[o->n_sets++] = optarg; break;
        case 'n': o->name = optarg; break;
        case 'k': o->key = optarg; break;
        case 'o': o->out = optarg; break;
        case 'g': o->svg = optarg; break;
        case 'e': rc = number(optarg, "--seed", &o->seed, err); break;
        case 'i': rc = number(optarg, "--index", &o->index, err); break;
        case 'r': rc = number(optarg, "--run", &o->run, err); break;
        case 'h':
            help();
            *ret_stop = true;
            return SL_OK;
        case 'V':
            puts("starlingctl " SL_VERSION);
            *ret_stop = true;
            return SL_OK;
        default:
            return sl_err_set(err, SL_E_USAGE, "%s: %s (see --help)", argv[optind - 1],
                              c == ':' ? "a value is missing" : "unknown option");
        }
    }
    o->args = argv + optind;
    o->n_args = argc - optind;
    return rc;
}

static const struct command *find(const char *name)
{
    for (size_t i = 0; i < N_COMMANDS; i++)
        if (strcmp(commands[i].name, name) == 0)
            return &commands[i];
    return NULL;
}

static enum sl_code run(int argc, char **argv, struct sl_ctl_options *o, struct sl_err *err)
{
    bool stop = false;
    enum sl_code rc = parse(argc, argv, o, &stop, err);
    if (rc != SL_OK || stop)
        return rc;
    if (o->n_args == 0)
        return sl_err_set(err, SL_E_USAGE, "a command is missing (see --help)");
    const struct command *c = find(o->args[0]);
    if (c == NULL)
        return sl_err_set(err, SL_E_USAGE, "%s: unknown command (see --help)", o->args[0]);
    o->args++;
    o->n_args--;
    if (o->n_args < c->min_args || o->n_args > c->max_args)
        return sl_err_set(err, SL_E_USAGE, "usage: starlingctl %s %s", c->name, c->args);
    struct sl_ctl_link link = {.fd = -1};
    if (!c->offline)
        rc = sl_ctl_open(o->socket, &link, err);
    if (rc == SL_OK)
        rc = c->run(&link, o, err);
    sl_ctl_close(&link);
    return rc;
}

int main(int argc, char **argv)
{
    if (sodium_init() < 0) {
        fprintf(stderr, "starlingctl: libsodium can't be used\n");
        return 70;
    }
    const char *socket = getenv("STARLING_SOCKET");
    struct sl_ctl_options o = {.socket = socket != NULL ? socket : DEFAULT_SOCKET,
                               .sets = sl_calloc((size_t)argc, sizeof(char *)),
                               .index = -1,
                               .run = -1,
                               .seed = -1};
    struct sl_err err = {0};
    enum sl_code rc = o.sets == NULL ? sl_err_set(&err, SL_E_NOMEM, "options")
                                     : run(argc, argv, &o, &err);
    free(o.sets);
    if (rc != SL_OK)
        fprintf(stderr, "starlingctl: %s\n", err.msg);
    return sl_code_exit_status(rc);
}
