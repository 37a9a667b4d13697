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

/* What a job computes of its counts, and where it leaves it. */
typedef struct {
    int finish, rectifies, follows; /* follows: an affine behind the rectifier */
    int alpha;
    int apart; /* a class of constants for each position, and gaps in the result */
} style;

static const style STYLES[] = {
    {BF_STORE, 0, 0, 0, 0},  {BF_ADD, 0, 0, 0, 0},    {BF_AFFINE, 0, 0, 0, 0}, {BF_BITS, 0, 0, 0, 0},
    {BF_MERGE, 0, 0, 0, 0},  {BF_AFFINE, 1, 0, 0, 0}, {BF_AFFINE, 1, 1, 0, 0}, {BF_MERGE, 1, 0, 0, 0},
    {BF_MERGE, 1, 1, 0, 0},
};
#define STYLE_COUNT ((int)(sizeof STYLES / sizeof *STYLES))

/* Constants of the outputs, in panels; those past the last output are rubbish. */
typedef struct {
    float scale[512], shift[512], scale_after[512], shift_after[512];
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

static steps spread(const problem *p, style of) {
    const int per = of.finish == BF_BITS ? (p->s.outputs + 31) / 32 : p->s.outputs;
    steps to = {.col = per + (of.apart ? 5 : 0)};
    to.row = p->cols * to.col + (of.apart ? 3 : 0);
    to.image = p->rows * to.row + (of.apart ? 7 : 0);
    to.count = (size_t)((p->s.batch - 1) * to.image + (p->rows - 1) * to.row + (p->cols - 1) * to.col + per);
    return to;
}

/* Whether a zero was packed as the bit of -1, which positions at the border correct. */
static int corrects(const problem *p) { return p->op == BF_XOR && p->fill == ZERO; }

/* What is added to an output's counts: with alpha = -2 it makes sums of signs of them. */
static int32_t constant_of(const problem *p, const constants *of, int alpha, int position, int n) {
    const int32_t missing = corrects(p) ? p->missing[(size_t)position * p->s.outputs + n] : 0;
    const int signs = p->op == BF_XOR && alpha == -2;
    return of->extra[lane_of(p, n)] + (signs ? p->taps * p->group_channels + missing : 3 * missing);
}

static int32_t value_of(const problem *p, const constants *of, int alpha, int image, int position, int n) {
    const int32_t dot =
        p->dot[((size_t)image * p->rows * p->cols + (size_t)position) * p->s.outputs + n];
    const int32_t missing = corrects(p) ? p->missing[(size_t)position * p->s.outputs + n] : 0;
    if (p->op == BF_XOR && alpha == -2) return dot + of->extra[lane_of(p, n)];
    const int32_t count = p->op == BF_AND ? dot : (p->taps * p->group_channels + missing - dot) / 2;
    return alpha * count + constant_of(p, of, alpha, position, n);
}

static float float_result(const constants *of, style with, size_t lane, int32_t value) {
    const float product = of->scale[lane] * (float)value;
    float y = product + of->shift[lane];
    if (with.rectifies && y < 0.0f) y = 0.0f;
    if (!with.follows) return y;
    const float again = of->scale_after[lane] * y;
    return again + of->shift_after[lane];
}

/* What the library must leave in `out`, which holds what was there before. */
static void finish_all(const problem *p, const constants *of, style with, steps to, uint32_t *out) {
    for (int image = 0; image < p->s.batch; image++)
        for (int position = 0; position < p->rows * p->cols; position++) {
            uint32_t *at = out + image * to.image + position / p->cols * to.row + position % p->cols * to.col;
            if (with.finish == BF_BITS) memset(at, 0, 4 * (size_t)((p->s.outputs + 31) / 32));
            for (int n = 0; n < p->s.outputs; n++) {
                const size_t lane = lane_of(p, n);
                const int32_t value = value_of(p, of, with.alpha, image, position, n);
                const float y = float_result(of, with, lane, value);
                const int flips = of->flip[lane / 32] >> lane % 32 & 1;
                switch (with.finish) {
                case BF_STORE: at[n] = (uint32_t)value; break;
                case BF_ADD: at[n] += (uint32_t)value; break;
                case BF_AFFINE: at[n] = bits_of(y); break;
                case BF_MERGE: at[n] = bits_of(float_of(at[n]) + y); break;
                default: at[n / 32] |= (uint32_t)((value >= of->threshold[lane]) != flips) << n % 32;
                }
            }
        }
}

static void draw_constants(const problem *p, int alpha, constants *of) {
    const int range = 1 + abs(alpha) * (1 + p->taps * p->group_channels / 8);
    const int middle = p->op == BF_XOR && alpha == -2 ? 0 : alpha * p->taps * p->group_channels / 3;
    for (int i = 0; i < 512; i++) {
        of->scale[i] = uniform(), of->shift[i] = uniform() * (float)range;
        of->scale_after[i] = uniform(), of->shift_after[i] = uniform();
        of->threshold[i] = middle + (int32_t)(draw() % (2 * (uint32_t)range)) - range;
        of->extra[i] = (int32_t)(draw() % 9) - 4;
    }
    for (int i = 0; i < 16; i++) of->flip[i] = draw();
}

/* The first row (or column) whose taps lie outside as those of this one do. */
static int alike(const problem *p, int index, int padded, int apart) {
    if (apart) return index;
    if (!corrects(p)) return 0;
    for (int other = 0; other < index; other++) {
        int same = 1;
        for (int tap = 0; tap < p->s.kernel; tap++) {
            const int here = index * p->s.stride + tap * p->s.dilation;
            const int there = other * p->s.stride + tap * p->s.dilation;
            const int end = padded - p->s.padding;
            same &= (here < p->s.padding || here >= end) == (there < p->s.padding || there >= end);
        }
        if (same) return other;
    }
    return index;
}

static int check_job(const problem *p, style with, int variant) {
    const shape s = p->s;
    const size_t panels = (size_t)s.groups * p->panels, lanes = panels * BF_PANEL;
    const int positions = p->rows * p->cols;
    constants of;
    draw_constants(p, with.alpha, &of);
    int32_t *beta = zeroed(4 * (size_t)positions * lanes);
    for (size_t i = 0; i < (size_t)positions * lanes; i++) beta[i] = (int32_t)draw();
    for (int position = 0; position < positions; position++)
        for (int n = 0; n < s.outputs; n++)
            beta[(size_t)position * lanes + lane_of(p, n)] = constant_of(p, &of, with.alpha, position, n);
    const steps to = spread(p, with);
    const int pixel = s.groups * p->words;
    int64_t taps[25];
    int32_t row_class[64], col_class[64];
    for (int tap = 0; tap < p->taps; tap++)
        taps[tap] = (int64_t)(tap / s.kernel * p->padded_width + tap % s.kernel) * s.dilation * pixel;
    int last_row = 0, last_col = 0;
    for (int row = 0; row < p->rows; row++) {
        row_class[row] = alike(p, row, p->padded_height, with.apart) * p->cols;
        if (row_class[row] > last_row) last_row = row_class[row];
    }
    for (int col = 0; col < p->cols; col++) {
        col_class[col] = alike(p, col, p->padded_width, with.apart);
        if (col_class[col] > last_col) last_col = col_class[col];
    }
    const size_t classes = (size_t)(last_row + last_col) + 1;
    uint32_t *expected = zeroed(4 * to.count);
    for (size_t i = 0; i < to.count; i++) {
        const int floats = with.finish == BF_AFFINE || with.finish == BF_MERGE;
        expected[i] = floats ? bits_of(uniform()) : draw();
    }
    void *out = placed("out", expected, 4 * to.count);
    finish_all(p, &of, with, to, expected);
    const bf_job job = {
        .a = placed("a", p->a, 4 * p->a_count),
        .weight = placed("weight", p->weight, 4 * p->weight_count),
        .out = out,
        .taps = placed("taps", taps, 8 * (size_t)p->taps),
        .beta = placed("beta", beta, 4 * lanes * classes),
        .row_class = placed("row_class", row_class, 4 * (size_t)p->rows),
        .col_class = placed("col_class", col_class, 4 * (size_t)p->cols),
        .scale = placed("scale", of.scale, 4 * lanes),
        .shift = placed("shift", of.shift, 4 * lanes),
        .threshold = placed("threshold", of.threshold, 4 * lanes),
        .flip = placed("flip", of.flip, 4 * panels),
        .scale_after = with.follows ? placed("scale_after", of.scale_after, 4 * lanes) : NULL,
        .shift_after = with.follows ? placed("shift_after", of.shift_after, 4 * lanes) : NULL,
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
        .finish = with.finish,
        .rectifies = with.rectifies,
        .alpha = with.alpha,
    };
    const int refused = with.finish == BF_BITS && s.groups > 1 && p->group_outputs % BF_PANEL;
    const int status = bf_product(&job, variant);
    int wrong = status != (refused ? -1 : 0);
    if (!refused) wrong |= memcmp(out, expected, placed_bytes("out", 4 * to.count)) != 0;
    if (wrong)
        fprintf(stderr, "product: variant %d op %d finish %d%d%d fill %d alpha %d apart %d status %d, "
                "[%d %d %d %d] -> %d, kernel %d stride %d padding %d dilation %d groups %d\n",
                variant, p->op, with.finish, with.rectifies, with.follows, p->fill, with.alpha,
                with.apart, status, s.batch, s.height, s.width, s.channels, s.outputs, s.kernel,
                s.stride, s.padding, s.dilation, s.groups);
    release();
    free(beta), free(expected);
    return wrong;
}

/* Every finish with every kind of factor; alternately dense with few classes, and apart. */
static int check_styles(const problem *p) {
    static const int ALPHAS[][3] = {{1, -2, 3}, {1, 2, -4}};
    int wrong = 0;
    for (int variant = BF_PORTABLE; variant <= BF_AVX512; variant++)
        for (int i = 0; bf_has_variant(variant) && i < STYLE_COUNT; i++)
            for (int alpha = 0; alpha < 3; alpha++) {
                style with = STYLES[i];
                with.alpha = ALPHAS[p->op == BF_AND][alpha];
                for (with.apart = 0; with.apart < (alpha ? 1 : 2); with.apart++)
                    wrong += check_job(p, with, variant);
            }
    return wrong;
}

int check_products(void) {
    int wrong = 0;
    for (size_t i = 0; i < sizeof SHAPES / sizeof *SHAPES; i++)
        for (int op = BF_XOR; op <= BF_AND; op++)
            for (int fill = 0; fill < (SHAPES[i].padding ? FILLS : 1); fill++) {
                problem p = made(SHAPES[i], op, fill);
                wrong += check_styles(&p);
                dropped(&p);
            }
    return wrong;
}

void run_one_product(int outputs, int kind, int variant) {
    const shape s = {1, 4, 5, 40, outputs, 3, 1, 1, 1, 1};
    problem p = made(s, BF_XOR, ZERO);
    style with = STYLES[kind < STYLE_COUNT ? kind : 0];
    with.alpha = 1;
    check_job(&p, with, variant);
    dropped(&p);
}
