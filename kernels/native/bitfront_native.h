/* Products of packed bits on a CPU.
 *
 * One entry, bf_product, computes popcounts of (window XOR weight) or (window AND weight) for every
 * output position and every output channel, and finishes them as integers, floats or bits. A
 * convolution is given by the offsets of its taps inside a padded map; a matrix product is a
 * convolution of one tap whose positions lie in one long row.
 *
 * Layout, as bitfront/kernels/layout.py draws it: 32 channels a word, least significant bit first,
 * 1 for +1. Weights stand in panels of 32 outputs: [groups][ceil(N/G/32)][taps * words][32].
 */
#ifndef BITFRONT_NATIVE_H
#define BITFRONT_NATIVE_H

#include <stdint.h>

#define BF_PANEL 32

enum { BF_XOR = 0, BF_AND = 1 };

/* value = alpha * popcount + beta[n], fastest where alpha is 1; what becomes of it: */
enum {
    BF_STORE = 0,  /* int32 out = value */
    BF_ADD = 1,    /* int32 out += value */
    BF_AFFINE = 2, /* float out = y, as below */
    BF_BITS = 3,   /* bit n = (value >= threshold[n]) != flip[n] */
    BF_MERGE = 4   /* float out += y */
};

/* y = scale[n] * value + shift[n], two roundings;
 * y = max(0, y) where `rectifies` is not 0;
 * y = scale_after[n] * y + shift_after[n] where it is, and `scale_after` is not null. */

/* Instruction sets, slowest first. */
enum { BF_PORTABLE = 0, BF_NEON = 1, BF_AVX2 = 2, BF_AVX512 = 3 };

typedef struct {
    const uint32_t *a;        /* first word of the padded map */
    const uint32_t *weight;   /* panels */
    void *out;                /* int32, float or words of the first position, all 4 bytes wide */
    const int64_t *taps;      /* words from a position's first word to each tap's */
    const int32_t *beta;      /* [classes][groups][panels][32] */
    const int32_t *row_class; /* [rows]: first class of an output row */
    const int32_t *col_class; /* [cols]: what an output column adds to it */
    const float *scale;       /* [groups][panels][32], BF_AFFINE */
    const float *shift;
    const int32_t *threshold; /* [groups][panels][32], BF_BITS */
    const uint32_t *flip;     /* [groups][panels], a bit per channel, BF_BITS */
    int64_t batch, rows, cols;                    /* output positions */
    int64_t image_step, row_step, col_step;       /* words between positions' first words */
    int64_t out_image, out_row, out_col;          /* elements of out between positions */
    int32_t groups, group_outputs, group_words;   /* words from a group's to the next group's */
    int32_t tap_count, words;                     /* words of a tap */
    int32_t op, finish, alpha, rectifies;
    const float *scale_after; /* as scale, or null; only where it rectifies */
    const float *shift_after;
} bf_job;

/* The best variant that this CPU runs and this build holds. */
int bf_best_variant(void);

/* Whether a variant can run here. */
int bf_has_variant(int variant);

/* Bytes of the structs of all jobs: what a caller that was written for another build would miss. */
int64_t bf_job_bytes(void);

/* Run a job. Returns 0, or -1 if the variant cannot run here or the job is malformed. */
int bf_product(const bf_job *job, int variant);

/* Bits of (x >= threshold) != flip of float rows, channel by channel: words
 * [images][lines][pixels][ceil(channels/32)], padding bits 0. Without thresholds they are 0.
 * The steps are elements of x and words of out; channels are channel_step apart in x.
 * Returns not 0 if a NaN was seen, which has no sign. */
typedef struct {
    const float *x;
    const float *threshold; /* [channels] or null */
    const uint32_t *flip;   /* a bit per channel, or null */
    uint32_t *out;
    int64_t images, lines, pixels, channels;
    int64_t image_step, line_step, pixel_step, channel_step;
    int64_t out_image, out_line, out_pixel;
} bf_pack_job;

int64_t bf_pack_float(const bf_pack_job *job, int variant);

/* Bits of two maps in turn: of words [rows][words] of each, word 2 k of a row of out holds the low
 * halves of words k, its even bits those of `first`, and word 2 k + 1 the high halves. The steps
 * are words from a row to the next; `out` shares no memory with the others. */
typedef struct {
    const uint32_t *first, *second;
    uint32_t *out;
    int64_t rows, words;
    int64_t first_step, second_step, out_step;
} bf_interleave_job;

void bf_interleave(const bf_interleave_job *job, int variant);

/* The popcount limit of a variant: XOR, popcount and add of registers, nothing else, so many
 * rounds. Returns the products of bits that this stands for, or 0 if the variant cannot run here. */
int64_t bf_peak(int variant, int64_t rounds);

/* Ones of each row of per_row words. */
void bf_row_ones(const uint32_t *words, int64_t rows, int64_t per_row, int32_t *out);

#endif
