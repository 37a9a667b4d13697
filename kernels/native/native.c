/* See bitfront_native.h. Every variant of the inner tile is compiled into this one library, by
 * target attributes, and chosen at run time. The parts are included, so all is one unit. */
#include "bitfront_native.h"
#include "float_conv.h"

#include <stddef.h>
#include <string.h>

#if defined(__GNUC__) && defined(__x86_64__)
#define BF_X86 1
#include <immintrin.h>
#endif
#if defined(__GNUC__) && defined(__aarch64__)
#define BF_ARM 1
#include <arm_neon.h>
#endif

#if defined(__GNUC__)
#define BF_INLINE static inline __attribute__((always_inline))
#define BF_ALIGNED __attribute__((aligned(64)))
/* kept out of its callers, whose registers it would take */
#define BF_APART __attribute__((noinline))
#define BF_PREFETCH(address) __builtin_prefetch(address, 1)
#else
#define BF_INLINE static inline
#define BF_ALIGNED
#define BF_APART
#define BF_PREFETCH(address)
#endif

/* What is the same for all tiles of a panel. */
typedef struct {
    const uint32_t *weight;
    int64_t first;  /* first output channel */
    int64_t panel;  /* panel of all groups */
    int64_t panels; /* panels of all groups */
    int32_t count;  /* outputs of this panel, 1 .. 32 */
    int32_t row_class;
    int is_uniform; /* all columns have one class */
} bf_span;

static const int32_t bf_nothing[BF_PANEL] BF_ALIGNED = {0};

/* A bit for each output of a panel that there is. */
BF_INLINE uint32_t outputs_of(const bf_span *span) {
    return span->count < BF_PANEL ? (1u << span->count) - 1 : 0xFFFFFFFFu;
}

BF_INLINE const int32_t *beta_of(const bf_job *job, const bf_span *span, int32_t col_class) {
    const int64_t class = (int64_t)span->row_class + col_class;
    return job->beta + (class * span->panels + span->panel) * BF_PANEL;
}

/* The word that a panel's bits fill at a position. */
BF_INLINE uint32_t *word_at(const bf_job *job, const bf_span *span, int64_t at) {
    return (uint32_t *)job->out + at + span->first / BF_PANEL;
}

/* Maps of 32-bit results outgrow the caches: their lines are fetched while a tile computes. */
BF_INLINE void prefetch_results(const bf_job *job, const uint32_t *out, int pixels) {
    if (job->finish == BF_BITS) return;
    for (int r = 0; r < pixels; r++) {
        BF_PREFETCH(out);
        BF_PREFETCH(out + 16);
        out += job->out_col;
    }
}

BF_INLINE uint32_t ones_of(uint32_t x) {
    x -= (x >> 1) & 0x55555555u;
    x = (x & 0x33333333u) + ((x >> 2) & 0x33333333u);
    x = (x + (x >> 4)) & 0x0F0F0F0Fu;
    return (x * 0x01010101u) >> 24;
}

/* Where a variant has no tile that is finished in registers. */
#define BF_NOT_FUSED(name)                                                                         \
    BF_INLINE int name(const bf_job *job, const bf_span *span, const uint32_t *a, int64_t at,      \
                       const int32_t *start, int64_t start_step, int pixels, int64_t tiles) {      \
        (void)job, (void)span, (void)a, (void)at, (void)start, (void)start_step, (void)pixels;     \
        (void)tiles;                                                                               \
        return 0;                                                                                  \
    }

#include "finish.inc"
#include "portable.inc"
#ifdef BF_X86
#include "avx2.inc"
#include "avx512.inc"
#endif
#ifdef BF_ARM
#include "neon.inc"
#endif

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

int64_t bf_job_bytes(void) {
    return (int64_t)(sizeof(bf_job) + sizeof(bf_pack_job) + sizeof(bf_interleave_job) +
                     sizeof(bf_float_job));
}

int bf_best_variant(void) {
    for (int variant = BF_AVX512; variant > BF_PORTABLE; variant--)
        if (bf_has_variant(variant)) return variant;
    return BF_PORTABLE;
}

/* Whether a job has all that it reads; the sizes of its memory are the caller's to know. */
static int is_sound(const bf_job *job) {
    if (!job->a || !job->weight || !job->out || !job->taps) return 0;
    if (!job->beta || !job->row_class || !job->col_class) return 0;
    if (job->batch < 0 || job->rows < 0 || job->cols < 0) return 0;
    if (job->groups < 1 || job->group_outputs < 1 || job->tap_count < 1 || job->words < 1) return 0;
    if (job->op != BF_XOR && job->op != BF_AND) return 0;
    switch (job->finish) {
    case BF_STORE:
    case BF_ADD:
        return 1;
    case BF_AFFINE:
    case BF_MERGE:
        if (job->rectifies && job->scale_after && !job->shift_after) return 0;
        return job->scale && job->shift;
    case BF_BITS:
        /* a word of bits belongs to one group */
        if (job->groups > 1 && job->group_outputs % BF_PANEL) return 0;
        return job->threshold && job->flip;
    default:
        return 0;
    }
}

int bf_product(const bf_job *job, int variant) {
    if (!bf_has_variant(variant) || !is_sound(job)) return -1;
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

#include "interleave.inc"
#include "packing.inc"
#include "peak.inc"
