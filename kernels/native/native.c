/* See bitfront_native.h. Every variant of the inner tile is compiled into this one library, by
 * target attributes, and chosen at run time. */
#include "bitfront_native.h"

#include <stddef.h>
#include <string.h>

#if defined(__GNUC__) && (defined(__x86_64__) || defined(__i386__))
#define BF_X86 1
#include <immintrin.h>
#endif
#if defined(__GNUC__) && defined(__aarch64__)
#define BF_ARM 1
#include <arm_neon.h>
#endif

#if defined(__GNUC__)
#define BF_INLINE static inline __attribute__((always_inline))
#else
#define BF_INLINE static inline
#endif

/* What is the same for all tiles of a panel. */
typedef struct {
    const uint32_t *weight;
    int64_t first;  /* first output channel */
    int64_t panel;  /* panel of all groups */
    int64_t panels; /* panels of all groups */
    int32_t count;  /* outputs of this panel, 1 .. 32 */
    int32_t row_class;
} bf_span;

BF_INLINE const int32_t *beta_of(const bf_job *job, const bf_span *span, int64_t col) {
    const int64_t class = span->row_class + job->col_class[col];
    return job->beta + (class * span->panels + span->panel) * BF_PANEL;
}

/* Sums wrap on the way, so they are unsigned; the last one fits. */
BF_INLINE int32_t value_of(const bf_job *job, uint32_t count, int32_t beta) {
    return (int32_t)((uint32_t)job->alpha * count + (uint32_t)beta);
}

/* Finish 32 popcounts of one position without vector instructions of our own. */
BF_INLINE void finish(const bf_job *job, const bf_span *span, int64_t at, int64_t col,
                      const uint32_t *counts) {
    const int32_t *beta = beta_of(job, span, col);
    const int32_t count = span->count;
    if (job->finish == BF_BITS) {
        const int32_t *threshold = job->threshold + span->panel * BF_PANEL;
        uint32_t word = 0;
        for (int n = 0; n < count; n++) {
            const int32_t value = value_of(job, counts[n], beta[n]);
            word |= (uint32_t)(value >= threshold[n]) << n;
        }
        word ^= job->flip[span->panel];
        if (count < BF_PANEL) word &= (1u << count) - 1;
        ((uint32_t *)job->out)[at + span->first / BF_PANEL] = word;
        return;
    }
    if (job->finish == BF_AFFINE || job->finish == BF_MERGE) {
        const float *scale = job->scale + span->panel * BF_PANEL;
        const float *shift = job->shift + span->panel * BF_PANEL;
        const int merges = job->finish == BF_MERGE;
        float *out = (float *)job->out + at + span->first;
        for (int n = 0; n < count; n++) {
            const float y = scale[n] * (float)value_of(job, counts[n], beta[n]) + shift[n];
            out[n] = merges ? out[n] + y : y;
        }
        return;
    }
    int32_t *out = (int32_t *)job->out + at + span->first;
    if (job->finish == BF_ADD) {
        for (int n = 0; n < count; n++)
            out[n] = (int32_t)((uint32_t)out[n] + (uint32_t)value_of(job, counts[n], beta[n]));
    } else {
        for (int n = 0; n < count; n++) out[n] = value_of(job, counts[n], beta[n]);
    }
}

/* --- portable: fields of 1, 2 and 4 bits, then the bytes; compilers vectorise it ------------- */

BF_INLINE uint32_t ones_of(uint32_t x) {
    x -= (x >> 1) & 0x55555555u;
    x = (x & 0x33333333u) + ((x >> 2) & 0x33333333u);
    x = (x + (x >> 4)) & 0x0F0F0F0Fu;
    return (x * 0x01010101u) >> 24;
}

#define BF_NAME(x) portable_##x
#define BF_TARGET
#define BF_TILE 1
static void portable_tile(const bf_job *job, const bf_span *span, const uint32_t *a,
                          int64_t at, int64_t col, int pixels) {
    (void)pixels;
    uint32_t counts[BF_PANEL] = {0};
    const uint32_t *weight = span->weight;
    for (int32_t tap = 0; tap < job->tap_count; tap++) {
        const uint32_t *from = a + job->taps[tap];
        for (int32_t k = 0; k < job->words; k++) {
            const uint32_t word = from[k];
            if (job->op == BF_XOR)
                for (int n = 0; n < BF_PANEL; n++) counts[n] += ones_of(word ^ weight[n]);
            else
                for (int n = 0; n < BF_PANEL; n++) counts[n] += ones_of(word & weight[n]);
            weight += BF_PANEL;
        }
    }
    finish(job, span, at, col, counts);
}
#include "drive.inc"
#undef BF_NAME
#undef BF_TARGET
#undef BF_TILE

#ifdef BF_X86
/* --- AVX-512 VPOPCNTDQ: 32 outputs are two registers, up to 8 positions at once -------------- */

#define BF_512 __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vpopcntdq")))
#define BF_NAME(x) avx512_##x
#define BF_TARGET BF_512
#define BF_TILE 8

BF_512 BF_INLINE void avx512_finish(const bf_job *job, const bf_span *span, int64_t at,
                                    int64_t col, __m512i low, __m512i high) {
    const int32_t *beta = beta_of(job, span, col);
    const __m512i b0 = _mm512_loadu_si512(beta), b1 = _mm512_loadu_si512(beta + 16);
    if (job->alpha == -2) {
        /* signs with signs: a shift is cheaper than a product */
        low = _mm512_sub_epi32(b0, _mm512_slli_epi32(low, 1));
        high = _mm512_sub_epi32(b1, _mm512_slli_epi32(high, 1));
    } else {
        const __m512i alpha = _mm512_set1_epi32(job->alpha);
        low = _mm512_add_epi32(_mm512_mullo_epi32(low, alpha), b0);
        high = _mm512_add_epi32(_mm512_mullo_epi32(high, alpha), b1);
    }
    const uint32_t all = span->count < BF_PANEL ? (1u << span->count) - 1 : 0xFFFFFFFFu;
    if (job->finish == BF_BITS) {
        const int32_t *threshold = job->threshold + span->panel * BF_PANEL;
        const __mmask16 l = _mm512_cmpge_epi32_mask(low, _mm512_loadu_si512(threshold));
        const __mmask16 h = _mm512_cmpge_epi32_mask(high, _mm512_loadu_si512(threshold + 16));
        const uint32_t word = ((uint32_t)l | (uint32_t)h << 16) ^ job->flip[span->panel];
        ((uint32_t *)job->out)[at + span->first / BF_PANEL] = word & all;
        return;
    }
    const __mmask16 keep_low = (__mmask16)all, keep_high = (__mmask16)(all >> 16);
    int32_t *out = (int32_t *)job->out + at + span->first;
    if (job->finish == BF_AFFINE || job->finish == BF_MERGE) {
        const float *scale = job->scale + span->panel * BF_PANEL;
        const float *shift = job->shift + span->panel * BF_PANEL;
        /* two roundings, as in the other variants: no fused multiply-add */
        const __m512 x = _mm512_mul_ps(_mm512_cvtepi32_ps(low), _mm512_loadu_ps(scale));
        const __m512 y = _mm512_mul_ps(_mm512_cvtepi32_ps(high), _mm512_loadu_ps(scale + 16));
        __m512 l = _mm512_add_ps(x, _mm512_loadu_ps(shift));
        __m512 h = _mm512_add_ps(y, _mm512_loadu_ps(shift + 16));
        if (job->finish == BF_MERGE) {
            l = _mm512_add_ps(_mm512_maskz_loadu_ps(keep_low, out), l);
            h = _mm512_add_ps(_mm512_maskz_loadu_ps(keep_high, out + 16), h);
        }
        low = _mm512_castps_si512(l);
        high = _mm512_castps_si512(h);
    } else if (job->finish == BF_ADD) {
        low = _mm512_add_epi32(low, _mm512_maskz_loadu_epi32(keep_low, out));
        high = _mm512_add_epi32(high, _mm512_maskz_loadu_epi32(keep_high, out + 16));
    }
    if (all == 0xFFFFFFFFu) {
        _mm512_storeu_si512(out, low);
        _mm512_storeu_si512(out + 16, high);
    } else {
        _mm512_mask_storeu_epi32(out, keep_low, low);
        if (keep_high) _mm512_mask_storeu_epi32(out + 16, keep_high, high);
    }
}

BF_512 BF_INLINE void avx512_pixels(const bf_job *job, const bf_span *span, const uint32_t *a,
                                    int64_t at, int64_t col, const int pixels, const int op) {
    __m512i low[BF_TILE], high[BF_TILE];
#pragma GCC unroll 8
    for (int r = 0; r < pixels; r++) low[r] = high[r] = _mm512_setzero_si512();
    const uint32_t *weight = span->weight;
    const int64_t step = job->col_step;
    const int32_t words = job->words;
    for (int32_t tap = 0; tap < job->tap_count; tap++) {
        const uint32_t *from = a + job->taps[tap];
        for (int32_t k = 0; k < words; k++) {
            const __m512i w0 = _mm512_loadu_si512(weight);
            const __m512i w1 = _mm512_loadu_si512(weight + 16);
            weight += BF_PANEL;
#pragma GCC unroll 8
            for (int r = 0; r < pixels; r++) {
                const __m512i x = _mm512_set1_epi32((int32_t)from[r * step + k]);
                const __m512i y0 = op == BF_XOR ? _mm512_xor_si512(x, w0) : _mm512_and_si512(x, w0);
                const __m512i y1 = op == BF_XOR ? _mm512_xor_si512(x, w1) : _mm512_and_si512(x, w1);
                low[r] = _mm512_add_epi32(low[r], _mm512_popcnt_epi32(y0));
                high[r] = _mm512_add_epi32(high[r], _mm512_popcnt_epi32(y1));
            }
        }
    }
#pragma GCC unroll 8
    for (int r = 0; r < pixels; r++)
        avx512_finish(job, span, at + r * job->out_col, col + r, low[r], high[r]);
}

BF_512 static void avx512_tile(const bf_job *job, const bf_span *span, const uint32_t *a,
                               int64_t at, int64_t col, int pixels) {
#define BF_CASE(r)                                                                        \
    case r:                                                                               \
        if (job->op == BF_XOR)                                                            \
            avx512_pixels(job, span, a, at, col, r, BF_XOR);                        \
        else                                                                              \
            avx512_pixels(job, span, a, at, col, r, BF_AND);                        \
        break;
    switch (pixels) {
        BF_CASE(1) BF_CASE(2) BF_CASE(3) BF_CASE(4) BF_CASE(5) BF_CASE(6) BF_CASE(7) BF_CASE(8)
    }
#undef BF_CASE
}
#include "drive.inc"
#undef BF_NAME
#undef BF_TARGET
#undef BF_TILE

/* --- AVX2: a table of nibble counts, bytes that are widened before they overflow ------------- */

#define BF_256 __attribute__((target("avx2")))
#define BF_NAME(x) avx2_##x
#define BF_TARGET BF_256
#define BF_TILE 2
#define BF_BYTES_FULL 31 /* a byte grows by at most 8 a word: 31 * 8 < 256 */

BF_256 BF_INLINE void avx2_pixels(const bf_job *job, const bf_span *span, const uint32_t *a,
                                  int64_t at, int64_t col, const int pixels, const int op) {
    const __m256i table = _mm256_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4, 0, 1, 1,
                                           2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4);
    const __m256i nibble = _mm256_set1_epi8(15);
    const __m256i ones_8 = _mm256_set1_epi8(1), ones_16 = _mm256_set1_epi16(1);
    __m256i bytes[BF_TILE][4];
    uint32_t counts[BF_TILE][BF_PANEL];
#pragma GCC unroll 2
    for (int r = 0; r < pixels; r++)
#pragma GCC unroll 4
        for (int q = 0; q < 4; q++) bytes[r][q] = _mm256_setzero_si256();
    memset(counts, 0, sizeof counts);
    const uint32_t *weight = span->weight;
    const int64_t step = job->col_step;
    int32_t filled = 0;
    const int32_t words = job->words;
    for (int32_t tap = 0; tap < job->tap_count; tap++) {
        const uint32_t *from = a + job->taps[tap];
        for (int32_t k = 0; k < words; k++) {
#pragma GCC unroll 4
            for (int q = 0; q < 4; q++) {
                const __m256i w = _mm256_loadu_si256((const __m256i *)(weight + 8 * q));
#pragma GCC unroll 2
                for (int r = 0; r < pixels; r++) {
                    const __m256i x = _mm256_set1_epi32((int32_t)from[r * step + k]);
                    const __m256i y =
                        op == BF_XOR ? _mm256_xor_si256(x, w) : _mm256_and_si256(x, w);
                    const __m256i l = _mm256_and_si256(y, nibble);
                    const __m256i h = _mm256_and_si256(_mm256_srli_epi16(y, 4), nibble);
                    bytes[r][q] = _mm256_add_epi8(bytes[r][q], _mm256_shuffle_epi8(table, l));
                    bytes[r][q] = _mm256_add_epi8(bytes[r][q], _mm256_shuffle_epi8(table, h));
                }
            }
            weight += BF_PANEL;
            const int last = tap + 1 == job->tap_count && k + 1 == words;
            if (++filled == BF_BYTES_FULL || last) {
                filled = 0;
                for (int r = 0; r < pixels; r++)
                    for (int q = 0; q < 4; q++) {
                        __m256i *sum = (__m256i *)(counts[r] + 8 * q);
                        const __m256i wide =
                            _mm256_madd_epi16(_mm256_maddubs_epi16(bytes[r][q], ones_8), ones_16);
                        _mm256_storeu_si256(sum, _mm256_add_epi32(_mm256_loadu_si256(sum), wide));
                        bytes[r][q] = _mm256_setzero_si256();
                    }
            }
        }
    }
    for (int r = 0; r < pixels; r++) finish(job, span, at + r * job->out_col, col + r, counts[r]);
}

BF_256 static void avx2_tile(const bf_job *job, const bf_span *span, const uint32_t *a,
                             int64_t at, int64_t col, int pixels) {
    if (job->op == BF_XOR) {
        if (pixels == 2) avx2_pixels(job, span, a, at, col, 2, BF_XOR);
        else avx2_pixels(job, span, a, at, col, 1, BF_XOR);
    } else {
        if (pixels == 2) avx2_pixels(job, span, a, at, col, 2, BF_AND);
        else avx2_pixels(job, span, a, at, col, 1, BF_AND);
    }
}
#include "drive.inc"
#undef BF_NAME
#undef BF_TARGET
#undef BF_TILE
#endif /* BF_X86 */

#ifdef BF_ARM
/* --- NEON: vcnt counts bytes, which are widened before they overflow ------------------------- */

#define BF_NAME(x) neon_##x
#define BF_TARGET
#define BF_TILE 2
#define BF_BYTES_FULL 31

BF_INLINE void neon_pixels(const bf_job *job, const bf_span *span, const uint32_t *a,
                           int64_t at, int64_t col, const int pixels, const int op) {
    uint8x16_t bytes[BF_TILE][8];
    uint32_t counts[BF_TILE][BF_PANEL];
    for (int r = 0; r < pixels; r++)
        for (int q = 0; q < 8; q++) bytes[r][q] = vdupq_n_u8(0);
    memset(counts, 0, sizeof counts);
    const uint32_t *weight = span->weight;
    int32_t filled = 0;
    for (int32_t tap = 0; tap < job->tap_count; tap++) {
        const uint32_t *from = a + job->taps[tap];
        for (int32_t k = 0; k < job->words; k++) {
            for (int q = 0; q < 8; q++) {
                const uint32x4_t w = vld1q_u32(weight + 4 * q);
                for (int r = 0; r < pixels; r++) {
                    const uint32x4_t x = vdupq_n_u32(from[r * job->col_step + k]);
                    const uint32x4_t y = op == BF_XOR ? veorq_u32(x, w) : vandq_u32(x, w);
                    bytes[r][q] = vaddq_u8(bytes[r][q], vcntq_u8(vreinterpretq_u8_u32(y)));
                }
            }
            weight += BF_PANEL;
            const int last = tap + 1 == job->tap_count && k + 1 == job->words;
            if (++filled == BF_BYTES_FULL || last) {
                filled = 0;
                for (int r = 0; r < pixels; r++)
                    for (int q = 0; q < 8; q++) {
                        uint32_t *sum = counts[r] + 4 * q;
                        const uint32x4_t wide = vpaddlq_u16(vpaddlq_u8(bytes[r][q]));
                        vst1q_u32(sum, vaddq_u32(vld1q_u32(sum), wide));
                        bytes[r][q] = vdupq_n_u8(0);
                    }
            }
        }
    }
    for (int r = 0; r < pixels; r++) finish(job, span, at + r * job->out_col, col + r, counts[r]);
}

static void neon_tile(const bf_job *job, const bf_span *span, const uint32_t *a, int64_t at,
                      int64_t col, int pixels) {
    if (job->op == BF_XOR) neon_pixels(job, span, a, at, col, pixels, BF_XOR);
    else neon_pixels(job, span, a, at, col, pixels, BF_AND);
}
#include "drive.inc"
#undef BF_NAME
#undef BF_TARGET
#undef BF_TILE
#endif /* BF_ARM */

int bf_has_variant(int variant) {
    switch (variant) {
    case BF_PORTABLE:
        return 1;
#ifdef BF_ARM
    case BF_NEON:
        return 1;
#endif
#ifdef BF_X86
    case BF_AVX2:
        return __builtin_cpu_supports("avx2") != 0;
    case BF_AVX512:
        return __builtin_cpu_supports("avx512vpopcntdq") && __builtin_cpu_supports("avx512bw") &&
               __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
#endif
    default:
        return 0;
    }
}

int bf_best_variant(void) {
    for (int variant = BF_AVX512; variant > BF_PORTABLE; variant--)
        if (bf_has_variant(variant)) return variant;
    return BF_PORTABLE;
}

int bf_product(const bf_job *job, int variant) {
    if (!bf_has_variant(variant) || job->tap_count < 1 || job->words < 1 || job->groups < 1) return -1;
    if (job->finish == BF_BITS && job->groups > 1 && job->group_outputs % BF_PANEL) return -1;
    switch (variant) {
#ifdef BF_X86
    case BF_AVX512:
        avx512_run(job);
        return 0;
    case BF_AVX2:
        avx2_run(job);
        return 0;
#endif
#ifdef BF_ARM
    case BF_NEON:
        neon_run(job);
        return 0;
#endif
    default:
        portable_run(job);
        return 0;
    }
}

/* --- packing --------------------------------------------------------------------------------- */

/* One line of pixels; x, out and nothing else move between lines. */
static int64_t portable_pack(const bf_pack_job *job, const float *x, uint32_t *out) {
    int64_t nan = 0;
    for (int64_t pixel = 0; pixel < job->pixels; pixel++) {
        const float *from = x + pixel * job->pixel_step;
        uint32_t *to = out + pixel * job->out_pixel;
        for (int64_t c = 0; c < job->channels; c += 32) {
            const int64_t end = job->channels - c < 32 ? job->channels - c : 32;
            uint32_t word = 0;
            for (int64_t i = 0; i < end; i++) {
                const float value = from[(c + i) * job->channel_step];
                const float threshold = job->threshold ? job->threshold[c + i] : 0.0f;
                word |= (uint32_t)(value >= threshold) << i;
                nan |= value != value;
            }
            to[c / 32] = job->flip ? word ^ job->flip[c / 32] : word;
        }
    }
    return nan;
}

#ifdef BF_X86
BF_512 static int64_t avx512_pack(const bf_pack_job *job, const float *x, uint32_t *out) {
    uint32_t bad = 0;
    const int64_t channels = job->channels;
    for (int64_t pixel = 0; pixel < job->pixels; pixel++) {
        const float *from = x + pixel * job->pixel_step;
        uint32_t *to = out + pixel * job->out_pixel;
        for (int64_t c = 0; c < channels; c += 32) {
            const int64_t left = channels - c;
            const uint32_t keep = left < 32 ? (1u << left) - 1 : 0xFFFFFFFFu;
            const __mmask16 keep_low = (__mmask16)keep, keep_high = (__mmask16)(keep >> 16);
            const __m512 low = _mm512_maskz_loadu_ps(keep_low, from + c);
            const __m512 high = _mm512_maskz_loadu_ps(keep_high, from + c + 16);
            __m512 t0 = _mm512_setzero_ps(), t1 = t0;
            if (job->threshold) {
                t0 = _mm512_maskz_loadu_ps(keep_low, job->threshold + c);
                t1 = _mm512_maskz_loadu_ps(keep_high, job->threshold + c + 16);
            }
            const uint32_t l = _mm512_cmp_ps_mask(low, t0, _CMP_GE_OQ);
            const uint32_t h = _mm512_cmp_ps_mask(high, t1, _CMP_GE_OQ);
            bad |= _mm512_cmp_ps_mask(low, high, _CMP_UNORD_Q);
            uint32_t word = l | h << 16;
            if (job->flip) word ^= job->flip[c / 32];
            to[c / 32] = word & keep;
        }
    }
    return bad != 0;
}

/* channels first: 16 pixels of a channel are one compare, whose bits join 16 words */
BF_512 static int64_t avx512_pack_planes(const bf_pack_job *job, const float *x, uint32_t *out) {
    uint32_t bad = 0;
    for (int64_t pixel = 0; pixel < job->pixels; pixel += 16) {
        const int64_t left = job->pixels - pixel;
        const __mmask16 keep = left < 16 ? (__mmask16)((1u << left) - 1) : (__mmask16)0xFFFF;
        for (int64_t c = 0; c < job->channels; c += 32) {
            const int64_t end = job->channels - c < 32 ? job->channels - c : 32;
            __m512i words = _mm512_setzero_si512();
            for (int64_t i = 0; i < end; i++) {
                const float *from = x + (c + i) * job->channel_step + pixel;
                const __m512 value = _mm512_maskz_loadu_ps(keep, from);
                const float threshold = job->threshold ? job->threshold[c + i] : 0.0f;
                const __mmask16 bit =
                    _mm512_cmp_ps_mask(value, _mm512_set1_ps(threshold), _CMP_GE_OQ);
                bad |= _mm512_cmp_ps_mask(value, value, _CMP_UNORD_Q);
                words = _mm512_mask_or_epi32(words, bit, words, _mm512_set1_epi32((int)(1u << i)));
            }
            if (job->flip)
                words = _mm512_xor_si512(words, _mm512_set1_epi32((int)job->flip[c / 32]));
            uint32_t found[16];
            _mm512_storeu_si512(found, words);
            for (int64_t r = 0; r < (left < 16 ? left : 16); r++)
                out[(pixel + r) * job->out_pixel + c / 32] = found[r];
        }
    }
    return bad != 0;
}
#endif

int64_t bf_pack_float(const bf_pack_job *job, int variant) {
    int64_t nan = 0;
    for (int64_t image = 0; image < job->images; image++) {
        for (int64_t line = 0; line < job->lines; line++) {
            const float *x = job->x + image * job->image_step + line * job->line_step;
            uint32_t *out = job->out + image * job->out_image + line * job->out_line;
#ifdef BF_X86
            if (variant == BF_AVX512 && bf_has_variant(BF_AVX512)) {
                if (job->channel_step == 1) {
                    nan |= avx512_pack(job, x, out);
                    continue;
                }
                if (job->pixel_step == 1) {
                    nan |= avx512_pack_planes(job, x, out);
                    continue;
                }
            }
#endif
            nan |= portable_pack(job, x, out);
        }
    }
    (void)variant;
    return nan;
}

void bf_row_ones(const uint32_t *words, int64_t rows, int64_t per_row, int32_t *out) {
    for (int64_t row = 0; row < rows; row++) {
        uint32_t ones = 0;
        for (int64_t k = 0; k < per_row; k++) ones += ones_of(words[row * per_row + k]);
        out[row] = (int32_t)ones;
    }
}

/* --- the limit ------------------------------------------------------------------------------- */

/* keeps a value in a register and hides where it came from */
#define BF_OPAQUE(kind, x) __asm__ volatile("" : "+" kind(x))

static volatile uint32_t bf_sink;

static int64_t portable_peak(int64_t rounds) {
    uint32_t sums[BF_PANEL] = {0}, x[BF_PANEL];
    for (int n = 0; n < BF_PANEL; n++) x[n] = (uint32_t)n * 0x9E3779B9u;
    for (int64_t round = 0; round < rounds; round++)
        for (int n = 0; n < BF_PANEL; n++) sums[n] += ones_of(x[n] ^ (uint32_t)round);
    for (int n = 0; n < BF_PANEL; n++) bf_sink = sums[n];
    return rounds * BF_PANEL * 32;
}

#ifdef BF_X86
#define BF_LANES 14
BF_512 static int64_t avx512_peak(int64_t rounds) {
    __m512i sums[BF_LANES], a = _mm512_set1_epi32(0x12345678), b = _mm512_set1_epi32(0x0F1E2D3C);
#pragma GCC unroll 14
    for (int r = 0; r < BF_LANES; r++) sums[r] = _mm512_setzero_si512();
    for (int64_t round = 0; round < rounds; round++) {
#pragma GCC unroll 14
        for (int r = 0; r < BF_LANES; r++) {
            __m512i x = _mm512_xor_si512(a, b);
            BF_OPAQUE("v", x);
            sums[r] = _mm512_add_epi32(sums[r], _mm512_popcnt_epi32(x));
        }
    }
    for (int r = 1; r < BF_LANES; r++) sums[0] = _mm512_add_epi32(sums[0], sums[r]);
    bf_sink = (uint32_t)_mm512_reduce_add_epi32(sums[0]);
    return rounds * BF_LANES * 512;
}

BF_256 static int64_t avx2_peak(int64_t rounds) {
    const __m256i table = _mm256_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4, 0, 1, 1,
                                           2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4);
    const __m256i nibble = _mm256_set1_epi8(15);
    __m256i sums[8], a = _mm256_set1_epi32(0x12345678), b = _mm256_set1_epi32(0x0F1E2D3C);
#pragma GCC unroll 8
    for (int r = 0; r < 8; r++) sums[r] = _mm256_setzero_si256();
    for (int64_t round = 0; round < rounds; round++) {
#pragma GCC unroll 8
        for (int r = 0; r < 8; r++) {
            __m256i x = _mm256_xor_si256(a, b);
            BF_OPAQUE("x", x);
            const __m256i l = _mm256_and_si256(x, nibble);
            const __m256i h = _mm256_and_si256(_mm256_srli_epi16(x, 4), nibble);
            sums[r] = _mm256_add_epi8(sums[r], _mm256_shuffle_epi8(table, l));
            sums[r] = _mm256_add_epi8(sums[r], _mm256_shuffle_epi8(table, h));
        }
    }
    for (int r = 1; r < 8; r++) sums[0] = _mm256_add_epi8(sums[0], sums[r]);
    bf_sink = (uint32_t)_mm256_extract_epi32(sums[0], 0);
    return rounds * 8 * 256;
}
#endif

#ifdef BF_ARM
static int64_t neon_peak(int64_t rounds) {
    uint8x16_t sums[8];
    uint32x4_t a = vdupq_n_u32(0x12345678), b = vdupq_n_u32(0x0F1E2D3C);
    for (int r = 0; r < 8; r++) sums[r] = vdupq_n_u8(0);
    for (int64_t round = 0; round < rounds; round++) {
#pragma GCC unroll 8
        for (int r = 0; r < 8; r++) {
            uint32x4_t x = veorq_u32(a, b);
            BF_OPAQUE("w", x);
            sums[r] = vaddq_u8(sums[r], vcntq_u8(vreinterpretq_u8_u32(x)));
        }
    }
    for (int r = 1; r < 8; r++) sums[0] = vaddq_u8(sums[0], sums[r]);
    bf_sink = vgetq_lane_u8(sums[0], 0);
    return rounds * 8 * 128;
}
#endif

int64_t bf_peak(int variant, int64_t rounds) {
    if (!bf_has_variant(variant)) return 0;
    switch (variant) {
#ifdef BF_X86
    case BF_AVX512:
        return avx512_peak(rounds);
    case BF_AVX2:
        return avx2_peak(rounds);
#endif
#ifdef BF_ARM
    case BF_NEON:
        return neon_peak(rounds);
#endif
    default:
        return portable_peak(rounds);
    }
}
