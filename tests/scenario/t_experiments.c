/* SPDX-License-Identifier: Apache-2.0 */
/* Experiments in their short forms: a killed one goes on where it stood, the number of
 * jobs changes nothing, and results have the shape that the papers report. */
#include <fcntl.h>
#include <ftw.h>
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "accel/accel.h"
#include "common/file.h"
#include "common/report.h"
#include "sim/experiment/experiment.h"
#include "sim/experiment/log.h"
#include "sim/experiment/results.h"

static char folder[64];

static int make_folder(void **state)
{
    strcpy(folder, "/tmp/t_experiments.XXXXXX");
    return mkdtemp(folder) == NULL ? -1 : 0;
}

static int drop(const char *path, const struct stat *s, int type, struct FTW *w)
{
    return remove(path);
}

static int drop_folder(void **state)
{
    return nftw(folder, drop, 8, FTW_DEPTH | FTW_PHYS);
}

static const uint64_t seeds[] = {1, 2, 3};

static struct sl_experiment_job job_of(const char *name, const char *const *only,
                                       size_t n_seeds, unsigned jobs)
{
    size_t n_only = 0;
    while (only[n_only] != NULL)
        n_only++;
    return (struct sl_experiment_job){
        .experiment = sl_experiment_find(name),
        .options = {.seeds = seeds, .n_seeds = n_seeds, .quick = true},
        .dir = folder,
        .only = only,
        .n_only = n_only,
        .jobs = jobs,
        .quiet = true};
}

static void run(const struct sl_experiment_job *job)
{
    struct sl_err err;
    if (sl_experiment_run(job, &err) != SL_OK)
        fail_msg("%s", err.msg);
}

static const char *path_of(const char *name)
{
    static char path[128];
    snprintf(path, sizeof(path), "%s/%s", folder, name);
    return path;
}

static json_t *read_results(void)
{
    json_t *lines;
    struct sl_err err;
    if (sl_report_read(path_of("results.jsonl"), &lines, &err) != SL_OK)
        fail_msg("%s", err.msg);
    return lines;
}

/* --- going on --------------------------------------------------------------------- */

static const char *const six_cells[] = {"mlp/*", NULL};

/* A child runs the job with its progress in a pipe and is killed after its first cell. */
static void kill_after_the_first_cell(struct sl_experiment_job job)
{
    int pipes[2], status;
    char first[256];
    job.quiet = false;
    assert_int_equal(pipe(pipes), 0);
    pid_t child = fork();
    if (child == 0) {
        struct sl_err err;
        dup2(pipes[1], STDERR_FILENO);
        close(pipes[0]);
        close(pipes[1]);
        _exit(sl_experiment_run(&job, &err) == SL_OK ? 0 : 1);
    }
    close(pipes[1]);
    FILE *progress = fdopen(pipes[0], "r");
    assert_non_null(fgets(first, sizeof(first), progress));
    kill(child, SIGKILL);
    assert_int_equal(waitpid(child, &status, 0), child);
    fclose(progress);
    assert_non_null(strstr(first, "[1/6] mlp/fp32/seed-1"));
}

/* Every cell of the list once. */
static void expect_each_cell_once(const json_t *lines, size_t n)
{
    json_t *seen = json_object(), *line;
    size_t i;
    assert_int_equal(json_array_size(lines), n);
    json_array_foreach(lines, i, line)
    {
        char name[SL_CELL_NAME];
        sl_cell_name(json_object_get(line, "cell"), name);
        assert_null(json_object_get(seen, name));
        json_object_set_new(seen, name, json_true());
    }
    json_decref(seen);
}

static void a_killed_experiment_goes_on_where_it_stood(void **state)
{
    struct sl_experiment_job job = job_of("uplink", six_cells, 1, 1);
    kill_after_the_first_cell(job);
    json_t *before = read_results();
    size_t n = json_array_size(before);
    assert_in_range(n, 1, 5);
    int fd = open(path_of("results.jsonl"), O_WRONLY | O_APPEND);
    assert_int_equal(write(fd, "{\"cell\": {\"part\"", 16), 16); /* cut in the middle */
    close(fd);
    run(&job);
    json_t *after = read_results();
    expect_each_cell_once(after, 6);
    for (size_t i = 0; i < n; i++) /* to the last digit of its time: not run again */
        assert_true(json_equal(json_array_get(before, i), json_array_get(after, i)));
    run(&job);
    json_t *again = read_results();
    assert_true(json_equal(after, again));
    assert_int_equal(access(path_of("report.html"), R_OK), 0);
    json_decref(before);
    json_decref(after);
    json_decref(again);
}

static json_t *result_of(const json_t *lines, const json_t *cell)
{
    size_t i;
    json_t *line;
    json_array_foreach(lines, i,
                       line) if (json_equal(json_object_get(line, "cell"),
                                            cell)) return json_object_get(line, "result");
    return NULL;
}

static void the_number_of_jobs_changes_no_result(void **state)
{
    struct sl_experiment_job one = job_of("uplink", six_cells, 1, 1),
                             three = job_of("uplink", six_cells, 1, 3);
    run(&one);
    json_t *a = read_results(), *line;
    assert_int_equal(remove(path_of("results.jsonl")), 0);
    run(&three);
    json_t *b = read_results();
    size_t i;
    expect_each_cell_once(b, 6);
    json_array_foreach(a, i, line) assert_true(json_equal(
        json_object_get(line, "result"), result_of(b, json_object_get(line, "cell"))));
    json_decref(a);
    json_decref(b);
}

static void what_is_no_result_is_refused(void **state)
{
    struct sl_experiment_job job = job_of("uplink", six_cells, 1, 1);
    struct sl_err err;
    FILE *f = fopen(path_of("results.jsonl"), "w");
    fputs("{\"event\": \"round\"}\n", f);
    fclose(f);
    assert_int_equal(sl_experiment_run(&job, &err), SL_E_INPUT);
    assert_non_null(strstr(err.msg, "results.jsonl: line 1 is no result"));
    static const char *const nothing[] = {"nothing*", NULL};
    job.only = nothing;
    assert_int_equal(sl_experiment_run(&job, &err), SL_E_USAGE);
}

static void a_folder_belongs_to_one_process(void **state)
{
    struct sl_experiment_job job = job_of("uplink", six_cells, 1, 1);
    struct sl_results_log log;
    struct sl_err err;
    assert_int_equal(sl_results_log_open(&log, folder, &err), SL_OK);
    assert_int_equal(sl_experiment_run(&job, &err), SL_E_EXISTS);
    sl_results_log_close(&log);
}

/* --- shapes ----------------------------------------------------------------------- */

static void revealed_terms_buy_accuracy(void **state)
{
    static const char *const all[] = {NULL};
    struct sl_experiment_job job = job_of("tr", all, 1, 1);
    run(&job);
    json_t *lines = read_results();
    const json_t *cell = json_object_get(json_array_get(lines, 0), "cell");
    const json_t *r = result_of(lines, cell);
    double eight = sl_result_number(r, "quantised.b8.accuracy");
    assert_true(eight > 0.75);
    /* with every digit kept, each encoder is the code of eight bits itself */
    assert_true(sl_result_number(r, "naf.all.accuracy") == eight);
    assert_true(sl_result_number(r, "window.all.accuracy") == eight);
    assert_true(sl_result_number(r, "binary.all.accuracy") == eight);
    assert_true(fabs(sl_result_number(r, "naf.k12s3.accuracy") - eight) < 0.01);
    assert_true(sl_result_number(r, "naf.k4s1.accuracy") >
                sl_result_number(r, "binary.k4s1.accuracy") + 0.02);
    assert_true(sl_result_number(r, "quantised.b4.pairs") >
                10 * sl_result_number(r, "naf.k8s3.pairs"));
    json_decref(lines);
}

/* One small team. Protocols are compared on the same games and the same chains of losses. */
static void a_gate_saves_messages_and_its_window_bridges_losses(void **state)
{
    static const char *const tmc[] = {"pace/tmc/*", NULL};
    struct sl_experiment_job job = job_of("tmc", tmc, 1, 1);
    run(&job);
    json_t *lines = read_results();
    const json_t *cell = json_object_get(json_array_get(lines, 0), "cell");
    const json_t *r = result_of(lines, cell);
    double always = sl_result_number(r, "always.share");
    assert_true(always > 0.85);
    assert_true(sl_result_number(r, "always.sent") == 1);
    assert_true(sl_result_number(r, "none.w12.sent") < 0.35);
    assert_true(sl_result_number(r, "none.w12.share") > 0.97 * always);
    assert_true(sl_result_number(r, "sweep.d0.sent") > sl_result_number(r, "sweep.d3.sent"));
    assert_true(sl_result_number(r, "sweep.d3.sent") > sl_result_number(r, "sweep.d8.sent"));
    double shares[4] = {sl_result_number(r, "heavy.w12.share"),
                        sl_result_number(r, "heavy.w6.share"),
                        sl_result_number(r, "heavy.all.share"),
                        sl_result_number(r, "heavy.w0.share")};
    for (int i = 0; i < 3; i++)
        assert_true(shares[i] > shares[i + 1] + 0.01);
    json_decref(lines);
}

/* An untrained policy that accepts everybody: what is left of the attack is the weapon. */
static void an_influence_cap_takes_an_attackers_weapon_away_half_the_time(void **state)
{
    static const char *const cap[] = {"cost/cap/*", NULL};
    static const char *const none[] = {"cost/none/*", NULL};
    struct sl_experiment_job job = job_of("cmarl", cap, 1, 1);
    run(&job);
    job = job_of("cmarl", none, 1, 1);
    run(&job);
    json_t *lines = read_results();
    const json_t *with = result_of(lines, json_object_get(json_array_get(lines, 0), "cell"));
    const json_t *without = result_of(lines, json_object_get(json_array_get(lines, 1), "cell"));
    const double clean = sl_result_number(without, "clean.team");
    assert_true(sl_result_number(without, "worst.team") < clean);
    assert_true(sl_result_number(with, "worst.team") > sl_result_number(without, "worst.team"));
    assert_true(sl_result_number(with, "worst.share") < sl_result_number(without, "worst.share"));
    assert_true(sl_result_number(without, "worst.latency") >
                sl_result_number(without, "clean.latency"));
    json_decref(lines);
}

#ifndef SL_SANITIZED /* these need trainings of some length */

/* Means over the seeds, in percent. */
static double percent(const json_t *lines, const char *part, const char *setting,
                      const char *key)
{
    struct sl_sample s = sl_results_sample(lines, part, setting, key);
    assert_true(s.n > 0);
    return 100 * s.mean;
}

static double passes(const json_t *lines, const char *setting)
{
    return sl_results_sample(lines, "central", setting, "passes").mean;
}

static void widths_of_fast_have_their_order(void **state)
{
    static const char *const central[] = {"central/*", NULL};
    struct sl_experiment_job job = job_of("fast", central, 2, 2);
    run(&job);
    json_t *lines = read_results();
    double fp32 = percent(lines, "central", "fp32", "final"),
           m4 = percent(lines, "central", "m=4", "final"),
           m2 = percent(lines, "central", "m=2", "final"),
           adaptive = percent(lines, "central", "adaptive", "final"),
           truncated = percent(lines, "central", "m=2,G-truncated", "final");
    assert_true(fp32 > 75);
    assert_true(fabs(fp32 - m4) < 1.5);
    assert_true(m2 < m4 && m2 > fp32 - 8);
    assert_true(adaptive > m2 && adaptive < m4 + 0.5);
    assert_true(truncated < m2 - 5);
    assert_true(passes(lines, "fp32") == 0 && passes(lines, "m=2") == 1);
    assert_true(passes(lines, "m=4") == 4);
    assert_true(passes(lines, "adaptive") > 1.3 && passes(lines, "adaptive") < 3);
    /* layers: activations of the images need fewer bits than those of later layers */
    assert_true(percent(lines, "central", "adaptive", "layers.0.a") <
                percent(lines, "central", "adaptive", "layers.1.a"));
    json_decref(lines);
}

static void ternary_nets_learn_and_lose_to_full_precision(void **state)
{
    static const char *const narrow[] = {"narrow/*", NULL};
    struct sl_experiment_job job = job_of("rtn", narrow, 2, 2);
    run(&job);
    json_t *lines = read_results();
    double fp32 = percent(lines, "narrow", "fp32", "final"),
           rtn = percent(lines, "narrow", "rtn", "final"),
           plain = percent(lines, "narrow", "plain", "final"),
           binary = percent(lines, "narrow", "binary", "final");
    assert_true(fp32 > 65 && rtn > 50 && plain > 50 && binary > 35);
    assert_true(fp32 > binary + 5 && rtn > binary + 3);
    json_decref(lines);
}

static void updates_take_the_bits_they_promise(void **state)
{
    struct sl_experiment_job job = job_of("uplink", six_cells, 2, 2);
    run(&job);
    json_t *lines = read_results();
    static const struct {
        const char *setting;
        double bits_lo, bits_hi, points;
    } want[] = {{"bf16", 16, 16.1, 1},
                {"bfp-m4", 5, 6.4, 1.5},
                {"bfp-m2", 3, 4, 3},
                {"ternary", 1.5, 2.1, 15}};
    double fp32 = percent(lines, "mlp", "fp32", "last5");
    assert_true(fp32 > 45);
    for (size_t i = 0; i < sizeof(want) / sizeof(want[0]); i++) {
        double bits = sl_results_sample(lines, "mlp", want[i].setting, "wire_bits").mean;
        assert_true(bits >= want[i].bits_lo && bits <= want[i].bits_hi);
        assert_true(fabs(percent(lines, "mlp", want[i].setting, "last5") - fp32) <
                    want[i].points);
    }
    json_decref(lines);
}

static void buffers_meet_a_target_in_half_the_time_of_rounds(void **state)
{
    static const char *const all[] = {NULL};
    struct sl_experiment_job job = job_of("fedbuff", all, 2, 2);
    run(&job);
    json_t *lines = read_results();
    double rounds = sl_results_sample(lines, "lr-0.05", "fedavg", "target_s").mean;
    double buffers = sl_results_sample(lines, "lr-0.05", "fedbuff-K5", "target_s").mean;
    assert_int_equal(sl_results_sample(lines, "lr-0.05", "fedavg", "target_s").n, 2);
    assert_int_equal(sl_results_sample(lines, "lr-0.05", "fedbuff-K5", "target_s").n, 2);
    assert_true(buffers > 0 && buffers < 0.5 * rounds);
    json_decref(lines);
}

static void a_federation_feels_the_widths(void **state)
{
    static const char *const federated[] = {"federated/*", NULL};
    struct sl_experiment_job job = job_of("fast", federated, 1, 2);
    run(&job);
    json_t *lines = read_results();
    double fp32 = percent(lines, "federated", "fp32", "last5");
    assert_true(fp32 > 40);
    assert_true(fabs(fp32 - percent(lines, "federated", "m=4", "last5")) < 6);
    assert_true(percent(lines, "federated", "m=2", "last5") < fp32 - 4);
    json_decref(lines);
}

static double mean_of(const json_t *lines, const char *part, const char *setting,
                      const char *key)
{
    struct sl_sample s = sl_results_sample(lines, part, setting, key);
    assert_true(s.n > 0);
    return s.mean;
}

static bool report_says(const char *text)
{
    uint8_t *bytes;
    size_t n;
    struct sl_err err;
    if (sl_file_read(path_of("report.html"), 1 << 24, &bytes, &n, &err) != SL_OK)
        fail_msg("%s", err.msg);
    bool found = strstr((char *)bytes, text) != NULL;
    free(bytes);
    return found;
}

static void calibration_carries_the_sphere(void **state)
{
    static const char *const fedavg[] = {"mlp-0.1/fedavg,*[de]/*", NULL};
    static const char *const heads[] = {"fedavg,trained", "fedavg,sphere",
                                        "fedavg,m=4,sphere"};
    struct sl_experiment_job job = job_of("spherefed", fedavg, 1, 2);
    run(&job);
    json_t *lines = read_results();
    for (size_t i = 0; i < sizeof(heads) / sizeof(heads[0]); i++) {
        assert_true(percent(lines, "mlp-0.1", heads[i], "gain") > 2);
        assert_true(percent(lines, "mlp-0.1", heads[i], "calibrated") >
                    percent(lines, "mlp-0.1", heads[i], "last_cohort"));
        /* clients' sums and all samples in one place give one head */
        assert_true(mean_of(lines, "mlp-0.1", heads[i], "pooled.apart") < 1e-5);
        assert_true(mean_of(lines, "mlp-0.1", heads[i], "pooled.samples") == 0);
        assert_true(mean_of(lines, "mlp-0.1", heads[i], "jump.calibrated") <
                    mean_of(lines, "mlp-0.1", heads[i], "jump.raw"));
    }
    assert_true(report_says("<td>calibrated - mean3 = +"));
    assert_true(report_says("<td>holds</td>"));
    assert_true(report_says("order with FAST m = 4"));
    json_decref(lines);
}

static void every_model_takes_the_sphere(void **state)
{
    static const char *const width[] = {"*-shards/*,w=128/*", NULL};
    static const char *const parts[] = {"lenet-shards", "cnn-shards", "resnet8-shards"};
    struct sl_experiment_job job = job_of("spherefed", width, 1, 2);
    run(&job);
    json_t *lines = read_results();
    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
        assert_true(sl_results_count(lines, parts[i]) == 3);
        assert_true(percent(lines, parts[i], "fedavg,sphere,w=128", "calibrated") > 30);
        assert_true(percent(lines, parts[i], "fedavg,sphere,w=128", "gain") > 2);
    }
    json_decref(lines);
}

static struct sl_experiment_job selection_job(const char *const *only, size_t n_seeds)
{
    static char path[1024];
    struct sl_experiment_job job = job_of("fedmarl", only, n_seeds, 2);
    snprintf(path, sizeof(path), "%s/plans/policies/fedmarl.safetensors", getenv("SL_ROOT"));
    job.options.policy = path;
    return job;
}

static void a_policy_meets_its_rivals_at_equal_bytes(void **state)
{
    static const char *const real[] = {"majority/*", NULL};
    struct sl_experiment_job job = selection_job(real, 2);
    run(&job);
    json_t *lines = read_results();
    const double accepted = mean_of(lines, "majority", "policies", "fedmarl.accepted");
    assert_true(accepted >= 1 && accepted <= 4);
    assert_true(fabs(mean_of(lines, "majority", "policies", "random.accepted") - accepted) < 1);
    assert_float_equal(mean_of(lines, "majority", "policies", "all.accepted"), 4, 1e-9);
    assert_float_equal(mean_of(lines, "majority", "policies", "all.traffic"), 4, 1e-9);
    assert_true(mean_of(lines, "majority", "policies", "fedmarl.latency") <=
                mean_of(lines, "majority", "policies", "all.latency") + 1e-9);
    assert_true(report_says("<td>power-of-choice</td>"));
    json_decref(lines);
}

static void a_policy_without_a_part_of_its_state_is_another(void **state)
{
    static const char *const cached[] = {"ablation/*", NULL};
    struct sl_experiment_job job = selection_job(cached, 1);
    run(&job);
    json_t *lines = read_results();
    assert_int_equal(sl_results_count(lines, "ablation"), 3);
    assert_true(mean_of(lines, "ablation", "loss", "fedmarl.return") !=
                mean_of(lines, "ablation", "nothing", "fedmarl.return"));
    assert_true(mean_of(lines, "ablation", "loss", "all.return") ==
                mean_of(lines, "ablation", "nothing", "all.return"));
    assert_true(report_says("random's"));
    json_decref(lines);
}

static void robust_rules_withstand_flipped_signs(void **state)
{
    static const char *const all[] = {"all/*,none/*", "all/*,sign-flip/*", NULL};
    static const char *const rules[] = {"median", "trimmed-mean", "krum",
                                        "geometric-median"};
    struct sl_experiment_job job = job_of("robust", all, 1, 2);
    char setting[64];
    run(&job);
    json_t *lines = read_results();
    double clean = percent(lines, "all", "fedavg,none", "last5");
    assert_true(clean > 50);
    assert_true(percent(lines, "all", "fedavg,sign-flip", "last5") < clean - 20);
    for (size_t i = 0; i < sizeof(rules) / sizeof(rules[0]); i++) {
        snprintf(setting, sizeof(setting), "%s,sign-flip", rules[i]);
        assert_true(percent(lines, "all", setting, "last5") > clean - 8);
        snprintf(setting, sizeof(setting), "%s,none", rules[i]);
        assert_true(percent(lines, "all", setting, "last5") > clean - 6);
    }
    json_decref(lines);
}

static void drawn_cohorts_meet_attackers(void **state)
{
    static const char *const drawn[] = {"drawn-30%/*,scaling/*", NULL};
    struct sl_experiment_job job = job_of("robust", drawn, 1, 2);
    run(&job);
    json_t *lines = read_results();
    expect_each_cell_once(lines, 7);
    double mean = percent(lines, "drawn-30%", "fedavg,scaling", "last5");
    assert_true(percent(lines, "drawn-30%", "median,scaling", "last5") > mean + 20);
    assert_true(percent(lines, "drawn-30%", "krum,scaling", "last5") > mean + 20);
    json_decref(lines);
}

static void every_strategy_learns(void **state)
{
    static const char *const skewed[] = {"dirichlet-0.3/*", NULL};
    struct sl_experiment_job job = job_of("strategies", skewed, 1, 2);
    size_t i;
    json_t *line;
    run(&job);
    json_t *lines = read_results();
    expect_each_cell_once(lines, 14);
    json_array_foreach(lines, i, line) assert_true(
        sl_result_number(json_object_get(line, "result"), "best") > 0.3);
    /* SCAFFOLD sends its variates as well */
    double twice = mean_of(lines, "dirichlet-0.3", "scaffold", "bytes_up") /
                   mean_of(lines, "dirichlet-0.3", "fedavg", "bytes_up");
    assert_true(twice > 1.98 && twice < 2.02);
    json_decref(lines);
}
#endif

int main(int argc, char **argv)
{
    (void)argc;
    (void)argv;
    sl_accel_init();
#define IN_FOLDER(test) cmocka_unit_test_setup_teardown(test, make_folder, drop_folder)
    const struct CMUnitTest tests[] = {
        IN_FOLDER(a_killed_experiment_goes_on_where_it_stood),
        IN_FOLDER(the_number_of_jobs_changes_no_result),
        IN_FOLDER(what_is_no_result_is_refused),
        IN_FOLDER(a_folder_belongs_to_one_process),
        IN_FOLDER(revealed_terms_buy_accuracy),
        IN_FOLDER(an_influence_cap_takes_an_attackers_weapon_away_half_the_time),
        IN_FOLDER(a_gate_saves_messages_and_its_window_bridges_losses),
#ifndef SL_SANITIZED
        IN_FOLDER(widths_of_fast_have_their_order),
        IN_FOLDER(ternary_nets_learn_and_lose_to_full_precision),
        IN_FOLDER(updates_take_the_bits_they_promise),
        IN_FOLDER(buffers_meet_a_target_in_half_the_time_of_rounds),
        IN_FOLDER(a_federation_feels_the_widths),
        IN_FOLDER(calibration_carries_the_sphere),
        IN_FOLDER(a_policy_meets_its_rivals_at_equal_bytes),
        IN_FOLDER(a_policy_without_a_part_of_its_state_is_another),
        IN_FOLDER(robust_rules_withstand_flipped_signs),
#endif
    };
#ifndef SL_SANITIZED
    const struct CMUnitTest slow[] = {
        IN_FOLDER(every_model_takes_the_sphere),
        IN_FOLDER(drawn_cohorts_meet_attackers),
        IN_FOLDER(every_strategy_learns),
    };
    if (argc > 1 && strcmp(argv[1], "slow") == 0)
        return cmocka_run_group_tests_name("experiments, more of them", slow, NULL, NULL);
#endif
    return cmocka_run_group_tests_name("experiments", tests, NULL, NULL);
}
