/* Jobs that are malformed, each in one respect: refused, and nothing is written. */
#include "cases.h"

#include <stdio.h>

#include "bitfront_native.h"

static uint32_t word, panel[BF_PANEL], out[BF_PANEL], flip;
static int64_t tap;
static int32_t beta[BF_PANEL], class, threshold[BF_PANEL];
static float constant[BF_PANEL];

static bf_job sound(int finish) {
    return (bf_job){
        .a = &word, .weight = panel, .out = out, .taps = &tap, .beta = beta, .row_class = &class,
        .col_class = &class, .scale = constant, .shift = constant, .threshold = threshold,
        .flip = &flip, .scale_after = constant, .shift_after = constant, .rectifies = 1,
        .batch = 1, .rows = 1, .cols = 1, .groups = 1, .group_outputs = BF_PANEL, .group_words = 1,
        .tap_count = 1, .words = 1, .op = BF_XOR, .finish = finish, .alpha = 1,
    };
}

static int refuses(const char *what, bf_job job, int variant) {
    const uint32_t before = 0xA5A5A5A5u;
    for (int n = 0; n < BF_PANEL; n++) out[n] = before;
    int wrong = bf_product(&job, variant) != -1;
    for (int n = 0; n < BF_PANEL; n++) wrong |= out[n] != before;
    if (wrong) fprintf(stderr, "not refused: variant %d, %s\n", variant, what);
    return wrong;
}

#define BROKEN(finish, field, value)                       \
    do {                                                   \
        bf_job job = sound(finish);                        \
        job.field = value;                                 \
        wrong += refuses(#field " = " #value, job, variant); \
    } while (0)

static int check_fields(int variant) {
    int wrong = 0;
    for (int finish = BF_STORE; finish <= BF_MERGE; finish++) {
        const bf_job job = sound(finish);
        if (bf_product(&job, variant)) {
            fprintf(stderr, "refused: variant %d, finish %d\n", variant, finish);
            wrong++;
        }
        BROKEN(finish, a, NULL);
        BROKEN(finish, weight, NULL);
        BROKEN(finish, out, NULL);
        BROKEN(finish, taps, NULL);
        BROKEN(finish, beta, NULL);
        BROKEN(finish, row_class, NULL);
        BROKEN(finish, col_class, NULL);
        BROKEN(finish, batch, -1);
        BROKEN(finish, rows, -1);
        BROKEN(finish, cols, -1);
        BROKEN(finish, groups, 0);
        BROKEN(finish, group_outputs, 0);
        BROKEN(finish, tap_count, 0);
        BROKEN(finish, words, 0);
        BROKEN(finish, op, 2);
        BROKEN(finish, op, -1);
        BROKEN(finish, finish, 5);
        BROKEN(finish, finish, -1);
    }
    BROKEN(BF_BITS, threshold, NULL);
    BROKEN(BF_BITS, flip, NULL);
    for (int finish = BF_AFFINE; finish <= BF_MERGE; finish += BF_MERGE - BF_AFFINE) {
        BROKEN(finish, scale, NULL);
        BROKEN(finish, shift, NULL);
        BROKEN(finish, shift_after, NULL);
    }
    return wrong;
}

int check_refusals(void) {
    int wrong = 0;
    for (int variant = -1; variant <= BF_AVX512 + 1; variant++) {
        if (bf_has_variant(variant)) wrong += check_fields(variant);
        else wrong += refuses("no such variant", sound(BF_STORE), variant) + (bf_peak(variant, 1) != 0);
    }
    return wrong;
}
