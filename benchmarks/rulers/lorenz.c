/* An ensemble of Lorenz equations, float64: lanes, each with a time, a step and a state.

   Tsitouras' method 5(4) (Computers & Mathematics with Applications 62, 2011). A lane whose member is done
   takes the next one of a queue that the threads share: without that a third of the lanes would idle. The
   body of a step has no branch and no call, so that compilers turn its loop over lanes into vectors. */

#include <stdint.h>
#include <string.h>

#define W 8 /* two registers of AVX2, one of AVX-512; 16 spill */

static const double A21 = 0.161;
static const double A31 = -0.008480655492356989, A32 = 0.335480655492357;
static const double A41 = 2.8971530571054935, A42 = -6.359448489975075, A43 = 4.3622954328695815;
static const double A51 = 5.325864828439257, A52 = -11.748883564062828, A53 = 7.4955393428898365,
                    A54 = -0.09249506636175525;
static const double A61 = 5.86145544294642, A62 = -12.92096931784711, A63 = 8.159367898576159,
                    A64 = -0.071584973281401, A65 = -0.028269050394068383;
static const double B1 = 0.09646076681806523, B2 = 0.01, B3 = 0.4798896504144996, B4 = 1.379008574103742,
                    B5 = -3.290069515436081, B6 = 2.324710524099774;
static const double E1 = -0.00178001105222577714, E2 = -0.0008164344596567469, E3 = 0.007880878010261995,
                    E4 = -0.1447110071732629, E5 = 0.5823571654525552, E6 = -0.45808210592918697,
                    E7 = 1.0 / 66.0;

typedef struct {
    double x[W], y[W], z[W];    /* state */
    double kx[W], ky[W], kz[W]; /* its rates */
    double rho[W], t[W], h[W];
    double done[W]; /* 1 when the last step has reached the end */
} lanes;

typedef struct {
    double sigma, beta, t1, rtol, atol;
} constants;

/* err^(-1/10) for 1e-10 <= err, to three digits, which is all that a step's size needs: the bits of a float
   are nearly its logarithm, and one step of Newton's method for y^-10 = err repairs the rest. */
static inline float root(float err) {
    int32_t bits;
    memcpy(&bits, &err, sizeof bits);
    bits = (int32_t)(1.1f * 1065353216.0f - 0.1f * (float)bits);
    float y;
    memcpy(&y, &bits, sizeof y);
    float y2 = y * y, y4 = y2 * y2;
    return y * (1.1f - 0.1f * err * y4 * y4 * y2);
}

static inline double larger(double a, double b) { return a > b ? a : b; }
static inline double smaller(double a, double b) { return a < b ? a : b; }

#define RATES(k, X, Y, Z)                                                                                    \
    double k##x = c.sigma * ((Y) - (X)), k##y = (X) * (rho - (Z)) - (Y), k##z = (X) * (Y) - c.beta * (Z)
#define POINT(u, sum)                                                                                        \
    double u##x = x + h * (sum(x)), u##y = y + h * (sum(y)), u##z = z + h * (sum(z))
#define SUM2(c) A21 * k1##c
#define SUM3(c) A31 * k1##c + A32 * k2##c
#define SUM4(c) A41 * k1##c + A42 * k2##c + A43 * k3##c
#define SUM5(c) A51 * k1##c + A52 * k2##c + A53 * k3##c + A54 * k4##c
#define SUM6(c) A61 * k1##c + A62 * k2##c + A63 * k3##c + A64 * k4##c + A65 * k5##c
#define SUM7(c) B1 * k1##c + B2 * k2##c + B3 * k3##c + B4 * k4##c + B5 * k5##c + B6 * k6##c
#define SUME(c) E1 * k1##c + E2 * k2##c + E3 * k3##c + E4 * k4##c + E5 * k5##c + E6 * k6##c + E7 * k7##c
#define SCALE(a, b) (c.atol + c.rtol * larger(a < 0 ? -a : a, b < 0 ? -b : b))

static void step(lanes *restrict s, constants c) {
#pragma GCC ivdep
    for (int l = 0; l < W; l++) {
        double x = s->x[l], y = s->y[l], z = s->z[l], rho = s->rho[l], t = s->t[l];
        double k1x = s->kx[l], k1y = s->ky[l], k1z = s->kz[l];
        double left = c.t1 - t, h = smaller(s->h[l], left);
        POINT(a, SUM2);
        RATES(k2, ax, ay, az);
        POINT(b, SUM3);
        RATES(k3, bx, by, bz);
        POINT(d, SUM4);
        RATES(k4, dx, dy, dz);
        POINT(e, SUM5);
        RATES(k5, ex, ey, ez);
        POINT(f, SUM6);
        RATES(k6, fx, fy, fz);
        POINT(n, SUM7);
        RATES(k7, nx, ny, nz);
        /* the mean square of error over scale, with one division instead of three */
        double sx = SCALE(x, nx), sy = SCALE(y, ny), sz = SCALE(z, nz);
        double qx = SUME(x), qy = SUME(y), qz = SUME(z);
        qx *= sy * sz, qy *= sx * sz, qz *= sx * sy;
        double all = h / (sx * sy * sz), mean = (qx * qx + qy * qy + qz * qz) * (all * all) * (1.0 / 3);
        double err2 = smaller(larger(mean, 1e-10), 1e10);
        int good = err2 <= 1;
        s->done[l] = good & (h >= left) ? 1.0 : 0.0;
        s->t[l] = good ? t + h : t;
        s->x[l] = good ? nx : x, s->y[l] = good ? ny : y, s->z[l] = good ? nz : z;
        s->kx[l] = good ? k7x : k1x, s->ky[l] = good ? k7y : k1y, s->kz[l] = good ? k7z : k1z;
        s->h[l] = h * smaller(5, larger(0.2, 0.9 * (double)root((float)err2)));
    }
}

typedef struct {
    int64_t members;
    const double *rho, *start;
    double h0;
    int64_t *queue;
} source;

/* Put the next member of the queue into lane l; its number, or -1 when there is none: then the lane repeats
   steps of size 0 until the others are done. */
static int64_t refill(lanes *s, int l, source from, constants c) {
    int64_t next = __atomic_fetch_add(from.queue, 1, __ATOMIC_RELAXED);
    s->x[l] = from.start[0], s->y[l] = from.start[1], s->z[l] = from.start[2];
    s->rho[l] = from.rho[next < from.members ? next : 0];
    s->kx[l] = c.sigma * (s->y[l] - s->x[l]);
    s->ky[l] = s->x[l] * (s->rho[l] - s->z[l]) - s->y[l];
    s->kz[l] = s->x[l] * s->y[l] - c.beta * s->z[l];
    s->t[l] = next < from.members ? 0 : c.t1;
    s->h[l] = from.h0;
    return next < from.members ? next : -1;
}

/* out[3*i] are x, y, z of member i at t1; `queue` is the next member to start; `steps` counts attempts */
void lorenz(int64_t members, const double *rho, double sigma, double beta, const double *start, double t1,
            double rtol, double atol, double h0, int64_t *queue, double *out, int64_t *steps) {
    constants c = {sigma, beta, t1, rtol, atol};
    source from = {members, rho, start, h0, queue};
    lanes s;
    int64_t member[W], tried = 0;
    int busy = 0;
    for (int l = 0; l < W; l++) busy += (member[l] = refill(&s, l, from, c)) >= 0;
    while (busy) {
        step(&s, c);
        tried += busy;
        double any = 0;
        for (int l = 0; l < W; l++) any += s.done[l];
        if (any == 0) continue;
        for (int l = 0; l < W; l++) {
            if (s.done[l] == 0 || member[l] < 0) continue;
            double *o = out + 3 * member[l];
            o[0] = s.x[l], o[1] = s.y[l], o[2] = s.z[l];
            busy -= (member[l] = refill(&s, l, from, c)) < 0;
        }
    }
    __atomic_fetch_add(steps, tried, __ATOMIC_RELAXED);
}
