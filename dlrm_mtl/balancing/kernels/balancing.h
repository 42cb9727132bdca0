/* What the sources share. */

#include <stdint.h>

#define MAX_TASKS 16

/* cpu_kernels.c */

enum dtype { FLOAT32, BFLOAT16 };

/* M gradients of n elements each. */
struct gradients {
    const void *addresses[MAX_TASKS];
    int m;
    int dtype;
    int threads;
    long n;
};

/* All m x m inner products, row by row. */
void gradient_gramian(const struct gradients *gradients, double *gramian);

/* Sum of weights[i] times gradient i, accumulated in float32. Whether all of it is finite. */
int weighted_sum(const struct gradients *gradients, const float *weights, void *result);

/* Both in one pass over the gradients; returns what weighted_sum does. */
int gramian_and_sum(const struct gradients *gradients, const float *weights, double *gramian, void *result);

/* multibalance_step.c */

enum kind { FIXED_WEIGHTS, MULTIBALANCE };

/* State and options of a method; all but the weights, (m), are MultiBalance's. */
struct method {
    int kind;
    int cosine; /* whether lambda follows cosines, or inner products */
    double *weights;
    double *averages; /* u, (m); 0 where a task had no gradient yet */
    const double *prior;
    double beta, rho, gamma, prior_in_direction, max_rescale, divisor;
};

/* On a task's raw gradient, whose rescaled one is so many times it. */
double multibalance_coefficient(const struct method *method, int task, double rescale);

/* Advances the state by one step of a Gramian, m x m, row by row; coefficients are those on the raw gradients. */
void multibalance_step(const struct method *method, const double *gramian, int m, double *coefficients);

/* shared_sums.c */

enum outcome { COMPLETE, AWAITED, OVERTAKEN, OF_ANOTHER_COUNT };

/* Memory that ranks share, for messages of up to so many values. */
struct exchange {
    char *memory;
    long capacity;
    int rank, ranks;
};

long shared_bytes(int ranks, long capacity);

/* Writes this rank's message. Numbers count up from 1. */
void put(const struct exchange *exchange, uint32_t number, const double *values, long count);

/* Adds up all ranks' messages of a number, for which it waits at most so long. Where one is not there, or not any more,
   or has another count, culprit is its rank. */
enum outcome add_up(const struct exchange *exchange, uint32_t number, double *sums, long count, long microseconds,
                    int *culprit);
