/* A whole step of the balancing layer for a CPU: from M gradients to the balanced one.

   Between other work, with caches full of it, each operation of torch and each line of Python costs microseconds. The
   same decisions as those of tensor_steps.py, in the same order. */

#include <math.h>
#include <string.h>

#include "balancing.h"

/* What a step decides; numbers of tasks and pairs in the order of tasks. */
struct decision {
    double gramian[MAX_TASKS * MAX_TASKS];   /* this rank's; NaN, if a task is broken: its reduction tells every rank */
    double statistic[MAX_TASKS * MAX_TASKS]; /* what the coefficients came from; zeros, if nothing is measured */
    double coefficients[MAX_TASKS];
    double task_weights[MAX_TASKS]; /* after the step */
    int broken[MAX_TASKS];          /* tasks of which something is not finite on this rank */
    int any_broken;
    int finite; /* whether the statistic is: else the state stays as it was */
};

static int all_finite(const double *values, int count) {
    for (int i = 0; i < count; i++)
        if (!isfinite(values[i])) return 0;
    return 1;
}

/* Which tasks are broken, after the Gramian. */
static void mark(struct decision *decision, int m, const double *losses) {
    decision->any_broken = 0;
    for (int i = 0; i < m; i++) {
        decision->broken[i] = !isfinite(decision->gramian[i * m + i]) || (losses && !isfinite(losses[i]));
        decision->any_broken |= decision->broken[i];
    }
    for (int i = 0; i < m * m && decision->any_broken; i++) decision->gramian[i] = NAN;
}

/* This rank's part. losses: (m) of this rank, or NULL where they are not known. */
void measure(struct decision *decision, const struct method *method, const struct gradients *gradients,
             const double *losses) {
    int m = gradients->m;
    memset(decision->gramian, 0, m * m * sizeof(double));
    if (method->kind != FIXED_WEIGHTS) gradient_gramian(gradients, decision->gramian);
    mark(decision, m, losses);
}

/* The coefficients; advances the state. The arguments are those of settle. */
static void decide(struct decision *decision, const struct method *method, int m, const double *statistic,
                   const double *otherwise) {
    int fixed = method->kind == FIXED_WEIGHTS;
    memset(decision->statistic, 0, m * m * sizeof(double));
    if (!fixed) memcpy(decision->statistic, statistic, m * m * sizeof(double));
    decision->finite = all_finite(decision->statistic, m * m);
    if (fixed) memcpy(decision->coefficients, method->weights, m * sizeof(double));
    else if (decision->finite) multibalance_step(method, decision->statistic, m, decision->coefficients);
    else
        for (int i = 0; i < m; i++)
            decision->coefficients[i] = otherwise ? otherwise[i] : multibalance_coefficient(method, i, 1);
    memcpy(decision->task_weights, method->weights, m * sizeof(double));
}

static void to_floats(const double *values, int count, float *floats) {
    for (int i = 0; i < count; i++) floats[i] = values[i];
}

/* The balanced gradient of a step that must be skipped. */
static void fill_with_nan(const struct gradients *gradients, void *result) {
    float weights[MAX_TASKS];
    for (int i = 0; i < gradients->m; i++) weights[i] = NAN;
    weighted_sum(gradients, weights, result);
}

/* The step from its statistic on, m x m. otherwise: coefficients of the step before, if the statistic is another step's;
   else NULL. The balanced gradient is NaN everywhere, if not all of it is finite, or it may not be applied. */
void settle(struct decision *decision, const struct method *method, const struct gradients *gradients,
            const double *statistic, const double *otherwise, void *result) {
    float weights[MAX_TASKS];
    decide(decision, method, gradients->m, statistic, otherwise);
    to_floats(decision->coefficients, gradients->m, weights);
    int decided_here = method->kind != FIXED_WEIGHTS && !otherwise;
    int applicable = decided_here ? decision->finite : !decision->any_broken;
    if (!applicable || !weighted_sum(gradients, weights, result)) fill_with_nan(gradients, result);
}

static void send(const struct decision *decision, const struct exchange *exchange, uint32_t number, int count,
                 double scale) {
    double values[MAX_TASKS * MAX_TASKS];
    for (int i = 0; i < count; i++) values[i] = decision->gramian[i] / scale;
    put(exchange, number, values, count);
}

/* A whole step. Where ranks add up: this rank's message is sent, and the one awaited settled, if it is COMPLETE; if not,
   the caller gets it, and settles. scale: what a Gramian is divided by before. If the statistic is another step's, the
   gradients are read once: the coefficients are known before. */
enum outcome balance(struct decision *decision, const struct method *method, const struct gradients *gradients,
                     const double *losses, const struct exchange *exchange, uint32_t sent, uint32_t awaited,
                     double scale, const double *statistic, const double *otherwise, void *result) {
    int m = gradients->m, count = m * m, culprit;
    enum outcome outcome = COMPLETE;
    double values[MAX_TASKS * MAX_TASKS];
    if (exchange) statistic = values;
    if (exchange && otherwise) outcome = add_up(exchange, awaited, values, count, 0, &culprit);
    if (otherwise && outcome == COMPLETE) {
        float weights[MAX_TASKS];
        decide(decision, method, m, statistic, otherwise);
        to_floats(decision->coefficients, m, weights);
        int finite = gramian_and_sum(gradients, weights, decision->gramian, result);
        mark(decision, m, losses);
        if (exchange) send(decision, exchange, sent, count, scale);
        if (!finite || decision->any_broken) fill_with_nan(gradients, result);
        return COMPLETE;
    }
    measure(decision, method, gradients, losses);
    if (exchange) {
        send(decision, exchange, sent, count, scale);
        if (outcome == COMPLETE) outcome = add_up(exchange, awaited, values, count, 0, &culprit);
        if (outcome != COMPLETE) return outcome;
    }
    settle(decision, method, gradients, statistic ? statistic : decision->gramian, otherwise, result);
    return COMPLETE;
}
