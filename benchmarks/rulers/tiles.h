/* Dense layers for a tile of T samples, [feature][sample], forwards and back.

   One kernel, C += A B, serves the forward pass, the gradient by inputs (A transposed weights) and the gradient
   by weights (B transposed activations). */

#include <stdlib.h>

#include "vectors.h"

#define T 32
#define WIDEST 64

typedef float eight __attribute__((vector_size(32), aligned(4), may_alias));
#ifdef __AVX512F__
typedef float vec __attribute__((vector_size(64), aligned(4), may_alias));
#define LANES 16
#define ROWS 8
#else
typedef eight vec;
#define LANES 8
#define ROWS 4
#endif
typedef float row[T];

static inline eight at(const float *p) { return *(const eight *)p; }

/* A block of C[rows x width] += A[rows x depth] B[depth x width]; lda, n are the lengths of the rows */
#define BLOCK(name, TYPE, LONG, HIGH, VECS)                                                                  \
    static inline void name(int depth, const float *a, int lda, const float *b, float *c, int n) {           \
        TYPE sum[HIGH][VECS];                                                                                \
        for (int i = 0; i < HIGH; i++)                                                                       \
            for (int j = 0; j < VECS; j++) sum[i][j] = *(const TYPE *)(c + i * n + LONG * j);                \
        for (int k = 0; k < depth; k++)                                                                      \
            for (int j = 0; j < VECS; j++) {                                                                 \
                TYPE v = *(const TYPE *)(b + k * n + LONG * j);                                              \
                for (int i = 0; i < HIGH; i++) sum[i][j] += ((TYPE){} + a[i * lda + k]) * v;                 \
            }                                                                                                \
        for (int i = 0; i < HIGH; i++)                                                                       \
            for (int j = 0; j < VECS; j++) *(TYPE *)(c + i * n + LONG * j) = sum[i][j];                      \
    }
BLOCK(block_wide, vec, LANES, ROWS, 2)
BLOCK(block_8_8, eight, 8, 8, 1)

/* C[m x n] += A[m x depth] B[depth x n], all of them dense; n is 8 or a multiple of 2 LANES, m of 8 */
static inline void multiply(int m, int depth, int n, const float *a, const float *b, float *c) {
    if (n == 8)
        for (int i = 0; i < m; i += 8) block_8_8(depth, a + i * depth, depth, b, c + i * n, n);
    else
        for (int j = 0; j < n; j += 2 * LANES)
            for (int i = 0; i < m; i += ROWS)
                block_wide(depth, a + i * depth, depth, b + j, c + i * n + j, n);
}

/* to[n x m] = from[m x n] transposed, in squares of 8 */
static inline void transpose(int m, int n, const float *from, float *to) {
    for (int i = 0; i < m; i += 8)
        for (int j = 0; j < n; j += 8) {
            eight r[8], s[8];
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
                eight *low = (eight *)(to + (j + k) * m + i), *high = (eight *)(to + (j + k + 4) * m + i);
                *low = __builtin_shufflevector(r[k], r[k + 4], 0, 1, 2, 3, 8, 9, 10, 11);
                *high = __builtin_shufflevector(r[k], r[k + 4], 4, 5, 6, 7, 12, 13, 14, 15);
            }
        }
}

static inline void spread(int m, const float *b, row *out) {
    for (int i = 0; i < m; i++)
        for (int l = 0; l < T; l++) out[i][l] = b[i];
}

static inline void squash(int m, row *x) {
    for (int i = 0; i < m; i++)
        for (int l = 0; l < T; l++) x[i][l] = tanh_of(x[i][l]);
}

static inline void through_tanh(int m, row *d, row *value) {
    for (int i = 0; i < m; i++)
        for (int l = 0; l < T; l++) d[i][l] *= 1.0f - value[i][l] * value[i][l];
}

static inline void add_rows(int m, row *d, float *sums) {
    for (int i = 0; i < m; i++) {
        eight s = at(d[i]) + at(d[i] + 8) + at(d[i] + 16) + at(d[i] + 24);
        sums[i] += ((s[0] + s[1]) + (s[2] + s[3])) + ((s[4] + s[5]) + (s[6] + s[7]));
    }
}

/* one layer's share of the way back: gradients by its weights [m x n] from d, the gradient by its output */
static inline void learn(int m, int n, row *d, row *input, float *w, float *b) {
    float turned[T * WIDEST] __attribute__((aligned(64)));
    transpose(n, T, input[0], turned);
    multiply(m, T, n, d[0], turned, w);
    add_rows(m, d, b);
}

/* e for each of D features i and each sample l */
#define EACH(e)                                                                                              \
    for (int i = 0; i < D; i++)                                                                              \
        for (int l = 0; l < T; l++) {                                                                        \
            e;                                                                                               \
        }
