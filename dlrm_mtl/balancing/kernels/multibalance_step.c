/* One step of MultiBalance for a CPU, where an operation on a tensor costs more than its M numbers.

   The same formulas as MultiBalance.coefficients (multibalance.py), in the same order. Built without contractions or
   reordering, so that ranks on different processors come to the same bits. */

#include <math.h>

#include "balancing.h"

/* 0 where there is nothing to divide by, or the quotient is beyond float64. */
static double ratio(double dividend, double divisor) {
    double quotient = dividend / divisor;
    return isfinite(quotient) ? quotient : 0;
}

static double moving_average(double old, double norm, double gamma) {
    if (norm == 0) return old;
    if (old == 0) return norm;
    /* As torch.lerp: exact at both ends. */
    return gamma < 0.5 ? old + gamma * (norm - old) : norm - (1 - gamma) * (norm - old);
}

/* See simplex.py, project_to_simplex. */
static void project_to_simplex(double *vector, int m) {
    double descending[m], total = -1, threshold = -INFINITY;
    for (int i = 0; i < m; i++) {
        int place = i;
        for (; place > 0 && descending[place - 1] < vector[i]; place--) descending[place] = descending[place - 1];
        descending[place] = vector[i];
    }
    for (int i = 0; i < m; i++) {
        total += descending[i];
        threshold = fmax(threshold, total / (i + 1));
    }
    for (int i = 0; i < m; i++) vector[i] = fmax(vector[i] - threshold, 0);
}

double multibalance_coefficient(const struct method *method, int task, double rescale) {
    double weight = method->weights[task] + method->prior_in_direction * method->prior[task];
    return rescale * weight / method->divisor;
}

void multibalance_step(const struct method *method, const double *gramian, int m, double *coefficients) {
    double *weights = method->weights, *averages = method->averages;
    const double *prior = method->prior;
    double norms[m], rescale[m], mixture[m], products[m], length = 0;
    for (int i = 0; i < m; i++) {
        norms[i] = sqrt(fmax(gramian[i * m + i], 0));
        averages[i] = moving_average(averages[i], norms[i], method->gamma);
        rescale[i] = fmin(ratio(averages[i], norms[i]), method->max_rescale);
        mixture[i] = rescale[i] * (weights[i] + method->rho * prior[i]);
    }
    for (int i = 0; i < m; i++) {
        products[i] = 0;
        for (int j = 0; j < m; j++) products[i] += gramian[i * m + j] * mixture[j];
        length += mixture[i] * products[i];
    }
    length = sqrt(fmax(length, 0));
    for (int i = 0; i < m; i++) {
        /* Where the gradients cancel, the length is rounding: without bounds lambda would be thrown to a vertex. */
        double cosine = fmin(fmax(ratio(products[i], norms[i] * length), -1), 1);
        weights[i] -= method->beta * (method->cosine ? cosine : rescale[i] * products[i]);
    }
    project_to_simplex(weights, m);
    for (int i = 0; i < m; i++) coefficients[i] = multibalance_coefficient(method, i, rescale[i]);
}
