/* End states of dx = -0.8 x dt + 0.5 dB by Euler-Maruyama steps: a limit for what a CPU thread can do.

   Built by bench_speed.py with -O3 -march=native -ffast-math, which turns the loops over LANES paths
   into vector instructions. Uniforms: xoshiro128+ (Blackman and Vigna), one generator for each lane,
   seeded by a linear congruential generator. Normals: Box and Muller, two for two uniforms. The
   functions are series, because calls of the library's would not become vector instructions. */
#include <math.h>
#include <stdint.h>

enum { LANES = 256 };

static uint32_t s0[LANES], s1[LANES], s2[LANES], s3[LANES];

static void seed(uint64_t word) {
    uint32_t *states[4] = {s0, s1, s2, s3};
    for (int k = 0; k < 4; k++)
        for (int i = 0; i < LANES; i++) {
            word = word * 6364136223846793005ULL + 1442695040888963407ULL;
            states[k][i] = (uint32_t)(word >> 32) | 1;
        }
}

static void uniforms(float *out) { /* in (0, 1) */
    for (int i = 0; i < LANES; i++) {
        uint32_t sum = s0[i] + s3[i], t = s1[i] << 9;
        s2[i] ^= s0[i];
        s3[i] ^= s1[i];
        s1[i] ^= s2[i];
        s0[i] ^= s3[i];
        s2[i] ^= t;
        s3[i] = (s3[i] << 11) | (s3[i] >> 21);
        out[i] = ((float)(sum >> 9) + 0.5f) * 0x1p-23f;
    }
}

/* ln x for 0 < x < 1, from the exponent and ln m = 2 artanh((m - 1)/(m + 1)), 0.7 < m < 1.42. */
static inline float logarithm(float x) {
    union { float f; uint32_t u; } bits = {x};
    int32_t exponent = (int32_t)(bits.u - 0x3f3504f3) >> 23;
    bits.u -= (uint32_t)exponent << 23;
    float z = (bits.f - 1.0f) / (bits.f + 1.0f), q = z * z;
    float series = 1.0f + q * (1.0f / 3 + q * (1.0f / 5 + q * (1.0f / 7 + q / 9)));
    return 0.69314718f * (float)exponent + 2.0f * z * series;
}

/* Cosine and sine of 2a for |a| <= pi/2, by Taylor series at a and the double angle. */
static inline void turn(float a, float *cosine, float *sine) {
    float q = a * a;
    float s = a * (1 + q * (-1.0f / 6 + q * (1.0f / 120 + q * (-1.0f / 5040 + q * (1.0f / 362880
              + q * (-1.0f / 39916800))))));
    float c = 1 + q * (-0.5f + q * (1.0f / 24 + q * (-1.0f / 720 + q * (1.0f / 40320
              + q * (-1.0f / 3628800 + q / 479001600)))));
    *cosine = 1 - 2 * s * s;
    *sine = 2 * s * c;
}

/* x: count numbers, a multiple of LANES; steps: an even number. */
void simulate(float *x, long count, long steps, float step, uint64_t word) {
    float u[LANES], v[LANES];
    const float decay = 1.0f - 0.8f * step, scale = 0.5f * sqrtf(step);
    seed(word);
    for (long from = 0; from < count; from += LANES) {
        float *y = x + from;
        for (long n = 0; n < steps; n += 2) {
            uniforms(u);
            uniforms(v);
            for (int i = 0; i < LANES; i++) {
                float radius = scale * sqrtf(-2.0f * logarithm(u[i])), cosine, sine;
                turn(3.1415927f * (v[i] - 0.5f), &cosine, &sine);
                y[i] = decay * y[i] + radius * cosine;
                y[i] = decay * y[i] + radius * sine;
            }
        }
    }
}
