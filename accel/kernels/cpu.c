/* SPDX-License-Identifier: Apache-2.0 */
#include "accel/kernels/cpu.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#if defined(__aarch64__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

static const struct {
    const char *name;
    uint32_t bits;
} known[] = {
    {"avx2", SL_CPU_AVX2},
    {"avx512", SL_CPU_AVX512},
    {"vnni", SL_CPU_AVX512_VNNI},
    {"neon", SL_CPU_NEON},
    {"dotprod", SL_CPU_DOTPROD},
    {"vpopcntdq", SL_CPU_VPOPCNTDQ},
    {"all", SL_CPU_AVX2 | SL_CPU_AVX512 | SL_CPU_AVX512_VNNI | SL_CPU_NEON |
                SL_CPU_DOTPROD | SL_CPU_VPOPCNTDQ},
};
#define N_KNOWN (sizeof(known) / sizeof(known[0]))

uint32_t sl_cpu_detect(void)
{
    uint32_t bits = 0;
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx2"))
        bits |= SL_CPU_AVX2;
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
        bits |= SL_CPU_AVX512;
    if (bits & SL_CPU_AVX512 && __builtin_cpu_supports("avx512vnni"))
        bits |= SL_CPU_AVX512_VNNI;
    if (bits & SL_CPU_AVX512 && __builtin_cpu_supports("avx512vpopcntdq"))
        bits |= SL_CPU_VPOPCNTDQ;
#elif defined(__aarch64__)
    unsigned long caps = getauxval(AT_HWCAP);
    if (caps & HWCAP_ASIMD)
        bits |= SL_CPU_NEON;
    if (caps & HWCAP_ASIMDDP)
        bits |= SL_CPU_DOTPROD;
#endif
    return bits;
}

static bool bits_of(const char *name, size_t n, uint32_t *ret)
{
    for (size_t i = 0; i < N_KNOWN; i++)
        if (strlen(known[i].name) == n && memcmp(known[i].name, name, n) == 0) {
            *ret = known[i].bits;
            return true;
        }
    return false;
}

bool sl_cpu_off_parse(const char *names, uint32_t *ret_off)
{
    uint32_t off = 0;
    const char *p = names == NULL ? "" : names;
    while (*p != '\0') {
        size_t n = strcspn(p, ",");
        uint32_t bits;
        if (!bits_of(p, n, &bits))
            return false;
        off |= bits;
        p += n;
        if (*p == ',' && *++p == '\0')
            return false; /* a comma wants a name behind it */
    }
    *ret_off = off;
    return true;
}

uint32_t sl_cpu_usable(void)
{
    uint32_t off = 0;
    (void)sl_cpu_off_parse(getenv("STARLING_CPU_MASK"), &off);
    return sl_cpu_detect() & ~off;
}

const char *sl_cpu_name(uint32_t bit)
{
    for (size_t i = 0; i < N_KNOWN; i++)
        if (known[i].bits == bit && strcmp(known[i].name, "all") != 0)
            return known[i].name;
    return NULL;
}
