/* What the sources share, with each other and with c_structures.py. */

#include <stdint.h>

/* Counts changes of what c_structures.py knows of these sources, so that an older library is not used. */
#define INTERFACE_VERSION 2

int interface_version(void);

#define MAX_TASKS 16
#define MAX_PAIRS (MAX_TASKS * (MAX_TASKS + 1) / 2)

/* gradients.c */

enum dtype { FLOAT32, BFLOAT16 };

enum instruction_set { BASELINE, AVX2, AVX512 };

/* M gradients of n elements each. */
struct gradients {
    const void *addresses[MAX_TASKS];
    int m;
    int dtype;
    int instruction_set;
    int threads;
    long n;
};

/* The functions of one instruction set, for a range of elements. */
struct functions {
    long block; /* ranges begin at multiples of it */
    /* The inner products of gradients i <= j, in the order of nested loops. */
    void (*multiply)(const struct gradients *gradients, long first, long last, double *products);
    /* See weighted_sum. */
    int (*weigh)(const struct gradients *gradients, const float *weights, long first, long last, void *result);
};

/* The widest that this processor has. */
enum instruction_set widest_instruction_set(void);

/* All m x m inner products, row by row. */
void gradient_gramian(const struct gradients *gradients, double *gramian);

/* Sum of weights[i] times gradient i, accumulated in float32. Returns whether all of it is finite. */
int weighted_sum(const struct gradients *gradients, const float *weights, void *result);

static inline long smaller(long a, long b) { return a < b ? a : b; }

/* multibalance.c */

/* The options and the state, (m,) each, of a step. */
struct multibalance {
    int m;
    int cosine; /* whether slopes are cosines, else inner products */
    double beta, rho, gamma, prior_in_direction, max_rescale, divisor;
    const double *prior, *weights, *norms;
    double *new_weights, *new_norms;
};

/* From a finite (m, m) Gramian. */
void multibalance_coefficients(const struct multibalance *step, const double *gramian, double *coefficients);

/* shared_sums.c */

enum outcome { COMPLETE, MISSING, OVERWRITTEN, OTHER_COUNT };

/* Memory that ranks share, for messages of up to capacity values. */
struct exchange {
    char *memory;
    long capacity;
    int rank, ranks;
};

long shared_bytes(int ranks, long capacity);

/* Writes this rank's message. Numbers count up from 1. */
void put(const struct exchange *exchange, uint32_t number, const double *values, long count);

/* Adds the messages of all ranks with this number, and waits for each for at most this long. If a message is missing,
   was overwritten by a later one, or has another count, culprit is its rank. */
enum outcome add_up(const struct exchange *exchange, uint32_t number, double *sums, long count, long microseconds,
                    int *culprit);
