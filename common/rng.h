/* SPDX-License-Identifier: Apache-2.0 */
/* rng.h - the one random source: Philox 4x32-10 (Salmon et al. 2011, "Parallel random numbers: as
 * easy as 1, 2, 3"), counter based, so a draw depends on what it is for and not on who drew
 * before. A stream is named by sl_rng_id; element i of it is a pure function of (id, i).
 * Stream identity: the six fields are folded by splitmix64 steps into 128 bits, of which 64
 * are the Philox key and 64 the upper half of its counter; the lower half counts blocks of
 * four 32-bit words.
 * Also here: splitmix64, which the digests and bench/fl_common.py pin, and distributions whose
 * result decides an index or a weight; they use sl_log, sl_exp and sl_pow (common/fdmath.h),
 * so their bits do not depend on the C library. Thread: any, one sl_rng per thread. */
#ifndef SL_COMMON_RNG_H
#define SL_COMMON_RNG_H

#include <stddef.h>
#include <stdint.h>

/* What a stream is for. Numbers are part of the reproducibility contract: never reused. */
enum sl_rng_purpose {
    SL_RNG_INIT = 1,      /* model parameters; tensor = index in the layout */
    SL_RNG_PARTITION = 2, /* which sample goes to which client */
    SL_RNG_HOLDOUT = 3,   /* client's own held-out share */
    SL_RNG_COHORT = 4,    /* drawing of a round's clients */
    SL_RNG_ORDER = 5,     /* order of samples in an epoch; step = epoch */
    SL_RNG_DROPOUT = 6,   /* dropout masks; tensor = layer index */
    SL_RNG_ROUNDING = 7,  /* stochastic rounding */
    SL_RNG_HEAD = 8,      /* fixed classifier heads */
    SL_RNG_DEVICE = 9,    /* device speeds of the simulator */
    SL_RNG_NETWORK = 10,  /* network speeds and delays of the simulator */
    SL_RNG_FAULT = 11,    /* injected faults */
    SL_RNG_JITTER = 12,   /* spread of retries */
    SL_RNG_POLICY = 13,   /* selection policies' own draws */
    SL_RNG_AGENT = 14,    /* learning agents: exploration, replay, start values; games they play */
    SL_RNG_CHANNEL = 15,  /* losses of a channel; client = sender, step = receiver, round = episode */
    SL_RNG_TEST = 99,
};

struct sl_rng_id {
    uint64_t seed; /* the run's seed */
    uint32_t purpose, client, round, step, tensor;
};

struct sl_rng {
    uint32_t key[2];
    uint64_t hi;    /* upper half of the counter */
    uint64_t block; /* next block to make */
    uint32_t out[4];
    unsigned left; /* words of `out` not yet drawn */
};

/* One Philox 4x32-10 block: out = philox(counter, key). Equal to Random123's test vectors. */
void sl_philox(const uint32_t counter[4], const uint32_t key[2], uint32_t ret_out[4]);

void sl_rng_init(struct sl_rng *r, const struct sl_rng_id *id);

/* Element i (32 bits) of the stream, whatever was drawn before; leaves r as it is. */
uint32_t sl_rng_at(const struct sl_rng *r, uint64_t i);

uint32_t sl_rng_u32(struct sl_rng *r);
uint64_t sl_rng_u64(struct sl_rng *r);
double sl_rng_f64(struct sl_rng *r);                     /* [0, 1), 53 bits */
float sl_rng_f32(struct sl_rng *r);                      /* [0, 1), 24 bits */
uint64_t sl_rng_below(struct sl_rng *r, uint64_t n);     /* 0..n-1, unbiased, n >= 1 */
double sl_rng_normal(struct sl_rng *r);                  /* mean 0, variance 1; polar method */
double sl_rng_exponential(struct sl_rng *r);             /* mean 1 */
double sl_rng_gamma(struct sl_rng *r, double shape);     /* scale 1, shape > 0; Marsaglia and
                                                            Tsang 2000 */
/* p[0..n-1] from a symmetric Dirichlet(alpha), alpha > 0; sums to 1 up to rounding. Computed from
 * log-gammas, so that tiny alphas do not end in 0/0. */
void sl_rng_dirichlet(struct sl_rng *r, double alpha, double *ret_p, size_t n);
/* Fisher-Yates from the last element down. */
void sl_rng_shuffle_u32(struct sl_rng *r, uint32_t *v, size_t n);

/* splitmix64 (Steele, Lea, Flood 2014): advances *state, returns the output. */
uint64_t sl_splitmix64(uint64_t *state);
/* Output i (from 0) of splitmix64 started at `seed`, as splitmix_array of bench/fl_common.py. */
uint64_t sl_splitmix64_at(uint64_t seed, uint64_t i);

#endif
