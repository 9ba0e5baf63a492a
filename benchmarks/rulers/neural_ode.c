/* A neural ordinary equation x' = W3 tanh(W2 tanh(W1 x + b1) + b2) + b3 by the classical method of order 4,
   and the gradient of mean(x(end)^2) by the weights, float32.

   A tile of T samples makes the whole run and its way back, so that weights and activations stay in the first
   caches; a tape holds the activations of all stages. Activations are [feature][sample]. One kernel,
   C += A B, serves the forward pass, the gradient by inputs (A transposed weights) and the gradient by weights
   (B transposed activations). */

#include <stdlib.h>

#include "vectors.h"

#define D 8
#define H 64
#define T 32

typedef float vec __attribute__((vector_size(32), aligned(4), may_alias));
typedef float row[T];

static inline vec at(const float *p) { return *(const vec *)p; }
static inline vec all(float v) { return (vec){} + v; }

/* A block of C[rows x 8*vecs] += A[rows x depth] B[depth x 8*vecs]; lda, n are the lengths of the rows */
#define BLOCK(name, ROWS, VECS)                                                                              \
    static inline void name(int depth, const float *a, int lda, const float *b, float *c, int n) {           \
        vec sum[ROWS][VECS];                                                                                 \
        for (int i = 0; i < ROWS; i++)                                                                       \
            for (int j = 0; j < VECS; j++) sum[i][j] = at(c + i * n + 8 * j);                                \
        for (int k = 0; k < depth; k++)                                                                      \
            for (int j = 0; j < VECS; j++) {                                                                 \
                vec v = at(b + k * n + 8 * j);                                                               \
                for (int i = 0; i < ROWS; i++) sum[i][j] += all(a[i * lda + k]) * v;                         \
            }                                                                                                \
        for (int i = 0; i < ROWS; i++)                                                                       \
            for (int j = 0; j < VECS; j++) *(vec *)(c + i * n + 8 * j) = sum[i][j];                          \
    }
BLOCK(block_4_16, 4, 2)
BLOCK(block_8_8, 8, 1)

/* C[m x n] += A[m x depth] B[depth x n], all of them dense; n is 8 or a multiple of 16, m of 8 */
static inline void multiply(int m, int depth, int n, const float *a, const float *b, float *c) {
    if (n == 8)
        for (int i = 0; i < m; i += 8) block_8_8(depth, a + i * depth, depth, b, c + i * n, n);
    else
        for (int j = 0; j < n; j += 16)
            for (int i = 0; i < m; i += 4) block_4_16(depth, a + i * depth, depth, b + j, c + i * n + j, n);
}

/* to[n x m] = from[m x n] transposed, in squares of 8 */
static inline void transpose(int m, int n, const float *from, float *to) {
    for (int i = 0; i < m; i += 8)
        for (int j = 0; j < n; j += 8) {
            vec r[8], s[8];
            for (int k = 0; k < 8; k++) r[k] = at(from + (i + k) * n + j);
            for (int k = 0; k < 4; k++) {
                s[2 * k] = __builtin_shufflevector(r[2 * k], r[2 * k + 1], 0, 8, 2, 10, 4, 12, 6, 14);
                s[2 * k + 1] = __builtin_shufflevector(r[2 * k], r[2 * k + 1], 1, 9, 3, 11, 5, 13, 7, 15);
            }
            for (int k = 0; k < 8; k++) {
                int p = k & 1, q = k & 4;
                r[k] = k & 2 ? __builtin_shufflevector(s[q + p], s[q + p + 2], 2, 3, 10, 11, 6, 7, 14, 15)
                             : __builtin_shufflevector(s[q + p], s[q + p + 2], 0, 1, 8, 9, 4, 5, 12, 13);
            }
            for (int k = 0; k < 4; k++) {
                vec *low = (vec *)(to + (j + k) * m + i), *high = (vec *)(to + (j + k + 4) * m + i);
                *low = __builtin_shufflevector(r[k], r[k + 4], 0, 1, 2, 3, 8, 9, 10, 11);
                *high = __builtin_shufflevector(r[k], r[k + 4], 4, 5, 6, 7, 12, 13, 14, 15);
            }
        }
}

typedef struct {
    float w1[H * D], b1[H], w2[H * H], b2[H], w3[D * H], b3[D];
} weights;

/* what a stage leaves on the tape: its input and the values of the two hidden layers */
typedef struct {
    row x[D], p[H], q[H];
} stage;

static inline void spread(int m, const float *b, row *out) {
    for (int i = 0; i < m; i++)
        for (int l = 0; l < T; l++) out[i][l] = b[i];
}

static inline void squash(row *x) {
    for (int i = 0; i < H; i++)
        for (int l = 0; l < T; l++) x[i][l] = tanh_of(x[i][l]);
}

/* k = f(s->x) */
static void rates(const weights *w, stage *s, row *k) {
    spread(H, w->b1, s->p);
    multiply(H, D, T, w->w1, s->x[0], s->p[0]);
    squash(s->p);
    spread(H, w->b2, s->q);
    multiply(H, H, T, w->w2, s->p[0], s->q[0]);
    squash(s->q);
    spread(D, w->b3, k);
    multiply(D, H, T, w->w3, s->q[0], k[0]);
}

static inline void add_rows(int m, row *d, float *sums) {
    for (int i = 0; i < m; i++) {
        vec s = at(d[i]) + at(d[i] + 8) + at(d[i] + 16) + at(d[i] + 24);
        sums[i] += ((s[0] + s[1]) + (s[2] + s[3])) + ((s[4] + s[5]) + (s[6] + s[7]));
    }
}

/* one layer's share of the way back: gradients by its weights from d, the gradient by its output */
static inline void learn(int m, int n, row *d, row *input, float *w, float *b) {
    float turned[T * H] __attribute__((aligned(32)));
    transpose(n, T, input[0], turned);
    multiply(m, T, n, d[0], turned, w);
    add_rows(m, d, b);
}

static inline void through_tanh(row *d, row *value) {
    for (int i = 0; i < H; i++)
        for (int l = 0; l < T; l++) d[i][l] *= 1.0f - value[i][l] * value[i][l];
}

/* u = J^T k at a stage, and the weights' gradient; `turned` has the matrices transposed, k is dL/d(rates) */
static void back(const weights *turned, stage *s, row *k, row *u, weights *g) {
    row d2[H], d1[H];
    learn(D, H, k, s->q, g->w3, g->b3);
    memset(d2, 0, sizeof d2);
    multiply(H, D, T, turned->w3, k[0], d2[0]);
    through_tanh(d2, s->q);
    learn(H, H, d2, s->p, g->w2, g->b2);
    memset(d1, 0, sizeof d1);
    multiply(H, H, T, turned->w2, d2[0], d1[0]);
    through_tanh(d1, s->p);
    learn(H, D, d1, s->x, g->w1, g->b1);
    memset(u, 0, D * sizeof(row));
    multiply(D, H, T, turned->w1, d1[0], u[0]);
}

#define EACH(e)                                                                                              \
    for (int i = 0; i < D; i++)                                                                              \
        for (int l = 0; l < T; l++) {                                                                        \
            e;                                                                                               \
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
