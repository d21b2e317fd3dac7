/* SPDX-License-Identifier: Apache-2.0 */
/* starling-accel: looks at number formats and emulated units from the shell. */
#include <stdio.h>
#include <string.h>

#include "accel/accel.h"
#include "accel/tool/commands.h"
#include "common/mem.h"

static const char help[] =
    "usage: starling-accel check DIR [--only GLOB]...   golden vectors through every "
    "kernel\n"
    "\n"
    "check:\n"
    "  --only GLOB           only cases whose name matches (repeatable)\n"
    "\n"
    "  --help, --version\n"
    "\n"
    "exit status: 0 done, 1 a case failed, 2 usage or input file, 70 a bug\n";

static const struct {
    const char *name;
    enum sl_code (*run)(const struct sl_tool_options *o, struct sl_err *err);
} verbs[] = {
    {"check", sl_tool_check},
};

static enum sl_code run_verb(const struct sl_tool_options *o, struct sl_err *err)
{
    char list[128] = "";
    for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++) {
        if (o->verb != NULL && strcmp(verbs[i].name, o->verb) == 0)
            return verbs[i].run(o, err);
        size_t at = strlen(list);
        snprintf(list + at, sizeof(list) - at, "%s%s", i == 0 ? "" : ", ", verbs[i].name);
    }
    if (o->verb == NULL)
        return sl_err_set(err, SL_E_USAGE, "no verb (%s; see --help)", list);
    return sl_err_set(err, SL_E_USAGE, "unknown verb \"%.40s\" (%s)", o->verb, list);
}

int main(int argc, char **argv)
{
    struct sl_tool_options o;
    struct sl_err err = {.msg = ""};
    sl_accel_init();
    sl_mem_tune_malloc();
    enum sl_code rc = sl_tool_options_parse(argc, argv, &o, &err);
    if (rc == SL_OK && o.value[SL_OPT_HELP] != NULL) {
        fputs(help, stdout);
        return 0;
    }
    if (rc == SL_OK && o.value[SL_OPT_VERSION] != NULL) {
        puts("starling-accel " SL_VERSION);
        return 0;
    }
    if (rc == SL_OK)
        rc = run_verb(&o, &err);
    if (rc != SL_OK && err.msg[0] != '\0')
        fprintf(stderr, "starling-accel: %s\n", err.msg);
    if (fflush(stdout) != 0 && rc == SL_OK)
        rc = SL_E_IO;
    return sl_code_exit_status(rc);
}
