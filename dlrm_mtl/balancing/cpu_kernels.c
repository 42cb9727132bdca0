/* The two operations on M gradients of N elements for a CPU: each reads every gradient from memory once.

   Built on the machine that runs it. Sums of products are float32 over a block of elements, whose
   gradients stay in the second-level cache meanwhile, and float64 over blocks. Nothing is assumed about values: what is
   not finite stays so. */

#include <string.h>

#include "cpu_step.h"

#define MAX_PAIRS (MAX_TASKS * (MAX_TASKS + 1) / 2)
#define BLOCK 2048
#define LANES 16
#define TILE 4
#define AT_ONCE (4 * LANES)
#define ALWAYS_INLINE static inline __attribute__((always_inline))

typedef float floats __attribute__((vector_size(4 * LANES), aligned(4)));
typedef int32_t words __attribute__((vector_size(4 * LANES), aligned(4)));
typedef uint32_t unsigned_words __attribute__((vector_size(4 * LANES), aligned(4)));
typedef uint16_t halves __attribute__((vector_size(2 * LANES), aligned(2)));

static long smaller(long a, long b) { return a < b ? a : b; }

/* LANES elements from index k on, as float32. */
ALWAYS_INLINE floats load(const void *gradient, enum dtype dtype, long k) {
    if (dtype == FLOAT32) return *(const floats *)((const float *)gradient + k);
    halves narrow = *(const halves *)((const uint16_t *)gradient + k);
    return (floats)(__builtin_convertvector(narrow, unsigned_words) << 16);
}

ALWAYS_INLINE float load_one(const void *gradient, enum dtype dtype, long k) {
    if (dtype == FLOAT32) return ((const float *)gradient)[k];
    uint32_t bits = (uint32_t)((const uint16_t *)gradient)[k] << 16;
    float value;
    memcpy(&value, &bits, 4);
    return value;
}

/* Rounds to nearest even. */
ALWAYS_INLINE void store(void *result, enum dtype dtype, long k, floats values) {
    if (dtype == FLOAT32) {
        *(floats *)((float *)result + k) = values;
        return;
    }
    unsigned_words bits = (unsigned_words)values;
    unsigned_words nan = (unsigned_words)((words)(bits & 0x7fffffff) > 0x7f800000); /* all bits, or none */
    unsigned_words rounded = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
    *(halves *)((uint16_t *)result + k) = __builtin_convertvector((rounded & ~nan) | (0x7fc0 & nan), halves);
}

ALWAYS_INLINE void store_one(void *result, enum dtype dtype, long k, float value) {
    floats values = {value};
    char narrow[sizeof values];
    store(narrow, dtype, 0, values);
    long size = dtype == FLOAT32 ? 4 : 2;
    memcpy((char *)result + k * size, narrow, size);
}

/* Adds inner products of a left and b right gradients over a block to sums; with one set of both, those of i <= j.
   After inlining, all but the last four arguments are constants, and all totals in registers. */
ALWAYS_INLINE void add_tile(enum dtype dtype, int a, int b, int one_set, const void *const *left,
                            const void *const *right, long first, long last, double (*sums)[TILE]) {
    floats total[2][TILE][TILE]; /* two chains of additions, which the processor does at the same time */
    memset(total, 0, sizeof total);
    long k = first;
    for (; k + 2 * LANES <= last; k += 2 * LANES)
        for (int half = 0; half < 2; half++) {
            floats x[TILE], y[TILE];
            for (int i = 0; i < a; i++) x[i] = load(left[i], dtype, k + half * LANES);
            for (int j = 0; j < b; j++) y[j] = one_set ? x[j] : load(right[j], dtype, k + half * LANES);
            for (int i = 0; i < a; i++)
                for (int j = one_set ? i : 0; j < b; j++) total[one_set || a * b <= 9 ? half : 0][i][j] += x[i] * y[j];
        }
    for (int i = 0; i < a; i++)
        for (int j = one_set ? i : 0; j < b; j++) {
            double sum = 0;
            for (int lane = 0; lane < LANES; lane++) sum += (double)total[0][i][j][lane] + total[1][i][j][lane];
            for (long rest = k; rest < last; rest++)
                sum += (double)load_one(left[i], dtype, rest) * load_one(right[j], dtype, rest);
            sums[i][j] += sum;
        }
}

#define ADD_TILE(DTYPE, A, B, ONE_SET) \
    case B: add_tile(DTYPE, A, B, ONE_SET, left, right, first, last, sums); break;

#define ADD_TILES(NAME, DTYPE) \
    static void add_one_set_##NAME(const void *const *left, long count, long first, long last, \
                                   double (*sums)[TILE]) { \
        const void *const *right = left; \
        switch (count) { \
            ADD_TILE(DTYPE, 1, 1, 1) ADD_TILE(DTYPE, 2, 2, 1) ADD_TILE(DTYPE, 3, 3, 1) ADD_TILE(DTYPE, 4, 4, 1) \
        } \
    } \
    static void add_two_sets_##NAME(const void *const *left, const void *const *right, long count, long first, \
                                    long last, double (*sums)[TILE]) { \
        switch (count) { \
            ADD_TILE(DTYPE, 4, 1, 0) ADD_TILE(DTYPE, 4, 2, 0) ADD_TILE(DTYPE, 4, 3, 0) ADD_TILE(DTYPE, 4, 4, 0) \
        } \
    }

ADD_TILES(float32, FLOAT32)
ADD_TILES(bfloat16, BFLOAT16)

static void add_products(const void *const *gradients, int m, enum dtype dtype, long from, long to, double *products) {
    double tiles[MAX_TASKS / TILE][MAX_TASKS / TILE][TILE][TILE];
    memset(tiles, 0, sizeof tiles);
    for (long first = from; first < to; first += BLOCK) {
        long last = smaller(to, first + BLOCK);
        for (int i = 0; i < m; i += TILE) {
            double(*sums)[TILE] = tiles[i / TILE][i / TILE];
            long count = smaller(TILE, m - i);
            if (dtype == FLOAT32) add_one_set_float32(gradients + i, count, first, last, sums);
            else add_one_set_bfloat16(gradients + i, count, first, last, sums);
            for (int j = i + TILE; j < m; j += TILE) {
                sums = tiles[i / TILE][j / TILE];
                count = smaller(TILE, m - j);
                if (dtype == FLOAT32) add_two_sets_float32(gradients + i, gradients + j, count, first, last, sums);
                else add_two_sets_bfloat16(gradients + i, gradients + j, count, first, last, sums);
            }
        }
    }
    for (int i = 0; i < m; i++)
        for (int j = i; j < m; j++) *products++ = tiles[i / TILE][j / TILE][i % TILE][j % TILE];
}

void gradient_gramian(const struct gradients *gradients, double *gramian) {
    int m = gradients->m, threads = gradients->threads;
    long n = gradients->n;
    double partial[threads][MAX_PAIRS];
    long share = ((n + threads - 1) / threads + BLOCK - 1) / BLOCK * BLOCK;
#pragma omp parallel for num_threads(threads) if (threads > 1) schedule(static, 1)
    for (int thread = 0; thread < threads; thread++)
        add_products(gradients->addresses, m, gradients->dtype, smaller(n, thread * share),
                     smaller(n, (thread + 1) * share), partial[thread]);
    for (int i = 0, pair = 0; i < m; i++)
        for (int j = i; j < m; j++, pair++) {
            double product = 0;
            for (int thread = 0; thread < threads; thread++) product += partial[thread][pair];
            gramian[i * m + j] = gramian[j * m + i] = product;
        }
}

/* Whether all of the sum is finite. */
ALWAYS_INLINE int weigh(enum dtype dtype, const void *const *gradients, const float *weights, int m, long first,
                        long last, void *result) {
    floats zeros[AT_ONCE / LANES]; /* or NaN */
    memset(zeros, 0, sizeof zeros);
    long k = first;
    for (; k + AT_ONCE <= last; k += AT_ONCE) {
        floats sums[AT_ONCE / LANES];
        memset(sums, 0, sizeof sums);
        for (int i = 0; i < m; i++)
            for (int v = 0; v < AT_ONCE / LANES; v++) sums[v] += weights[i] * load(gradients[i], dtype, k + v * LANES);
        for (int v = 0; v < AT_ONCE / LANES; v++) {
            store(result, dtype, k + v * LANES, sums[v]);
            floats stored = load(result, dtype, k + v * LANES);
            zeros[v] += stored - stored;
        }
    }
    float zero = 0;
    for (; k < last; k++) {
        float sum = 0;
        for (int i = 0; i < m; i++) sum += weights[i] * load_one(gradients[i], dtype, k);
        store_one(result, dtype, k, sum);
        float stored = load_one(result, dtype, k);
        zero += stored - stored;
    }
    for (int v = 0; v < AT_ONCE / LANES; v++)
        for (int lane = 0; lane < LANES; lane++) zero += zeros[v][lane];
    return zero == 0;
}

int weighted_sum(const struct gradients *gradients, const float *weights, void *result) {
    int m = gradients->m, threads = gradients->threads, finite = 1;
    long n = gradients->n;
    long share = ((n + threads - 1) / threads + AT_ONCE - 1) / AT_ONCE * AT_ONCE;
#pragma omp parallel for num_threads(threads) if (threads > 1) schedule(static, 1) reduction(&& : finite)
    for (int thread = 0; thread < threads; thread++) {
        long first = smaller(n, thread * share), last = smaller(n, (thread + 1) * share);
        const void *const *addresses = gradients->addresses;
        int found = gradients->dtype == FLOAT32 ? weigh(FLOAT32, addresses, weights, m, first, last, result)
                                                : weigh(BFLOAT16, addresses, weights, m, first, last, result);
        finite = finite && found;
    }
    return finite;
}
