/* SPDX-License-Identifier: Apache-2.0 */
/* Many short runs, each with its own storm: what goes wrong, how often, and the rules of
 * its rounds are drawn from the run's number. The invariants are watched after every
 * step. Two processes take the even and the odd numbers. t_world_storm [FIRST [COUNT]]; a
 * failing number is printed and can be run again alone. */
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/rng.h"
#include "tests/scenario/fixture.h"
#include "tests/storms.h"

#define COUNT SL_STORMS(1000)
#define SETTLED 20                      /* runs after which memory no longer grows */
#define GROWTH_BYTES ((size_t)64 << 10) /* what the C library may keep */
#define NO_CACHE "glibc.malloc.tcache_count=0" /* freed pieces would count as used */

static double draw(struct sl_rng *r, double max)
{
    return sl_rng_below(r, 2) == 0 ? 0 : max * sl_rng_f64(r);
}

static void draw_faults(struct sl_rng *r, struct sl_plan *p)
{
    p->sim.faults.drop = draw(r, 0.2);
    p->sim.faults.duplicate = draw(r, 0.3);
    p->sim.faults.reorder = draw(r, 0.5);
    p->sim.faults.disconnect = draw(r, 0.05);
    p->sim.faults.delay = draw(r, 1);
    p->sim.faults.delay_ms = 5 + 3000 * sl_rng_f64(r);
    p->sim.faults.coordinator_kills = (uint32_t)sl_rng_below(r, 5);
    p->sim.faults.client_kills = (uint32_t)sl_rng_below(r, 5);
    p->sim.faults.power_loss = sl_rng_below(r, 2) == 0;
    p->sim.world.dropout = draw(r, 0.3);
}

/* Every eighth has a model of two chunks, whose updates are checked by a job. */
static struct sl_plan storm_plan(uint64_t number)
{
    struct sl_plan p = number % 8 == 0 ? wide_plan() : small_plan();
    struct sl_rng r;
    sl_rng_init(&r, &(struct sl_rng_id){.seed = number, .purpose = SL_RNG_TEST});
    draw_faults(&r, &p);
    p.run.seed = number;
    p.run.rounds = 1 + (uint32_t)sl_rng_below(&r, 4);
    p.run.max_retries = (uint32_t)sl_rng_below(&r, 4);
    p.selection.clients_per_round = 1 + (uint32_t)sl_rng_below(&r, 8);
    p.selection.quorum = 0.25 * (double)(1 + sl_rng_below(&r, 4));
    p.selection.over_select = sl_rng_below(&r, 3) == 0 ? 1.5 : 1.0;
    p.selection.deadline_s = 20 + 60 * sl_rng_f64(&r);
    if (number % 8 == 0) { /* checks reach into the next round */
        p.selection.over_select = 2;
        p.sim.faults.delay = 0.5;
        p.sim.faults.delay_ms = 5000;
    }
    return p;
}

/* A run may fail for want of a quorum, and for nothing else. */
static bool run_number(uint64_t number)
{
    struct sl_plan p[2] = {storm_plan(number)};
    size_t n = number % 16 < 2 ? 2 : 1; /* some have a second run waiting in the queue */
    if (n == 2)
        p[1] = storm_plan(number);
    struct outcome o = run_plans(p, n, 1);
    for (size_t i = 0; i < n; i++)
        sl_plan_deinit(&p[i]);
    if (o.rc == SL_OK || (o.rc == SL_E_FAILED && strstr(o.err.msg, "quorum") != NULL))
        return true;
    printf("storm %llu: %s\n", (unsigned long long)number, o.err.msg);
    fflush(stdout);
    return false;
}

static int run_half(uint64_t first, uint64_t end, uint64_t stride)
{
    int failed = 0;
    size_t settled = 0;
    uint64_t done = 0;
    for (uint64_t n = first; n < end; n += stride) {
        failed += !run_number(n);
        size_t now = mallinfo2().uordblks;
        if (++done == SETTLED)
            settled = now;
        if (done > SETTLED && now > settled + GROWTH_BYTES) {
            printf("storm %llu: memory grew from %zu to %zu bytes\n",
                   (unsigned long long)n, settled, now);
            return failed + 1;
        }
    }
    return failed;
}

int main(int argc, char **argv)
{
    const char *tunables = getenv("GLIBC_TUNABLES");
    if (tunables == NULL || strcmp(tunables, NO_CACHE) != 0) {
        setenv("GLIBC_TUNABLES", NO_CACHE, 1);
        execv("/proc/self/exe", argv);
        perror("exec");
        return 1;
    }
    uint64_t first = argc > 1 ? strtoull(argv[1], NULL, 10) : 1;
    uint64_t count = argc > 2 ? strtoull(argv[2], NULL, 10) : argc > 1 ? 1 : COUNT;
    pid_t child = count > 1 ? fork() : -1;
    if (count > 1 && child < 0) {
        perror("fork");
        return 1;
    }
    uint64_t stride = count > 1 ? 2 : 1;
    int failed = run_half(first + (child == 0), first + count, stride);
    if (child == 0)
        _exit(failed == 0 ? 0 : 1);
    int status = 0;
    if (child > 0 && (waitpid(child, &status, 0) != child || status != 0))
        failed++;
    printf("%llu storms, %s\n", (unsigned long long)count,
           failed == 0 ? "all held" : "FAILED");
    return failed == 0 ? 0 : 1;
}
