/* The two operations on M gradients of N elements for a CPU: each reads every gradient from memory once.

   Built by cpu_kernels.py on the machine that runs it. Gradients are treated in blocks that stay in the second-level cache:
   all gradients' elements of one block together. Sums over a block are float32, over blocks float64. Nothing is assumed
   about values: what is not finite stays so. */

#include <stdint.h>
#include <string.h>

#define MAX_TASKS 16
#define MAX_PAIRS (MAX_TASKS * (MAX_TASKS + 1) / 2)
#define BLOCK 2048
#define LANES 16
#define TILE 4
#define ALWAYS_INLINE static inline __attribute__((always_inline))

typedef float vector __attribute__((vector_size(4 * LANES), aligned(4)));

enum dtype { FLOAT32, BFLOAT16 };

static long smaller(long a, long b) { return a < b ? a : b; }

/* A block as float32: where it lies, or widened into scratch. */
static const float *block_of(const void *gradient, int dtype, long start, long size, float *scratch) {
    if (dtype == FLOAT32) return (const float *)gradient + start;
    const uint16_t *values = (const uint16_t *)gradient + start;
    for (long k = 0; k < size; k++) {
        uint32_t bits = (uint32_t)values[k] << 16;
        memcpy(scratch + k, &bits, 4);
    }
    return scratch;
}

/* To bfloat16, to nearest even. */
static void round_block(const float *values, long size, uint16_t *rounded) {
    for (long k = 0; k < size; k++) {
        uint32_t bits;
        memcpy(&bits, values + k, 4);
        uint32_t nearest = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
        rounded[k] = (uint16_t)((bits & 0x7fffffff) > 0x7f800000 ? 0x7fc0 : nearest);
    }
}

/* Adds inner products of a left and b right gradients over a block to sums; with one set of both, those of i <= j.
   After inlining a, b and one_set are constants, and all totals in registers. */
ALWAYS_INLINE void add_tile(const float *const *left, int a, const float *const *right, int b, int one_set, long size,
                            double (*sums)[TILE]) {
    vector total[2][TILE][TILE]; /* two chains of additions, which the processor does at the same time */
    memset(total, 0, sizeof total);
    long k = 0;
    for (; k + 2 * LANES <= size; k += 2 * LANES)
        for (int half = 0; half < 2; half++) {
            vector x[TILE], y[TILE];
            for (int i = 0; i < a; i++) x[i] = *(const vector *)(left[i] + k + half * LANES);
            for (int j = 0; j < b; j++) y[j] = one_set ? x[j] : *(const vector *)(right[j] + k + half * LANES);
            for (int i = 0; i < a; i++)
                for (int j = one_set ? i : 0; j < b; j++) total[one_set || a * b <= 9 ? half : 0][i][j] += x[i] * y[j];
        }
    for (int i = 0; i < a; i++)
        for (int j = one_set ? i : 0; j < b; j++) {
            double sum = 0;
            for (int lane = 0; lane < LANES; lane++) sum += (double)total[0][i][j][lane] + total[1][i][j][lane];
            for (long rest = k; rest < size; rest++) sum += (double)left[i][rest] * right[j][rest];
            sums[i][j] += sum;
        }
}

static void add_products_of_one_set(const float *const *blocks, int count, long size, double (*sums)[TILE]) {
    switch (count) {
    case 1: add_tile(blocks, 1, blocks, 1, 1, size, sums); break;
    case 2: add_tile(blocks, 2, blocks, 2, 1, size, sums); break;
    case 3: add_tile(blocks, 3, blocks, 3, 1, size, sums); break;
    default: add_tile(blocks, 4, blocks, 4, 1, size, sums);
    }
}

static void add_products_of_two_sets(const float *const *left, const float *const *right, int count, long size,
                                     double (*sums)[TILE]) {
    switch (count) {
    case 1: add_tile(left, TILE, right, 1, 0, size, sums); break;
    case 2: add_tile(left, TILE, right, 2, 0, size, sums); break;
    case 3: add_tile(left, TILE, right, 3, 0, size, sums); break;
    default: add_tile(left, TILE, right, 4, 0, size, sums);
    }
}

static void add_products(const void *const *gradients, int m, int dtype, long first, long last, double *products) {
    static _Thread_local float scratch[MAX_TASKS][BLOCK];
    const float *blocks[MAX_TASKS];
    double tiles[MAX_TASKS / TILE][MAX_TASKS / TILE][TILE][TILE];
    memset(tiles, 0, sizeof tiles);
    for (long start = first; start < last; start += BLOCK) {
        long size = smaller(BLOCK, last - start);
        for (int i = 0; i < m; i++) blocks[i] = block_of(gradients[i], dtype, start, size, scratch[i]);
        for (int i = 0; i < m; i += TILE) {
            add_products_of_one_set(blocks + i, m - i, size, tiles[i / TILE][i / TILE]);
            for (int j = i + TILE; j < m; j += TILE)
                add_products_of_two_sets(blocks + i, blocks + j, m - j, size, tiles[i / TILE][j / TILE]);
        }
    }
    for (int i = 0; i < m; i++)
        for (int j = i; j < m; j++) *products++ = tiles[i / TILE][j / TILE][i % TILE][j % TILE];
}

/* Inner products of every pair i <= j, in the order of nested loops. */
void gradient_products(const void *const *gradients, int m, long n, int dtype, int threads, double *products) {
    int pairs = m * (m + 1) / 2;
    if (threads > 1) {
        double partial[threads][MAX_PAIRS];
        memset(partial, 0, sizeof partial);
        long share = ((n + threads - 1) / threads + BLOCK - 1) / BLOCK * BLOCK;
#pragma omp parallel for num_threads(threads) schedule(static, 1)
        for (int thread = 0; thread < threads; thread++)
            add_products(gradients, m, dtype, smaller(n, thread * share), smaller(n, (thread + 1) * share),
                         partial[thread]);
        for (int pair = 0; pair < pairs; pair++) {
            products[pair] = 0;
            for (int thread = 0; thread < threads; thread++) products[pair] += partial[thread][pair];
        }
        return;
    }
    add_products(gradients, m, dtype, 0, n, products);
}

/* Up to TILE gradients, added to what the result holds unless they are the first. */
ALWAYS_INLINE void add_weighted(const float *const *blocks, const float *weights, int count, int first, long size,
                                float *result) {
    for (long k = 0; k < size; k++) {
        float sum = first ? 0 : result[k];
        for (int i = 0; i < count; i++) sum += weights[i] * blocks[i][k];
        result[k] = sum;
    }
}

static void weigh_block(const float *const *blocks, const float *weights, int m, long size, float *restrict result) {
    for (int i = 0; i < m; i += TILE)
        switch (smaller(m - i, TILE)) {
        case 1: add_weighted(blocks + i, weights + i, 1, i == 0, size, result); break;
        case 2: add_weighted(blocks + i, weights + i, 2, i == 0, size, result); break;
        case 3: add_weighted(blocks + i, weights + i, 3, i == 0, size, result); break;
        default: add_weighted(blocks + i, weights + i, 4, i == 0, size, result);
        }
}

/* Sum of weights[i] * gradients[i], accumulated in float32. */
void weighted_sum(const void *const *gradients, const float *weights, int m, long n, int dtype, int threads,
                  void *result) {
    long blocks = (n + BLOCK - 1) / BLOCK;
#pragma omp parallel for num_threads(threads) if (threads > 1) schedule(static)
    for (long index = 0; index < blocks; index++) {
        static _Thread_local float scratch[MAX_TASKS + 1][BLOCK];
        const float *inputs[MAX_TASKS];
        long start = index * BLOCK, size = smaller(BLOCK, n - start);
        for (int i = 0; i < m; i++) inputs[i] = block_of(gradients[i], dtype, start, size, scratch[i]);
        float *sum = dtype == FLOAT32 ? (float *)result + start : scratch[MAX_TASKS];
        weigh_block(inputs, weights, m, size, sum);
        if (dtype == BFLOAT16) round_block(sum, size, (uint16_t *)result + start);
    }
}
