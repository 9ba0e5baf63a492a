/* Geometric Brownian motion by Euler and Maruyama, float32, with noise that is a function of (seed, path, step).

   Philox 4x32-10 (Salmon and others, SC 2011) gives four words for each path and four steps; Box and Muller
   (Annals of Mathematical Statistics 29, 1958) make four normal numbers of them. */

#include "vectors.h"

#ifdef __AVX2__
#include <immintrin.h>
#endif

#define W 16

#define HALF 4

/* a word in each 64-bit place; what stands above it is of no account */
typedef uint64_t wide __attribute__((vector_size(8 * HALF)));
typedef uint32_t narrow __attribute__((vector_size(8 * HALF), may_alias));

typedef struct {
    wide a, b, c, d;
} words;

/* the products of the low words: compilers do not see that one instruction has them */
static inline wide product(wide x, uint32_t factor) {
    wide y = (wide){} + factor;
#ifdef __AVX2__
    return (wide)_mm256_mul_epu32((__m256i)x, (__m256i)y);
#else
    return (x & 0xffffffffu) * y;
#endif
}

static inline words philox(words x, uint32_t key, uint32_t key2) {
#pragma GCC unroll 10
    for (int round = 0; round < 10; round++) {
        wide p = product(x.a, 0xD2511F53u), q = product(x.c, 0xCD9E8D57u);
        x = (words){(q >> 32) ^ x.b ^ key, q, (p >> 32) ^ x.d ^ key2, p};
        key += 0x9E3779B9u, key2 += 0xBB67AE85u;
    }
    return x;
}

/* words of even and of odd paths, in the order of the paths */
static inline narrow woven(wide even, wide odd) {
    return (narrow)((even & 0xffffffffu) | (odd << 32));
}

/* out[4][W]: the four words of the paths from `first` on at counter k */
static inline void draw(uint32_t first, uint32_t k, const uint32_t *key, uint32_t out[4][W]) {
    for (int l = 0; l < W; l += 2 * HALF) {
        wide even = {0, 2, 4, 6}, counter = (wide){} + k, none = {};
        even += (uint64_t)first + l;
        words x = philox((words){even, counter, none, none}, key[0], key[1]);
        words y = philox((words){even + 1, counter, none, none}, key[0], key[1]);
        *(narrow *)(out[0] + l) = woven(x.a, y.a);
        *(narrow *)(out[1] + l) = woven(x.b, y.b);
        *(narrow *)(out[2] + l) = woven(x.c, y.c);
        *(narrow *)(out[3] + l) = woven(x.d, y.d);
    }
}

/* for a test of the generator alone: four words at counter (path, k, 0, 0) */
void philox_words(uint32_t path, uint32_t k, const uint32_t *key, uint32_t *x) {
    uint32_t out[4][W] __attribute__((aligned(64)));
    draw(path, k, key, out);
    for (int i = 0; i < 4; i++) x[i] = out[i][0];
}

/* Two normal numbers from two words. The angle's quadrant and its place in the quadrant are drawn apart. */
static inline void normals(uint32_t u, uint32_t v, float *z1, float *z2) {
    float uniform = (float)(int32_t)(u >> 8) * 5.960464478e-08f + 2.980232239e-08f;
    float f = (float)(int32_t)(v >> 8) * 5.960464478e-08f - 0.49999997f;
    float r = __builtin_sqrtf(-2.0f * log_of(uniform));
    float s = r * sine_of(f), c = r * cosine_of(f);
    int32_t sign = (int32_t)(v << 31);
    c = as_float(as_bits(c) ^ sign);
    *z1 = v & 2 ? s : c;
    *z2 = v & 2 ? c : s;
}

/* x[0..paths) at the end of `steps` (a multiple of 4) steps: each multiplies x by 1 + drift + spread*z.
   `queue` counts blocks of W paths that are taken; the arrays have room for whole blocks. */
void brownian(int64_t paths, int64_t steps, float start, float drift, float spread, const uint32_t *key,
              int64_t *queue, float *out) {
    for (;;) {
        int64_t first = __atomic_fetch_add(queue, 1, __ATOMIC_RELAXED) * W;
        if (first >= paths) return;
        float x[W];
        for (int l = 0; l < W; l++) x[l] = start;
        for (int64_t k = 0; k < steps / 4; k++) {
            uint32_t word[4][W] __attribute__((aligned(64)));
            draw((uint32_t)first, (uint32_t)k, key, word);
            for (int l = 0; l < W; l++) {
                float z1, z2, z3, z4;
                normals(word[0][l], word[1][l], &z1, &z2);
                normals(word[2][l], word[3][l], &z3, &z4);
                float y = x[l];
                y += y * (drift + spread * z1);
                y += y * (drift + spread * z2);
                y += y * (drift + spread * z3);
                y += y * (drift + spread * z4);
                x[l] = y;
            }
        }
        memcpy(out + first, x, sizeof x);
    }
}
