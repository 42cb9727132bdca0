/* The coefficients of one step of MultiBalance. The notation is that of methods/multibalance.py, the form to read. */

#include <math.h>

#include "balancing.h"

/* Products must not be fused with sums: the terms of opposed gradients cancel exactly. */
#if defined(__clang__)
#pragma clang fp contract(off)
#elif defined(__GNUC__)
#pragma GCC optimize("fp-contract=off")
#endif

/* NaN stays, as in NumPy. */
static double at_least(double value, double bound) { return value < bound ? bound : value; }

static double at_most(double value, double bound) { return value > bound ? bound : value; }

static double finite_ratio(double dividend, double divisor)
{
    double quotient = dividend / divisor;
    return isfinite(quotient) ? quotient : 0;
}

static void project_to_simplex(double *vector, int m)
{
    double descending[MAX_TASKS];
    for (int i = 0; i < m; i++) {
        int place = i;
        for (; place > 0 && descending[place - 1] < vector[i]; place--)
            descending[place] = descending[place - 1];
        descending[place] = vector[i];
    }
    double sum = 0, threshold = -INFINITY;
    for (int i = 0; i < m; i++) {
        sum += descending[i];
        threshold = at_least(threshold, (sum - 1) / (i + 1));
    }
    for (int i = 0; i < m; i++)
        vector[i] = at_least(vector[i] - threshold, 0);
}

void multibalance_coefficients(const struct multibalance *step, const double *gramian, double *coefficients)
{
    int m = step->m;
    double gradient_norms[MAX_TASKS], rescale[MAX_TASKS], mixture[MAX_TASKS], products[MAX_TASKS];
    for (int i = 0; i < m; i++) {
        double norm = sqrt(at_least(gramian[i * m + i], 0)), before = step->norms[i];
        double moved = (1 - step->gamma) * before + step->gamma * norm;
        double average = norm > 0 ? (before > 0 ? moved : norm) : before;
        gradient_norms[i] = norm;
        step->new_norms[i] = average;
        rescale[i] = at_most(finite_ratio(average, norm), step->max_rescale);
        mixture[i] = rescale[i] * (step->weights[i] + step->rho * step->prior[i]);
    }
    double square = 0;
    for (int i = 0; i < m; i++) {
        products[i] = 0;
        for (int j = 0; j < m; j++)
            products[i] += gramian[i * m + j] * mixture[j];
        square += mixture[i] * products[i];
    }
    double length = sqrt(at_least(square, 0));
    for (int i = 0; i < m; i++) {
        double slope = step->cosine ? at_most(at_least(finite_ratio(products[i], gradient_norms[i] * length), -1), 1)
                                    : rescale[i] * products[i];
        step->new_weights[i] = step->weights[i] - step->beta * slope;
    }
    project_to_simplex(step->new_weights, m);
    for (int i = 0; i < m; i++)
        coefficients[i] =
            rescale[i] * (step->new_weights[i] + step->prior_in_direction * step->prior[i]) / step->divisor;
}
