/* SPDX-License-Identifier: Apache-2.0 */
#include "sim/attack/cmarl/jacobian.h"

#include <string.h>

/* Where the layers stand in the values; NULL: there is no second hidden layer. */
struct layout {
    const float *first, *first_bias;   /* [in, hidden], [hidden] */
    const float *second, *second_bias; /* [hidden, hidden], [hidden] */
    const float *last, *last_bias;     /* [actions, hidden], [actions] */
};

static struct layout layout_of(const struct sl_qnet *net)
{
    const size_t in = net->shape.n_inputs, hidden = net->shape.hidden;
    const float *v = net->values;
    struct layout l = {.first = v, .first_bias = v + in * hidden};
    v = l.first_bias + hidden;
    if (net->shape.layers == 2) {
        l.second = v;
        l.second_bias = v + hidden * hidden;
        v = l.second_bias + hidden;
    }
    l.last = v;
    l.last_bias = v + net->shape.n_actions * hidden;
    return l;
}

/* y[out] = relu(x[in] W + b) */
static void hidden_layer(const float *w, const float *b, const double *x, size_t in, size_t out,
                         double *y)
{
    for (size_t o = 0; o < out; o++)
        y[o] = b[o];
    for (size_t i = 0; i < in; i++)
        for (size_t o = 0; o < out; o++)
            y[o] += x[i] * (double)w[i * out + o];
    for (size_t o = 0; o < out; o++)
        y[o] = y[o] > 0 ? y[o] : 0;
}

/* dx[in] = W dy, dy[out] masked by y > 0 */
static void hidden_slope(const float *w, const double *y, const double *dy, size_t in, size_t out,
                         double *dx)
{
    for (size_t i = 0; i < in; i++) {
        double sum = 0;
        for (size_t o = 0; o < out; o++)
            sum += y[o] > 0 ? (double)w[i * out + o] * dy[o] : 0;
        dx[i] = sum;
    }
}

void sl_cmarl_jacobian(const struct sl_qnet *net, const double *x, double *ret_q, double *ret_j)
{
    const size_t in = net->shape.n_inputs, hidden = net->shape.hidden;
    const struct layout l = layout_of(net);
    double h[2][SL_QNET_HIDDEN_MAX], dh[2][SL_QNET_HIDDEN_MAX];
    hidden_layer(l.first, l.first_bias, x, in, hidden, h[0]);
    if (l.second != NULL)
        hidden_layer(l.second, l.second_bias, h[0], hidden, hidden, h[1]);
    const size_t top = l.second != NULL ? 1 : 0;
    for (size_t a = 0; a < net->shape.n_actions; a++) {
        const float *w = l.last + a * hidden;
        double sum = l.last_bias[a];
        for (size_t k = 0; k < hidden; k++) {
            sum += (double)w[k] * h[top][k];
            dh[top][k] = w[k];
        }
        if (ret_q != NULL)
            ret_q[a] = sum;
        if (ret_j == NULL)
            continue;
        if (l.second != NULL)
            hidden_slope(l.second, h[1], dh[1], hidden, hidden, dh[0]);
        hidden_slope(l.first, h[0], dh[0], in, hidden, ret_j + a * in);
    }
}
