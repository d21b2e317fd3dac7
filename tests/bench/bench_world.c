/* SPDX-License-Identifier: Apache-2.0 */
/* How long a world takes to start with 10,000 registered virtual clients, what they add
 * in memory, and how many steps a second it makes. bench_world [CLIENTS] */
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "accel/accel.h"
#include "common/plan.h"
#include "sim/world.h"

static double now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static enum sl_code plan_for(unsigned clients, struct sl_plan *ret, struct sl_err *err)
{
    char text[1024];
    snprintf(text, sizeof(text),
             "run: {name: start, seed: 1, rounds: 1, eval_every: 0}\n"
             "data:\n"
             "  dataset: synthetic\n"
             "  path: \"channels=1,height=4,width=4,classes=2,train=%u,test=10\"\n"
             "  partition: {kind: iid, clients: %u}\n"
             "model: {layers: [flatten, {dense: 2}]}\n"
             "train: {epochs: 1, batch_size: 2, lr: 0.1}\n"
             "selection: {clients_per_round: 10, deadline_s: 600}\n",
             2 * clients, clients);
    return sl_plan_parse(text, strlen(text), "bench", NULL, 0, ret, err);
}

int main(int argc, char **argv)
{
    unsigned clients = argc > 1 ? (unsigned)strtoul(argv[1], NULL, 10) : 10000;
    struct sl_plan plan;
    struct sl_err err;
    struct sl_world *w;
    sl_accel_init();
    if (clients == 0 || plan_for(clients, &plan, &err) != SL_OK) {
        fprintf(stderr, "bench_world: %s\n", clients == 0 ? "0 clients" : err.msg);
        return 2;
    }
    struct sl_world_options options = {.plans = &plan, .n_plans = 1, .jobs = 1};
    size_t before = mallinfo2().uordblks;
    double start = now_s();
    enum sl_code rc = sl_world_new(&options, &w, &err);
    if (rc == SL_OK) {
        rc = sl_world_run(w, 0, &err);
        struct sl_world_stats s = sl_world_stats(w);
        double spent = now_s() - start;
        printf("%u clients: %.3f s, %.1f MB, %.0f steps/s\n", clients, spent,
               (double)(mallinfo2().uordblks - before) * 1e-6, (double)s.steps / spent);
        sl_world_free(w);
    }
    if (rc != SL_OK)
        fprintf(stderr, "bench_world: %s\n", err.msg);
    sl_plan_deinit(&plan);
    return sl_code_exit_status(rc);
}
