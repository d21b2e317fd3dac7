/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "accel/accel.h"
#include "common/model_file.h"
#include "common/report.h"
#include "server/selection/fedmarl/record.h"
#include "sim/commands.h"
#include "sim/progress.h"
#include "sim/world.h"

struct watcher {
    struct sl_progress progress;
    struct sl_report *report;
    const char *records; /* --records; NULL = not wanted */
    struct sl_err failure; /* of writing report or records */
};

static void on_report(void *ctx, uint64_t run, json_t *line)
{
    struct watcher *w = ctx;
    sl_progress_line(&w->progress, line);
    struct sl_err err;
    if (w->report != NULL && w->failure.code == SL_OK &&
        sl_report_write(w->report, line, &err) != SL_OK)
        w->failure = err;
}

static void on_record(void *ctx, uint64_t run, uint32_t round, const uint8_t *bytes, size_t n)
{
    struct watcher *w = ctx;
    struct sl_err err;
    if (w->records != NULL && w->failure.code == SL_OK &&
        sl_fedmarl_log_append(w->records, run, round, bytes, n, &err) != SL_OK)
        w->failure = err;
}

static enum sl_code save_model(const struct sl_world *world, const char *path,
                               struct sl_err *err)
{
    const struct sl_layout *layout;
    const float *values = sl_world_model(world, &layout);
    if (values == NULL)
        return sl_err_set(err, SL_E_FAILED, "%s: there is no model", path);
    return sl_model_file_save(path, layout, values, err);
}

static enum sl_code run_world(const struct sl_sim_options *o, const struct sl_plan *plan,
                              const json_t *replay, struct watcher *w, struct sl_err *err)
{
    struct sl_world_options options = {.plans = plan,
                                       .n_plans = 1,
                                       .jobs = o->jobs,
                                       .replay = replay,
                                       .blas_name = sl_accel_blas_name(),
                                       .hooks = {.ctx = w,
                                                 .report = on_report,
                                                 .record = on_record}};
    struct sl_world *world;
    enum sl_code rc = sl_world_new(&options, &world, err);
    if (rc != SL_OK)
        return rc;
    rc = sl_world_run(world, 0, err);
    if (rc == SL_OK && o->model_out != NULL)
        rc = save_model(world, o->model_out, err);
    if (rc == SL_OK && w->failure.code != SL_OK) {
        *err = w->failure;
        rc = w->failure.code;
    }
    sl_progress_summary(&w->progress, sl_world_stats(world).virtual_s, o->report,
                        rc == SL_OK ? o->model_out : NULL);
    sl_world_free(world);
    return rc;
}

enum sl_code sl_command_run(const struct sl_sim_options *o, struct sl_err *err)
{
    struct sl_plan plan = {0};
    struct watcher w = {.records = o->records};
    json_t *replay = NULL;
    enum sl_code rc = sl_plan_load(o->path, o->set, o->n_set, &plan, err);
    if (rc != SL_OK)
        return rc;
    if (o->model_out != NULL)
        rc = sl_model_file_check(o->model_out, err);
    if (rc == SL_OK && o->replay != NULL)
        rc = sl_report_read(o->replay, &replay, err);
    if (rc == SL_OK && o->report != NULL)
        rc = sl_report_open(o->report, &w.report, err);
    if (rc == SL_OK) {
        sl_progress_init(&w.progress, stdout, o->quiet, plan.run.rounds);
        rc = run_world(o, &plan, replay, &w, err);
        sl_progress_deinit(&w.progress);
    }
    sl_report_close(w.report);
    json_decref(replay);
    sl_plan_deinit(&plan);
    return rc;
}
