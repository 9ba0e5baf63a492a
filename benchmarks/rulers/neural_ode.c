/* A neural ordinary equation x' = W3 tanh(W2 tanh(W1 x + b1) + b2) + b3 by the classical method of order 4,
   and the gradient of mean(x(end)^2) by the weights, float32.

   A tile of T samples makes the whole run and its way back, so that weights and activations stay in the first
   caches; a tape holds the activations of all stages. */

#include "tiles.h"

#define D 8
#define H 64

typedef struct {
    float w1[H * D], b1[H], w2[H * H], b2[H], w3[D * H], b3[D];
} weights;

/* what a stage leaves on the tape: its input and the values of the two hidden layers */
typedef struct {
    row x[D], p[H], q[H];
} stage;

/* k = f(s->x) */
static void rates(const weights *w, stage *s, row *k) {
    spread(H, w->b1, s->p);
    multiply(H, D, T, w->w1, s->x[0], s->p[0]);
    squash(H, s->p);
    spread(H, w->b2, s->q);
    multiply(H, H, T, w->w2, s->p[0], s->q[0]);
    squash(H, s->q);
    spread(D, w->b3, k);
    multiply(D, H, T, w->w3, s->q[0], k[0]);
}

/* u = J^T k at a stage, and the weights' gradient; `turned` has the matrices transposed, k is dL/d(rates) */
static void back(const weights *turned, stage *s, row *k, row *u, weights *g) {
    row d2[H], d1[H];
    learn(D, H, k, s->q, g->w3, g->b3);
    memset(d2, 0, sizeof d2);
    multiply(H, D, T, turned->w3, k[0], d2[0]);
    through_tanh(H, d2, s->q);
    learn(H, H, d2, s->p, g->w2, g->b2);
    memset(d1, 0, sizeof d1);
    multiply(H, H, T, turned->w2, d2[0], d1[0]);
    through_tanh(H, d1, s->p);
    learn(H, D, d1, s->x, g->w1, g->b1);
    memset(u, 0, D * sizeof(row));
    multiply(D, H, T, turned->w1, d1[0], u[0]);
}

static void forward_step(const weights *w, float h, row *x, stage *tape) {
    row k[4][D];
    EACH(tape[0].x[i][l] = x[i][l])
    rates(w, &tape[0], k[0]);
    EACH(tape[1].x[i][l] = x[i][l] + h / 2 * k[0][i][l])
    rates(w, &tape[1], k[1]);
    EACH(tape[2].x[i][l] = x[i][l] + h / 2 * k[1][i][l])
    rates(w, &tape[2], k[2]);
    EACH(tape[3].x[i][l] = x[i][l] + h * k[2][i][l])
    rates(w, &tape[3], k[3]);
    EACH(x[i][l] += h / 6 * (k[0][i][l] + 2 * (k[1][i][l] + k[2][i][l]) + k[3][i][l]))
}

/* a: dL/dx after the step, and then before it */
static void backward_step(const weights *turned, float h, row *a, stage *tape, weights *g) {
    row k[D], u[D], sum[D];
    EACH(k[i][l] = h / 6 * a[i][l])
    back(turned, &tape[3], k, u, g);
    EACH(sum[i][l] = a[i][l] + u[i][l]; k[i][l] = h / 3 * a[i][l] + h * u[i][l])
    back(turned, &tape[2], k, u, g);
    EACH(sum[i][l] += u[i][l]; k[i][l] = h / 3 * a[i][l] + h / 2 * u[i][l])
    back(turned, &tape[1], k, u, g);
    EACH(sum[i][l] += u[i][l]; k[i][l] = h / 6 * a[i][l] + h / 2 * u[i][l])
    back(turned, &tape[0], k, u, g);
    EACH(a[i][l] = sum[i][l] + u[i][l])
}

/* Samples start[samples][D], a multiple of T; g, this thread's sums of gradients, starts as 0. `given` are
   w1 b1 w2 b2 w3 b3 one after the other, as is g. Every `threads`-th tile from `thread` on. Returns 0, or 1
   when there is no memory. */
int neural_ode(int64_t samples, int64_t steps, float h, const float *start, const float *given, float *g,
               int64_t thread, int64_t threads) {
    const weights *w = (const weights *)given;
    weights *turned = malloc(sizeof *turned);
    stage *tape = aligned_alloc(64, 4 * steps * sizeof(stage));
    if (!turned || !tape) return 1;
    transpose(H, D, w->w1, turned->w1);
    transpose(H, H, w->w2, turned->w2);
    transpose(D, H, w->w3, turned->w3);
    for (int64_t tile = thread; tile < samples / T; tile += threads) {
        row x[D];
        EACH(x[i][l] = start[(tile * T + l) * D + i])
        for (int64_t n = 0; n < steps; n++) forward_step(w, h, x, tape + 4 * n);
        EACH(x[i][l] *= 2.0f / (float)(samples * D))
        for (int64_t n = steps - 1; n >= 0; n--) backward_step(turned, h, x, tape + 4 * n, (weights *)g);
    }
    free(turned), free(tape);
    return 0;
}
