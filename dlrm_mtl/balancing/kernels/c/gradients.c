/* The operations on M gradients, split into ranges of elements for threads. */

#include "balancing.h"

extern const struct functions baseline_functions;

#if defined(__x86_64__)
extern const struct functions avx2_functions, avx512_functions;
static const struct functions *const BY_INSTRUCTION_SET[] = {&baseline_functions, &avx2_functions, &avx512_functions};
#else
static const struct functions *const BY_INSTRUCTION_SET[] = {&baseline_functions};
#endif

int interface_version(void) { return INTERFACE_VERSION; }

enum instruction_set widest_instruction_set(void) {
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) return BASELINE;
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vl"))
        return AVX512;
    return AVX2;
#endif
    return BASELINE;
}

/* The first element of a thread's range; n for the thread after the last. */
static long start_of(const struct gradients *gradients, int thread) {
    long block = BY_INSTRUCTION_SET[gradients->instruction_set]->block, n = gradients->n;
    long share = ((n + gradients->threads - 1) / gradients->threads + block - 1) / block * block;
    return smaller(n, thread * share);
}

void gradient_gramian(const struct gradients *gradients, double *gramian) {
    const struct functions *functions = BY_INSTRUCTION_SET[gradients->instruction_set];
    int m = gradients->m, threads = gradients->threads;
    double partial[threads][MAX_PAIRS];
#pragma omp parallel for num_threads(threads) if (threads > 1) schedule(static, 1)
    for (int thread = 0; thread < threads; thread++)
        functions->multiply(gradients, start_of(gradients, thread), start_of(gradients, thread + 1), partial[thread]);
    for (int i = 0, pair = 0; i < m; i++)
        for (int j = i; j < m; j++, pair++) {
            double product = 0;
            for (int thread = 0; thread < threads; thread++) product += partial[thread][pair];
            gramian[i * m + j] = gramian[j * m + i] = product;
        }
}

int weighted_sum(const struct gradients *gradients, const float *weights, void *result) {
    const struct functions *functions = BY_INSTRUCTION_SET[gradients->instruction_set];
    int threads = gradients->threads, finite = 1;
#pragma omp parallel for num_threads(threads) if (threads > 1) schedule(static, 1) reduction(&& : finite)
    for (int thread = 0; thread < threads; thread++) {
        long first = start_of(gradients, thread), last = start_of(gradients, thread + 1);
        finite = functions->weigh(gradients, weights, first, last, result) && finite;
    }
    return finite;
}
