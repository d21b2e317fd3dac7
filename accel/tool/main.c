/* SPDX-License-Identifier: Apache-2.0 */
/* starling-accel: looks at number formats and emulated units from the shell. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "accel/accel.h"
#include "accel/kernels/cpu.h"
#include "accel/tool/commands.h"
#include "common/mem.h"

static const char help[] =
    "usage: starling-accel check DIR [--only GLOB]...\n"
    "       starling-accel quantize --unit U [options] IN.npy --out OUT.npz\n"
    "       starling-accel matmul --unit U [options] A.npy W.npy --out C.npy\n"
    "       starling-accel cost --unit U --model NAME [options]\n"
    "       starling-accel info\n"
    "\n"
    "check     golden vectors through every kernel of this CPU\n"
    "  --only GLOB      only cases whose name matches (repeatable)\n"
    "quantize  a tensor in the unit's format: an .npz with its fields\n"
    "matmul    C = A W (+ bias), A [M, K], W [K, N], float32\n"
    "cost      what the unit counts for a training step, by layer and pass\n"
    "info      instruction sets, kernels, masks, units, BLAS of this machine\n"
    "\n"
    "quantize, matmul and cost:\n"
    "  --unit U         fast, tr, rtn; fp32 (not quantize)\n"
    "  --cost           print counters as JSON (quantize, matmul)\n"
    "fast (block floating point):\n"
    "  --m 1-8, --e 0|3|4|8, --g N   bits of a magnitude (4), of an exponent (4; 0 =\n"
    "                   unlimited), values of a group (16)\n"
    "  --round MODE     truncate, nearest, ctr (--key N), lfsr (--lfsr-start N),\n"
    "                   given (--noise FILE.npy)                          [quantize]\n"
    "  --axis N         of the groups (-1)                                [quantize]\n"
    "  --ma, --mw, --round-a, --round-w, --key-a, --key-w   of A and of W [matmul]\n"
    "  --exact          one rounding at the end                           [matmul]\n"
    "tr (term revealing):\n"
    "  --enc ENC        naf, window, binary (naf)\n"
    "  --bits 2-15      of a code (8); --sf S: a given scale              [quantize]\n"
    "  --bits-x, --bits-w, --sf-x S|max    of A and W; the scale of A     [matmul]\n"
    "  --g N --k N      budget of a group (matmul: 8, 12); --s N: of a value (3)\n"
    "  --axis N         of the groups (-1)                                [quantize]\n"
    "rtn (ternary):\n"
    "  --role R         activation or weight; --scope layer or channel    [quantize]\n"
    "  --gamma G --beta B                                                 [quantize]\n"
    "  --ga G --ba B --gw G|FILE.npy --bw B|FILE.npy                      [matmul]\n"
    "matmul:\n"
    "  --bias FILE.npy  [N], added last\n"
    "cost:\n"
    "  --model NAME     tiny, mlp, lenet, cnn, pfl-cnn, resnet8\n"
    "  --input CxHxW    (1x28x28); --classes N (10); --batch N (32)\n"
    "\n"
    "  --help, --version\n"
    "\n"
    "STARLING_CPU_MASK names instruction sets not to use, with commas between.\n"
    "exit status: 0 done, 1 a case failed, 2 usage or input file, 70 a bug\n";

static const struct {
    const char *name;
    enum sl_code (*run)(const struct sl_tool_options *o, uint32_t cpu,
                        struct sl_err *err);
} verbs[] = {
    {"check", sl_tool_check}, {"quantize", sl_tool_quantize}, {"matmul", sl_tool_matmul},
    {"cost", sl_tool_cost},   {"info", sl_tool_info},
};

static enum sl_code run_verb(const struct sl_tool_options *o, struct sl_err *err)
{
    char list[128] = "";
    enum sl_code rc = sl_accel_check_env(err);
    if (rc != SL_OK)
        return rc;
    for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++) {
        if (o->verb != NULL && strcmp(verbs[i].name, o->verb) == 0)
            return verbs[i].run(o, sl_cpu_usable(), err);
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
