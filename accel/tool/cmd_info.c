/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_info.c - what this CPU runs: instruction sets, the variant of each kernel family,
 * units, BLAS. */
#include <stdio.h>
#include <string.h>

#include "accel/accel.h"
#include "accel/kernels/cpu.h"
#include "accel/tool/commands.h"
#include "accel/units/matmul.h"

/* Variants of the families, a better one below a plainer one (kernels/x_ops.c). */
static const struct variant {
    const char *family, *name;
    uint32_t needs;
} variants[] = {
    {"elem", "c", 0},
    {"elem", "avx2", SL_CPU_AVX2},
    {"elem", "avx512", SL_CPU_AVX512},
    {"conv", "c", 0},
    {"conv", "avx2", SL_CPU_AVX2},
    {"conv", "avx512", SL_CPU_AVX512},
    {"pool", "c", 0},
    {"pool", "avx2", SL_CPU_AVX2},
    {"pool", "avx512", SL_CPU_AVX512},
    {"sum", "c", 0},
    {"sum", "avx2", SL_CPU_AVX2},
    {"sum", "avx512", SL_CPU_AVX512},
    {"bfp", "c", 0},
    {"bfp", "avx2", SL_CPU_AVX2},
    {"bfp", "avx512", SL_CPU_AVX512},
    {"bfp", "avx512 vnni", SL_CPU_AVX512 | SL_CPU_AVX512_VNNI},
    {"bfp", "neon", SL_CPU_NEON},
    {"bfp", "neon dotprod", SL_CPU_NEON | SL_CPU_DOTPROD},
    {"tr", "c", 0},
    {"tr", "avx2", SL_CPU_AVX2},
    {"tr", "avx512", SL_CPU_AVX512},
    {"tr", "neon", SL_CPU_NEON},
    {"rtn", "c", 0},
    {"rtn", "avx2", SL_CPU_AVX2},
    {"rtn", "avx512", SL_CPU_AVX512},
    {"rtn", "avx512 vpopcntdq", SL_CPU_AVX512 | SL_CPU_VPOPCNTDQ},
    {"rtn", "neon", SL_CPU_NEON},
};
#define N_VARIANTS (sizeof(variants) / sizeof(variants[0]))

static void print_bits(const char *what, uint32_t bits)
{
    printf("%s:", what);
    for (uint32_t bit = 1; bit != 0; bit <<= 1)
        if ((bits & bit) != 0 && sl_cpu_name(bit) != NULL)
            printf(" %s", sl_cpu_name(bit));
    printf("%s\n", bits == 0 ? " none" : "");
}

static bool is_last_of_family(size_t i)
{
    return i + 1 == N_VARIANTS || strcmp(variants[i + 1].family, variants[i].family) != 0;
}

enum sl_code sl_tool_info(const struct sl_tool_options *o, uint32_t cpu,
                          struct sl_err *err)
{
    enum sl_code rc = sl_tool_allow(o, NULL, NULL, 0, err);
    if (rc == SL_OK && o->n_paths != 0)
        rc = sl_err_set(err, SL_E_USAGE, "info takes no file");
    if (rc != SL_OK)
        return rc;
    print_bits("instruction sets", sl_cpu_detect());
    print_bits("masked", sl_cpu_detect() & ~cpu);
    const char *best = "";
    for (size_t i = 0; i < N_VARIANTS; i++) {
        if ((variants[i].needs & ~cpu) == 0)
            best = variants[i].name;
        if (is_last_of_family(i))
            printf("kernels %s: %s\n", variants[i].family, best);
    }
    printf("units:");
    for (size_t i = 0; sl_matmul_unit_at(i) != NULL; i++)
        printf(" %s", sl_matmul_unit_at(i)->name);
    printf("\nblas: %s\n", sl_accel_blas_name());
    return SL_OK;
}
