/* A neural controlled equation dz = tanh(W2 tanh(W1 z + b1) + b2) dX, a matrix of D x C column by column, by the
   classical method of order 4, one step from each time of the data to the next, and the gradient of mean(z(end)^2)
   by the weights, float32.

   A tile of T samples makes the whole run and its way back; a tape holds the activations of all stages. The matrix
   is multiplied with dX/dt while it is in registers. */

#include "tiles.h"

#define D 8
#define C 4
#define H 32

typedef struct {
    float w1[H * D], b1[H], w2[D * C * H], b2[D * C];
} weights;

/* what a stage leaves on the tape: its input and the values of the two layers */
typedef struct {
    row x[D], p[H], q[D * C];
} stage;

/* dX/dt at the start, the middle and the end of a step */
typedef struct {
    row at[3][C];
} slopes;

/* Of the cubic between two times that are 1 apart, with backward differences as slopes; x has rows of `samples`
   samples, C of them for each time */
static void slopes_of(int64_t n, int64_t samples, const float *x, slopes *s) {
    for (int c = 0; c < C; c++) {
        const float *now = x + (n * C + c) * samples, *next = now + C * samples;
        const float *old = n ? now - C * samples : now, *new = n ? now : next;
        for (int l = 0; l < T; l++) {
            float before = new[l] - old[l], rise = next[l] - now[l];
            s->at[0][c][l] = before;
            s->at[1][c][l] = before + 1.25f * (rise - before);
            s->at[2][c][l] = rise;
        }
    }
}

/* k = F(s->x) slope */
static void rates(const weights *w, stage *s, row *slope, row *k) {
    spread(H, w->b1, s->p);
    multiply(H, D, T, w->w1, s->x[0], s->p[0]);
    squash(H, s->p);
    spread(D * C, w->b2, s->q);
    multiply(D * C, H, T, w->w2, s->p[0], s->q[0]);
    for (int i = 0; i < D; i++)
        for (int l = 0; l < T; l++) {
            float sum = 0;
            for (int c = 0; c < C; c++) {
                s->q[c * D + i][l] = tanh_of(s->q[c * D + i][l]);
                sum += s->q[c * D + i][l] * slope[c][l];
            }
            k[i][l] = sum;
        }
}

/* u = J^T k at a stage, and the weights' gradient; `turned` has the matrices transposed, k is dL/d(rates) */
static void back(const weights *turned, stage *s, row *slope, row *k, row *u, weights *g) {
    row d2[D * C], d1[H];
    for (int c = 0; c < C; c++)
        for (int i = 0; i < D; i++)
            for (int l = 0; l < T; l++) {
                float q = s->q[c * D + i][l];
                d2[c * D + i][l] = k[i][l] * slope[c][l] * (1.0f - q * q);
            }
    learn(D * C, H, d2, s->p, g->w2, g->b2);
    memset(d1, 0, sizeof d1);
    multiply(H, D * C, T, turned->w2, d2[0], d1[0]);
    through_tanh(H, d1, s->p);
    learn(H, D, d1, s->x, g->w1, g->b1);
    memset(u, 0, D * sizeof(row));
    multiply(D, H, T, turned->w1, d1[0], u[0]);
}

static void forward_step(const weights *w, slopes *s, row *x, stage *tape) {
    row k[4][D];
    EACH(tape[0].x[i][l] = x[i][l])
    rates(w, &tape[0], s->at[0], k[0]);
    EACH(tape[1].x[i][l] = x[i][l] + 0.5f * k[0][i][l])
    rates(w, &tape[1], s->at[1], k[1]);
    EACH(tape[2].x[i][l] = x[i][l] + 0.5f * k[1][i][l])
    rates(w, &tape[2], s->at[1], k[2]);
    EACH(tape[3].x[i][l] = x[i][l] + k[2][i][l])
    rates(w, &tape[3], s->at[2], k[3]);
    EACH(x[i][l] += (k[0][i][l] + 2 * (k[1][i][l] + k[2][i][l]) + k[3][i][l]) / 6)
}

/* a: dL/dz after the step, and then before it */
static void backward_step(const weights *turned, slopes *s, row *a, stage *tape, weights *g) {
    row k[D], u[D], sum[D];
    EACH(k[i][l] = a[i][l] / 6)
    back(turned, &tape[3], s->at[2], k, u, g);
    EACH(sum[i][l] = a[i][l] + u[i][l]; k[i][l] = a[i][l] / 3 + u[i][l])
    back(turned, &tape[2], s->at[1], k, u, g);
    EACH(sum[i][l] += u[i][l]; k[i][l] = a[i][l] / 3 + 0.5f * u[i][l])
    back(turned, &tape[1], s->at[1], k, u, g);
    EACH(sum[i][l] += u[i][l]; k[i][l] = a[i][l] / 6 + 0.5f * u[i][l])
    back(turned, &tape[0], s->at[0], k, u, g);
    EACH(a[i][l] = sum[i][l] + u[i][l])
}

/* Samples start[samples][D], a multiple of T, driven by x[length][C][samples]; g, this thread's sums of gradients,
   starts as 0. `given` are w1 b1 w2 b2 one after the other, as is g. Every `threads`-th tile from `thread` on.
   Returns 0, or 1 when there is no memory. */
int neural_cde(int64_t samples, int64_t length, const float *start, const float *x, const float *given, float *g,
               int64_t thread, int64_t threads) {
    const weights *w = (const weights *)given;
    weights *turned = malloc(sizeof *turned);
    stage *tape = aligned_alloc(64, 4 * (length - 1) * sizeof(stage));
    if (!turned || !tape) return 1;
    transpose(H, D, w->w1, turned->w1);
    transpose(D * C, H, w->w2, turned->w2);
    for (int64_t tile = thread; tile < samples / T; tile += threads) {
        row z[D];
        slopes s;
        EACH(z[i][l] = start[(tile * T + l) * D + i])
        for (int64_t n = 0; n < length - 1; n++) {
            slopes_of(n, samples, x + tile * T, &s);
            forward_step(w, &s, z, tape + 4 * n);
        }
        EACH(z[i][l] *= 2.0f / (float)(samples * D))
        for (int64_t n = length - 2; n >= 0; n--) {
            slopes_of(n, samples, x + tile * T, &s);
            backward_step(turned, &s, z, tape + 4 * n, (weights *)g);
        }
    }
    free(turned), free(tape);
    return 0;
}
