/* Products of the library against sums of small integers, one by one: the words are made from the
 * integers, and the sums never see a bit. */
#include "cases.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bitfront_native.h"
#include "fences.h"

enum { MINUS, PLUS, ZERO, REPLICATE, FILLS };

typedef struct {
    int batch, height, width, channels, outputs, kernel, stride, padding, dilation, groups;
} shape;

static const shape SHAPES[] = {
    /* matrices: one row of positions; every width of a tile, and every rest of a panel */
    {1, 1, 1, 33, 1, 1, 1, 0, 1, 1},
    {1, 1, 2, 32, 15, 1, 1, 0, 1, 1},
    {1, 1, 3, 31, 16, 1, 1, 0, 1, 1},
    {1, 1, 4, 64, 17, 1, 1, 0, 1, 1},
    {1, 1, 5, 65, 31, 1, 1, 0, 1, 1},
    {1, 1, 6, 1, 32, 1, 1, 0, 1, 1},
    {1, 1, 7, 127, 33, 1, 1, 0, 1, 1},
    {1, 1, 8, 63, 64, 1, 1, 0, 1, 1},
    {1, 1, 9, 100, 65, 1, 1, 0, 1, 1},
    {1, 1, 17, 40, 97, 1, 1, 0, 1, 1},
    {1, 1, 11, 1000, 3, 1, 1, 0, 1, 1},
    /* longer than a byte of a partial count holds: 31 words of 8 ones each */
    {1, 1, 3, 32 * 63 + 1, 33, 1, 1, 0, 1, 1},
    /* convolutions */
    {2, 4, 9, 1, 37, 3, 1, 1, 1, 1},
    {1, 4, 9, 31, 37, 3, 2, 1, 1, 1},
    {2, 4, 9, 32, 37, 3, 1, 1, 1, 1},
    {1, 5, 9, 33, 37, 3, 1, 0, 1, 1},
    {2, 4, 9, 63, 32, 3, 2, 0, 1, 1},
    {1, 3, 9, 127, 64, 3, 1, 1, 1, 1},
    {1, 2, 3, 1000, 33, 3, 1, 1, 1, 1},
    {2, 7, 11, 33, 5, 3, 1, 2, 2, 1},
    {1, 9, 7, 40, 33, 3, 2, 3, 3, 1},
    {1, 6, 8, 31, 34, 5, 3, 4, 1, 1},
    {2, 5, 6, 33, 37, 1, 2, 0, 1, 1},
    {2, 5, 6, 33, 37, 1, 1, 1, 1, 1},
    {1, 4, 5, 64, 64, 3, 1, 1, 1, 2},
    {2, 4, 5, 66, 66, 3, 1, 1, 1, 2},
    {1, 5, 5, 12, 12, 3, 2, 1, 1, 4},
    {1, 4, 6, 7, 7, 3, 1, 1, 1, 7},
    {1, 3, 4, 96, 128, 1, 1, 0, 1, 2},
};

/* A convolution with its integers and its words. */
typedef struct {
    shape s;
    int rows, cols, taps, words, group_channels, group_outputs, panels, op, fill;
    int padded_height, padded_width;
    signed char *x; /* [batch][padded height][padded width][channels] */
    signed char *w; /* [outputs][kernel][kernel][group channels] */
    int32_t *dot;   /* [batch][rows][cols][outputs] */
    uint32_t *a, *weight;
    int32_t *missing; /* [rows][cols][outputs]: sum of the weights whose taps lie outside */
    size_t a_count, weight_count;
} problem;

static int inside(const problem *p, int y, int x) {
    const int top = p->s.padding;
    return y >= top && x >= top && y < top + p->s.height && x < top + p->s.width;
}

static int clamped(int i, int size) { return i < 0 ? 0 : i >= size ? size - 1 : i; }

/* A sign for XOR, 0 or 1 for AND. */
static int drawn(int op) {
    const int bit = (int)(draw() & 1);
    return op == BF_XOR ? 2 * bit - 1 : bit;
}

static void draw_maps(problem *p) {
    const shape s = p->s;
    const int high = p->padded_height, wide = p->padded_width;
    const int low = p->op == BF_XOR ? -1 : 0;
    for (int b = 0; b < s.batch; b++)
        for (int y = 0; y < high; y++)
            for (int x = 0; x < wide; x++)
                for (int c = 0; c < s.channels; c++) {
                    const size_t at = (((size_t)b * high + y) * wide + x) * s.channels + c;
                    /* every fourth pixel is all ones, to meet the outputs that are all alike */
                    const int value = (y + x) % 4 ? drawn(p->op) : 1;
                    if (inside(p, y, x) || p->fill == REPLICATE) p->x[at] = (signed char)value;
                    else p->x[at] = (signed char)(p->fill == PLUS ? 1 : p->fill == ZERO ? 0 : low);
                }
    if (p->fill != REPLICATE) return;
    for (int b = 0; b < s.batch; b++)
        for (int y = 0; y < high; y++)
            for (int x = 0; x < wide; x++) {
                const int ny = clamped(y - s.padding, s.height) + s.padding;
                const int nx = clamped(x - s.padding, s.width) + s.padding;
                memmove(p->x + (((size_t)b * high + y) * wide + x) * s.channels,
                        p->x + (((size_t)b * high + ny) * wide + nx) * s.channels, (size_t)s.channels);
            }
}

static void multiply(problem *p) {
    const shape s = p->s;
    for (int b = 0; b < s.batch; b++)
        for (int row = 0; row < p->rows; row++)
            for (int col = 0; col < p->cols; col++)
                for (int n = 0; n < s.outputs; n++) {
                    int32_t sum = 0, missing = 0;
                    const int first = n / p->group_outputs * p->group_channels;
                    for (int tap = 0; tap < p->taps; tap++) {
                        const int y = row * s.stride + tap / s.kernel * s.dilation;
                        const int x = col * s.stride + tap % s.kernel * s.dilation;
                        const signed char *from =
                            p->x + (((size_t)b * p->padded_height + y) * p->padded_width + x) * s.channels + first;
                        const signed char *w = p->w + ((size_t)n * p->taps + tap) * p->group_channels;
                        const int outside = !inside(p, y, x);
                        for (int c = 0; c < p->group_channels; c++) {
                            sum += from[c] * w[c];
                            missing += outside ? w[c] : 0;
                        }
                    }
                    const size_t at = ((size_t)row * p->cols + col) * s.outputs + n;
                    p->dot[(size_t)b * p->rows * p->cols * s.outputs + at] = sum;
                    p->missing[at] = missing;
                }
}

static void pack_words(problem *p) {
    const shape s = p->s;
    const size_t pixels = (size_t)s.batch * p->padded_height * p->padded_width;
    for (size_t pixel = 0; pixel < pixels; pixel++)
        for (int g = 0; g < s.groups; g++)
            for (int c = 0; c < p->group_channels; c++)
                if (p->x[pixel * s.channels + g * p->group_channels + c] > 0)
                    p->a[(pixel * s.groups + g) * p->words + c / 32] |= 1u << c % 32;
    /* outputs past the last hold rubbish, padding bits of the others do not */
    for (size_t i = 0; i < p->weight_count; i++) p->weight[i] = draw();
    for (int n = 0; n < s.outputs; n++) {
        const int g = n / p->group_outputs, of_group = n % p->group_outputs;
        const size_t panel = (size_t)g * p->panels + of_group / BF_PANEL;
        for (int tap = 0; tap < p->taps; tap++)
            for (int k = 0; k < p->words; k++) {
                uint32_t word = 0;
                for (int c = 32 * k; c < p->group_channels && c < 32 * (k + 1); c++)
                    if (p->w[((size_t)n * p->taps + tap) * p->group_channels + c] > 0)
                        word |= 1u << c % 32;
                p->weight[((panel * p->taps + tap) * p->words + k) * BF_PANEL + of_group % BF_PANEL] = word;
            }
    }
}

static problem made(shape s, int op, int fill) {
    problem p = {.s = s, .op = op, .fill = fill};
    const int reach = s.dilation * (s.kernel - 1) + 1;
    p.padded_height = s.height + 2 * s.padding;
    p.padded_width = s.width + 2 * s.padding;
    p.rows = (p.padded_height - reach) / s.stride + 1;
    p.cols = (p.padded_width - reach) / s.stride + 1;
    p.taps = s.kernel * s.kernel;
    p.group_channels = s.channels / s.groups;
    p.group_outputs = s.outputs / s.groups;
    p.words = (p.group_channels + 31) / 32;
    p.panels = (p.group_outputs + BF_PANEL - 1) / BF_PANEL;
    const size_t pixels = (size_t)s.batch * p.padded_height * p.padded_width;
    const size_t weights = (size_t)s.outputs * p.taps * p.group_channels;
    const size_t positions = (size_t)p.rows * p.cols * s.outputs;
    p.a_count = pixels * s.groups * p.words;
    p.weight_count = (size_t)s.groups * p.panels * p.taps * p.words * BF_PANEL;
    p.x = zeroed(pixels * s.channels);
    p.w = zeroed(weights);
    p.dot = zeroed(4 * s.batch * positions);
    p.missing = zeroed(4 * positions);
    p.a = zeroed(4 * p.a_count);
    p.weight = zeroed(4 * p.weight_count);
    draw_maps(&p);
    for (size_t i = 0; i < weights; i++) p.w[i] = (signed char)drawn(op);
    memset(p.w, op == BF_XOR ? -1 : 1, (size_t)p.taps * p.group_channels);
    multiply(&p);
    pack_words(&p);
    return p;
}

static void dropped(problem *p) {
    free(p->x), free(p->w), free(p->dot), free(p->missing), free(p->a), free(p->weight);
}

/* Constants of the outputs, in panels; those past the last output are rubbish. */
typedef struct {
    float scale[512], shift[512];
    int32_t threshold[512], extra[512];
    uint32_t flip[16];
} constants;

static size_t lane_of(const problem *p, int n) {
    return (size_t)(n / p->group_outputs * p->panels) * BF_PANEL + n % p->group_outputs;
}

/* Steps of the result: dense, or channels of a larger map with odd gaps after rows and images. */
typedef struct {
    int64_t image, row, col;
    size_t count;
} steps;

static steps spread(const problem *p, int finish, int gap) {
    const int per = finish == BF_BITS ? (p->s.outputs + 31) / 32 : p->s.outputs;
    steps to = {.col = per + (gap ? 5 : 0)};
    to.row = p->cols * to.col + (gap ? 3 : 0);
    to.image = p->rows * to.row + (gap ? 7 : 0);
    to.count = (size_t)((p->s.batch - 1) * to.image + (p->rows - 1) * to.row + (p->cols - 1) * to.col + per);
    return to;
}

/* What the library must leave in `out`, which holds what was there before. */
static void finish_all(const problem *p, const constants *of, int finish, int factor, steps to,
                       uint32_t *out) {
    for (int b = 0; b < p->s.batch; b++)
        for (int row = 0; row < p->rows; row++)
            for (int col = 0; col < p->cols; col++) {
                uint32_t *at = out + b * to.image + row * to.row + col * to.col;
                if (finish == BF_BITS) memset(at, 0, 4 * (size_t)((p->s.outputs + 31) / 32));
                for (int n = 0; n < p->s.outputs; n++) {
                    const size_t lane = lane_of(p, n);
                    const size_t i = (((size_t)b * p->rows + row) * p->cols + col) * p->s.outputs + n;
                    const int32_t value = factor * p->dot[i] + of->extra[lane];
                    const float product = of->scale[lane] * (float)value;
                    const float affine = product + of->shift[lane];
                    const int flips = of->flip[lane / 32] >> lane % 32 & 1;
                    switch (finish) {
                    case BF_STORE: at[n] = (uint32_t)value; break;
                    case BF_ADD: at[n] += (uint32_t)value; break;
                    case BF_AFFINE: at[n] = bits_of(affine); break;
                    case BF_MERGE: at[n] = bits_of(float_of(at[n]) + affine); break;
                    default:
                        at[n / 32] |= (uint32_t)((value >= of->threshold[lane]) != flips) << n % 32;
                    }
                }
            }
}

static void draw_constants(const problem *p, int factor, constants *of) {
    const int spread_of = 1 + abs(factor) * (1 + p->taps * p->group_channels / 8);
    for (int i = 0; i < 512; i++) {
        of->scale[i] = uniform(), of->shift[i] = uniform();
        of->threshold[i] = (int32_t)(draw() % (2 * (uint32_t)spread_of)) - spread_of;
        of->extra[i] = (int32_t)(draw() % 9) - 4;
    }
    for (int i = 0; i < 16; i++) of->flip[i] = draw();
}

/* One class of position for each pair of a row and a column. */
static int32_t *betas(const problem *p, const constants *of, int factor, size_t lanes) {
    const size_t classes = (size_t)p->rows * p->cols;
    int32_t *beta = zeroed(4 * classes * lanes);
    const int constant = p->op == BF_XOR ? factor * p->taps * p->group_channels : 0;
    /* a zero was packed as the bit of -1 */
    const int corrects = p->op == BF_XOR && p->fill == ZERO;
    for (size_t class = 0; class < classes; class++) {
        for (size_t lane = 0; lane < lanes; lane++) beta[class * lanes + lane] = (int32_t)draw();
        for (int n = 0; n < p->s.outputs; n++) {
            const size_t lane = lane_of(p, n);
            beta[class * lanes + lane] =
                constant + of->extra[lane] +
                (corrects ? factor * p->missing[class * p->s.outputs + n] : 0);
        }
    }
    return beta;
}

static int check_job(const problem *p, int finish, int factor, int gap, int variant) {
    const shape s = p->s;
    const size_t panels = (size_t)s.groups * p->panels, lanes = panels * BF_PANEL;
    constants of;
    draw_constants(p, factor, &of);
    int32_t *beta = betas(p, &of, factor, lanes);
    const steps to = spread(p, finish, gap);
    const int pixel = s.groups * p->words;
    int64_t taps[25];
    int32_t row_class[64], col_class[64];
    for (int tap = 0; tap < p->taps; tap++)
        taps[tap] = (int64_t)(tap / s.kernel * p->padded_width + tap % s.kernel) * s.dilation * pixel;
    for (int row = 0; row < p->rows; row++) row_class[row] = row * p->cols;
    for (int col = 0; col < p->cols; col++) col_class[col] = col;
    uint32_t *expected = zeroed(4 * to.count);
    for (size_t i = 0; i < to.count; i++) {
        expected[i] = draw();
        if (finish == BF_AFFINE || finish == BF_MERGE) expected[i] = bits_of(uniform());
    }
    void *out = placed("out", expected, 4 * to.count);
    finish_all(p, &of, finish, factor, to, expected);
    const bf_job job = {
        .a = placed("a", p->a, 4 * p->a_count),
        .weight = placed("weight", p->weight, 4 * p->weight_count),
        .out = out,
        .taps = placed("taps", taps, 8 * (size_t)p->taps),
        .beta = placed("beta", beta, 4 * lanes * (size_t)p->rows * p->cols),
        .row_class = placed("row_class", row_class, 4 * (size_t)p->rows),
        .col_class = placed("col_class", col_class, 4 * (size_t)p->cols),
        .scale = placed("scale", of.scale, 4 * lanes),
        .shift = placed("shift", of.shift, 4 * lanes),
        .threshold = placed("threshold", of.threshold, 4 * lanes),
        .flip = placed("flip", of.flip, 4 * panels),
        .batch = s.batch,
        .rows = p->rows,
        .cols = p->cols,
        .image_step = (int64_t)p->padded_height * p->padded_width * pixel,
        .row_step = (int64_t)s.stride * p->padded_width * pixel,
        .col_step = (int64_t)s.stride * pixel,
        .out_image = to.image,
        .out_row = to.row,
        .out_col = to.col,
        .groups = s.groups,
        .group_outputs = p->group_outputs,
        .group_words = p->words,
        .tap_count = p->taps,
        .words = p->words,
        .op = p->op,
        .finish = finish,
        .alpha = factor * (p->op == BF_XOR ? -2 : 1),
    };
    const int refused = finish == BF_BITS && s.groups > 1 && p->group_outputs % BF_PANEL;
    const int status = bf_product(&job, variant);
    int wrong = status != (refused ? -1 : 0);
    if (!refused) wrong |= memcmp(out, expected, placed_bytes("out", 4 * to.count)) != 0;
    if (wrong)
        fprintf(stderr, "product: variant %d op %d finish %d fill %d factor %d gap %d status %d, "
                "[%d %d %d %d] -> %d, kernel %d stride %d padding %d dilation %d groups %d\n",
                variant, p->op, finish, p->fill, factor, gap, status, s.batch, s.height, s.width,
                s.channels, s.outputs, s.kernel, s.stride, s.padding, s.dilation, s.groups);
    release();
    free(beta), free(expected);
    return wrong;
}

static int check_finishes(const problem *p) {
    static const int FACTORS[] = {1, -3};
    int wrong = 0;
    for (int variant = BF_PORTABLE; variant <= BF_AVX512; variant++)
        for (int finish = BF_STORE; bf_has_variant(variant) && finish <= BF_MERGE; finish++)
            for (int factor = 0; factor < 2; factor++)
                for (int gap = 0; gap < 2; gap++)
                    wrong += check_job(p, finish, FACTORS[factor], gap, variant);
    return wrong;
}

int check_products(void) {
    int wrong = 0;
    for (size_t i = 0; i < sizeof SHAPES / sizeof *SHAPES; i++)
        for (int op = BF_XOR; op <= BF_AND; op++)
            for (int fill = 0; fill < (SHAPES[i].padding ? FILLS : 1); fill++) {
                problem p = made(SHAPES[i], op, fill);
                wrong += check_finishes(&p);
                dropped(&p);
            }
    return wrong;
}

void run_one_product(int outputs, int finish, int variant) {
    const shape s = {1, 4, 5, 40, outputs, 3, 1, 1, 1, 1};
    problem p = made(s, BF_XOR, ZERO);
    check_job(&p, finish, 1, 0, variant);
    dropped(&p);
}
