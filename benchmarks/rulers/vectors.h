/* Functions of single-precision numbers without branches or calls, so that loops of them become vectors.
   The polynomials are Chebyshev interpolants; errors are of exact arithmetic. */

#include <stdint.h>
#include <string.h>

static inline float as_float(int32_t bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static inline int32_t as_bits(float x) {
    int32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

/* log x for normal x > 0, relative error 1.7e-7 of the mantissa's part */
static inline float log_of(float x) {
    int32_t bits = as_bits(x) - 0x3f3504f3; /* sqrt(1/2): mantissas run from there to sqrt(2) */
    int32_t e = bits >> 23;
    float m = as_float(bits - (e << 23) + 0x3f3504f3) - 1.0f;
    float p = -1.013405675e-01f;
    p = p * m + 1.623418980e-01f;
    p = p * m - 1.724701330e-01f;
    p = p * m + 1.989856505e-01f;
    p = p * m - 2.497007169e-01f;
    p = p * m + 3.333511414e-01f;
    p = p * m - 5.000036309e-01f;
    p = p * m + 9.999999425e-01f;
    return p * m + (float)e * 0.693147181f;
}

/* sin and cos of pi/2 times f, for |f| <= 1/2; errors 3e-9 and 3e-8 */
static inline float sine_of(float f) {
    float y = f * f;
    return f * (((-4.602163105e-03f * y + 7.968022286e-02f) * y - 6.459634782e-01f) * y + 1.570796322f);
}

static inline float cosine_of(float f) {
    float y = f * f;
    return ((-2.040825547e-02f * y + 2.535986077e-01f) * y - 1.233697011f) * y + 9.999999724e-01f;
}

/* tanh x = 1 - 2/(exp(2x) + 1), absolute error 1e-7 */
static inline float tanh_of(float x) {
    float t = x < -9.0f ? -9.0f : x;
    t = (t > 9.0f ? 9.0f : t) * 2.885390082f; /* 2/log 2: now it is 2^t */
    float n = __builtin_rintf(t), f = t - n;
    float p = 1.340043217e-03f;
    p = p * f + 9.676037098e-03f;
    p = p * f + 5.550327214e-02f;
    p = p * f + 2.402210736e-01f;
    p = p * f + 6.931472067e-01f;
    p = p * f + 1.000000075f;
    return 1.0f - 2.0f / (p * as_float(((int32_t)n + 127) << 23) + 1.0f);
}
