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
