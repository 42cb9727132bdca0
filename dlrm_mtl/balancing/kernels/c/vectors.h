/* Inner products and weighted sums of M gradients of N elements, in vectors of LANES float32.

   Included once per instruction set, which defines LANES, TARGET and FUNCTIONS. Wider vectors than the processor has
   would be slow. Sums of products are float32 over a block of elements, and float64 over blocks. NaN and infinity are
   passed on. */

#include <string.h>

#include "balancing.h"

#define BLOCK (128 * LANES)
#define PAIR (2 * LANES)
#define AT_ONCE (2 * PAIR)
#define TILE 4
#define SETS (MAX_TASKS / TILE)
#define FETCHED 3 /* gradients of which each tile prefetches elements, if there is more than one set of gradients */
#define FUNCTION static TARGET
#define ALWAYS_INLINE static inline __attribute__((always_inline)) TARGET

/* Elements of all gradients together that are processed at a time: 16 KB of float32, so that the first-level cache
   holds them and the next ones, which are prefetched. */
#define STEP_ELEMENTS 4096

typedef float floats __attribute__((vector_size(4 * LANES), aligned(4)));
typedef float fewer_floats __attribute__((vector_size(2 * LANES), aligned(4)));
typedef double doubles __attribute__((vector_size(4 * LANES), aligned(8)));
typedef int32_t words __attribute__((vector_size(4 * LANES), aligned(2)));
typedef uint32_t unsigned_words __attribute__((vector_size(4 * LANES), aligned(2)));
typedef floats totals[TILE][TILE];

/* One half of PAIR elements from index k on, as float32. A bfloat16 is the upper half of a float32, so a half is every
   other element there. The order is the same for all gradients, and for the sum. */
ALWAYS_INLINE floats load(const void *gradient, enum dtype dtype, long k, int half) {
    if (dtype == FLOAT32) return *(const floats *)((const float *)gradient + k + half * LANES);
    unsigned_words both = *(const unsigned_words *)((const uint16_t *)gradient + k);
    return (floats)(half ? both & 0xffff0000 : both << 16);
}

ALWAYS_INLINE float load_one(const void *gradient, enum dtype dtype, long k) {
    if (dtype == FLOAT32) return ((const float *)gradient)[k];
    uint32_t bits = (uint32_t)((const uint16_t *)gradient)[k] << 16;
    float value;
    memcpy(&value, &bits, 4);
    return value;
}

/* To nearest even. */
ALWAYS_INLINE floats round_to_bfloat16(floats values) {
    unsigned_words bits = (unsigned_words)values;
    unsigned_words nan = (unsigned_words)((words)(bits & 0x7fffffff) > 0x7f800000); /* all bits, or none */
    unsigned_words rounded = (bits + 0x7fff + (bits >> 16 & 1)) & 0xffff0000;
    return (floats)((rounded & ~nan) | (0x7fc00000 & nan));
}

/* Stores two halves as load returns them, and rounds halves to the stored values. */
ALWAYS_INLINE void store(void *result, enum dtype dtype, long k, floats *halves) {
    if (dtype == FLOAT32) {
        for (int half = 0; half < 2; half++) *(floats *)((float *)result + k + half * LANES) = halves[half];
        return;
    }
    for (int half = 0; half < 2; half++) halves[half] = round_to_bfloat16(halves[half]);
    *(unsigned_words *)((uint16_t *)result + k) = (unsigned_words)halves[0] >> 16 | (unsigned_words)halves[1];
}

/* Returns the stored value. */
ALWAYS_INLINE float store_one(void *result, enum dtype dtype, long k, float value) {
    if (dtype == FLOAT32) return ((float *)result)[k] = value;
    floats rounded = round_to_bfloat16((floats){value});
    ((uint16_t *)result)[k] = ((unsigned_words)rounded)[0] >> 16;
    return rounded[0];
}

ALWAYS_INLINE double sum_of_lanes(floats values) {
    fewer_floats halves[2];
    memcpy(halves, &values, sizeof values);
    doubles wide = __builtin_convertvector(halves[0], doubles) + __builtin_convertvector(halves[1], doubles);
    double sum = 0;
    for (int lane = 0; lane < LANES / 2; lane++) sum += wide[lane];
    return sum;
}

/* Prefetches PAIR elements from index k on. */
ALWAYS_INLINE void fetch(const void *gradient, enum dtype dtype, long k) {
    long size = dtype == FLOAT32 ? 4 : 2;
    for (long byte = 0; byte < PAIR * size; byte += 64) __builtin_prefetch((const char *)gradient + k * size + byte);
}

/* A range of elements, and which gradients to prefetch how many elements ahead; none if ahead is 0. */
struct span {
    long first, last, ahead;
    const void *fetched[FETCHED];
};

/* Adds inner products of a left and b right gradients over a span to sums, lane by lane; if both are one set, those
   with i <= j. After inlining, dtype, a, b and one_set are constants, and all totals are in registers. */
ALWAYS_INLINE void add_tile(enum dtype dtype, int a, int b, int one_set, const void *const *left,
                            const void *const *right, const struct span *span, totals sums) {
    totals total[2]; /* two independent chains of additions */
    int chains = a * b <= 9 ? 2 : 1;
    long last = span->last, ahead = span->ahead;
    memset(total, 0, sizeof total);
    for (int i = 0; i < a; i++)
        for (int j = one_set ? i : 0; j < b; j++) total[0][i][j] = sums[i][j];
    for (long k = span->first; k < last; k += PAIR) {
        for (int i = 0; i < FETCHED && ahead; i++) fetch(span->fetched[i], dtype, k + ahead);
        for (int half = 0; half < 2; half++) {
            floats x[TILE], y[TILE];
            for (int i = 0; i < a; i++) x[i] = load(left[i], dtype, k, half);
            for (int j = 0; j < b; j++) y[j] = one_set ? x[j] : load(right[j], dtype, k, half);
            for (int i = 0; i < a; i++)
                for (int j = one_set ? i : 0; j < b; j++) total[half % chains][i][j] += x[i] * y[j];
        }
    }
    for (int i = 0; i < a; i++)
        for (int j = one_set ? i : 0; j < b; j++) sums[i][j] = total[0][i][j] + total[1][i][j];
}

#define ADD_TILE(DTYPE, A, B, ONE_SET) \
    case B: add_tile(DTYPE, A, B, ONE_SET, left, right, span, sums); break;

#define ADD_TILES(NAME, DTYPE) \
    FUNCTION void add_one_set_##NAME(const void *const *left, long count, const struct span *span, totals sums) { \
        const void *const *right = left; \
        switch (count) { \
            ADD_TILE(DTYPE, 1, 1, 1) ADD_TILE(DTYPE, 2, 2, 1) ADD_TILE(DTYPE, 3, 3, 1) ADD_TILE(DTYPE, 4, 4, 1) \
        } \
    } \
    FUNCTION void add_two_sets_##NAME(const void *const *left, const void *const *right, long count, \
                                    const struct span *span, totals sums) { \
        switch (count) { \
            ADD_TILE(DTYPE, 4, 1, 0) ADD_TILE(DTYPE, 4, 2, 0) ADD_TILE(DTYPE, 4, 3, 0) ADD_TILE(DTYPE, 4, 4, 0) \
        } \
    }

ADD_TILES(float32, FLOAT32)
ADD_TILES(bfloat16, BFLOAT16)

/* With more than one set of gradients each tile prefetches some of the next elements. With one set the processor's own
   prefetching is enough. */
FUNCTION void add_products(const struct gradients *gradients, long first, long last, totals (*sums)[SETS]) {
    int m = gradients->m, next = 0;
    struct span span = {first, last, m > TILE ? last - first : 0, {0}};
    for (int i = 0; i < m; i += TILE)
        for (int j = i; j < m; j += TILE) {
            const void *const *left = gradients->addresses + i, *const *right = gradients->addresses + j;
            floats(*tile)[TILE] = sums[i / TILE][j / TILE];
            long count = smaller(TILE, m - j);
            for (int f = 0; f < FETCHED; f++) span.fetched[f] = gradients->addresses[next++ % m];
            if (gradients->dtype == FLOAT32) {
                if (i == j) add_one_set_float32(left, count, &span, tile);
                else add_two_sets_float32(left, right, count, &span, tile);
            } else {
                if (i == j) add_one_set_bfloat16(left, count, &span, tile);
                else add_two_sets_bfloat16(left, right, count, &span, tile);
            }
        }
}

/* Adds the sums of the lanes to the products, and resets them. */
FUNCTION void collect(totals (*sums)[SETS], int m, double *products) {
    for (int i = 0; i < m; i++)
        for (int j = i; j < m; j++, products++) {
            floats *sum = &sums[i / TILE][j / TILE][i % TILE][j % TILE];
            *products += sum_of_lanes(*sum);
            memset(sum, 0, sizeof *sum);
        }
}

/* The weighted sum over a range; adds NaN to zeros if not all of it is finite. */
ALWAYS_INLINE void weigh_as(enum dtype dtype, const void *const *gradients, int m, const float *weights, long first,
                            long last, void *result, floats *zeros) {
    floats nans[AT_ONCE / LANES];
    memset(nans, 0, sizeof nans);
    long k = first;
    for (; k + AT_ONCE <= last; k += AT_ONCE) {
        floats sums[AT_ONCE / LANES];
        memset(sums, 0, sizeof sums);
        for (int i = 0; i < m; i++)
            for (int v = 0; v < AT_ONCE / LANES; v++)
                sums[v] += weights[i] * load(gradients[i], dtype, k + v / 2 * PAIR, v % 2);
        for (int v = 0; v < AT_ONCE / LANES; v += 2) store(result, dtype, k + v / 2 * PAIR, sums + v);
        for (int v = 0; v < AT_ONCE / LANES; v++) nans[v] += sums[v] - sums[v];
    }
    for (; k < last; k++) {
        float sum = 0;
        for (int i = 0; i < m; i++) sum += weights[i] * load_one(gradients[i], dtype, k);
        float stored = store_one(result, dtype, k, sum);
        nans[0][0] += stored - stored;
    }
    for (int v = 0; v < AT_ONCE / LANES; v++) *zeros += nans[v];
}

FUNCTION int weigh(const struct gradients *gradients, const float *weights, long first, long last, void *result) {
    const void *const *addresses = gradients->addresses;
    int m = gradients->m;
    floats zeros = {0};
    if (gradients->dtype == FLOAT32) weigh_as(FLOAT32, addresses, m, weights, first, last, result, &zeros);
    else weigh_as(BFLOAT16, addresses, m, weights, first, last, result, &zeros);
    return sum_of_lanes(zeros) == 0;
}

/* All products over a range, i <= j. */
FUNCTION void multiply(const struct gradients *gradients, long from, long to, double *products) {
    totals sums[SETS][SETS];
    int m = gradients->m;
    long step = BLOCK, whole = from + (to - from) / PAIR * PAIR;
    while (step * m > STEP_ELEMENTS) step /= 2;
    memset(sums, 0, sizeof sums);
    memset(products, 0, MAX_PAIRS * sizeof(double));
    for (long block = from; block < whole; block += BLOCK) {
        long end = smaller(whole, block + BLOCK);
        for (long first = block; first < end; first += step) {
            long last = smaller(end, first + step);
            add_products(gradients, first, last, sums);
        }
        collect(sums, m, products);
    }
    for (int i = 0; i < m; i++)
        for (int j = i; j < m; j++, products++)
            for (long k = whole; k < to; k++)
                *products += (double)load_one(gradients->addresses[i], gradients->dtype, k) *
                             load_one(gradients->addresses[j], gradients->dtype, k);
}

const struct functions FUNCTIONS = {BLOCK, multiply, weigh};
