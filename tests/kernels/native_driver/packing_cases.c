/* The packer, the counter of rows and the dealer of bits against one bit at a time. */
#include "cases.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bitfront_native.h"
#include "fences.h"

enum { LAST, FIRST, STRIDED, REPEATED, LAYOUTS };

typedef struct {
    int64_t images, lines, pixels, channels;
} shape;

static const int CHANNELS[] = {1, 31, 32, 33, 63, 64, 127, 1000};
static const int PIXELS[] = {1, 15, 16, 17, 35};

/* Steps of x in each layout: channels last, channels first, every other element, one image for all. */
static bf_pack_job stepped(shape s, int layout) {
    bf_pack_job job = {.images = s.images, .lines = s.lines, .pixels = s.pixels, .channels = s.channels};
    const int64_t every = layout == STRIDED ? 2 : 1;
    if (layout == FIRST) {
        job.pixel_step = 1;
        job.line_step = s.pixels;
        job.channel_step = s.lines * s.pixels;
    } else {
        job.channel_step = every;
        job.pixel_step = s.channels * every;
        job.line_step = s.pixels * job.pixel_step;
    }
    job.image_step = layout == REPEATED ? 0 : s.lines * s.pixels * s.channels * every;
    return job;
}

/* Words of the result lie inside a border of odd width. */
static size_t bordered(bf_pack_job *job, int gap) {
    const int64_t words = (job->channels + 31) / 32;
    job->out_pixel = words + gap;
    job->out_line = job->pixels * job->out_pixel + 3 * gap;
    job->out_image = job->lines * job->out_line + 5 * gap;
    return (size_t)((job->images - 1) * job->out_image + (job->lines - 1) * job->out_line +
                    (job->pixels - 1) * job->out_pixel + words);
}

static size_t x_count(const bf_pack_job *job) {
    return (size_t)((job->images - 1) * job->image_step + (job->lines - 1) * job->line_step +
                    (job->pixels - 1) * job->pixel_step + (job->channels - 1) * job->channel_step + 1);
}

static void pack_slowly(const bf_pack_job *job, const float *x, const float *threshold,
                        const uint32_t *flip, uint32_t *out) {
    for (int64_t image = 0; image < job->images; image++)
        for (int64_t line = 0; line < job->lines; line++)
            for (int64_t pixel = 0; pixel < job->pixels; pixel++) {
                uint32_t *to = out + image * job->out_image + line * job->out_line + pixel * job->out_pixel;
                memset(to, 0, 4 * (size_t)((job->channels + 31) / 32));
                for (int64_t c = 0; c < job->channels; c++) {
                    const float value = x[image * job->image_step + line * job->line_step +
                                          pixel * job->pixel_step + c * job->channel_step];
                    const int bit = value >= (threshold ? threshold[c] : 0.0f);
                    const int flips = flip ? flip[c / 32] >> c % 32 & 1 : 0;
                    to[c / 32] |= (uint32_t)(bit != flips) << c % 32;
                }
            }
}

static int check_pack(shape s, int layout, int gap, int with_threshold, int with_flip, int nan_at_end,
                      int variant) {
    bf_pack_job job = stepped(s, layout);
    const size_t out_count = bordered(&job, gap), count = x_count(&job);
    const size_t words = (size_t)(s.channels + 31) / 32;
    float *x = zeroed(4 * count), *threshold = zeroed(4 * (size_t)s.channels);
    uint32_t *flip = zeroed(4 * words), *expected = zeroed(4 * out_count);
    for (size_t i = 0; i < count; i++) x[i] = uniform();
    x[0] = -0.0f;
    x[count / 2] = 0.0f;
    x[count / 3] = -INFINITY;
    for (int64_t c = 0; c < s.channels; c++) {
        threshold[c] = uniform();
        flip[c / 32] |= (draw() & 1) << c % 32;
    }
    /* a value at its threshold */
    if (with_threshold) x[0] = threshold[0];
    if (nan_at_end) x[count - 1] = NAN;
    for (size_t i = 0; i < out_count; i++) expected[i] = draw();
    job.x = placed("x", x, 4 * count);
    job.threshold = with_threshold ? placed("threshold", threshold, 4 * (size_t)s.channels) : NULL;
    job.flip = with_flip ? placed("flip", flip, 4 * words) : NULL;
    job.out = placed("out", expected, 4 * out_count);
    pack_slowly(&job, x, with_threshold ? threshold : NULL, with_flip ? flip : NULL, expected);
    const int64_t nan = bf_pack_float(&job, variant);
    int wrong = (nan != 0) != nan_at_end;
    wrong |= memcmp(job.out, expected, placed_bytes("out", 4 * out_count)) != 0;
    if (wrong)
        fprintf(stderr, "pack: variant %d layout %d gap %d threshold %d flip %d nan %d, "
                "[%d %d %d %d]\n", variant, layout, gap, with_threshold, with_flip, nan_at_end,
                (int)s.images, (int)s.lines, (int)s.pixels, (int)s.channels);
    release();
    free(x), free(threshold), free(flip), free(expected);
    return wrong;
}

static int check_row_ones(int64_t rows, int64_t per_row) {
    const size_t count = (size_t)(rows * per_row);
    uint32_t *words = zeroed(4 * count);
    int32_t *expected = zeroed(4 * (size_t)rows);
    for (size_t i = 0; i < count; i++) {
        words[i] = i % 5 ? draw() : 0xFFFFFFFFu;
        for (int bit = 0; bit < 32; bit++) expected[i / (size_t)per_row] += words[i] >> bit & 1;
    }
    const uint32_t *from = placed("words", words, 4 * count);
    int32_t *out = placed("out", words, 4 * (size_t)rows);
    bf_row_ones(from, rows, per_row, out);
    const int wrong = memcmp(out, expected, 4 * (size_t)rows) != 0;
    if (wrong) fprintf(stderr, "row_ones: %d rows of %d\n", (int)rows, (int)per_row);
    release();
    free(words), free(expected);
    return wrong;
}

static int check_interleave(int64_t rows, int64_t words, int64_t gap, int variant) {
    bf_interleave_job job = {.rows = rows, .words = words};
    job.first_step = words + gap;
    job.second_step = words + 2 * gap;
    job.out_step = 2 * words + 3 * gap;
    const size_t of_first = (size_t)((rows - 1) * job.first_step + words);
    const size_t of_second = (size_t)((rows - 1) * job.second_step + words);
    const size_t of_out = (size_t)((rows - 1) * job.out_step + 2 * words);
    uint32_t *first = zeroed(4 * of_first), *second = zeroed(4 * of_second), *out = zeroed(4 * of_out);
    for (size_t i = 0; i < of_first; i++) first[i] = draw();
    for (size_t i = 0; i < of_second; i++) second[i] = draw();
    for (size_t i = 0; i < of_out; i++) out[i] = draw();
    job.first = placed("first", first, 4 * of_first);
    job.second = placed("second", second, 4 * of_second);
    job.out = placed("out", out, 4 * of_out);
    for (int64_t row = 0; row < rows; row++)
        for (int64_t bit = 0; bit < 64 * words; bit++) {
            const uint32_t *from = bit % 2 ? second + row * job.second_step : first + row * job.first_step;
            uint32_t *to = out + row * job.out_step + bit / 32;
            *to &= ~(1u << bit % 32);
            *to |= (from[bit / 64] >> bit / 2 % 32 & 1) << bit % 32;
        }
    bf_interleave(&job, variant);
    const int wrong = memcmp(job.out, out, placed_bytes("out", 4 * of_out)) != 0;
    if (wrong)
        fprintf(stderr, "interleave: variant %d, %d rows of %d words, gap %d\n", variant, (int)rows,
                (int)words, (int)gap);
    release();
    free(first), free(second), free(out);
    return wrong;
}

static int check_all_interleaving(void) {
    int wrong = 0;
    for (int variant = BF_PORTABLE; variant <= BF_AVX512; variant++)
        for (int64_t words = 1; bf_has_variant(variant) && words < 36; words++)
            for (int64_t rows = 1; rows < 4; rows++)
                for (int64_t gap = 0; gap < 3; gap++)
                    wrong += check_interleave(rows, words, gap, variant);
    return wrong;
}

static int check_all_packing(shape s) {
    int wrong = 0;
    for (int variant = BF_PORTABLE; variant <= BF_AVX512; variant++)
        for (int layout = 0; bf_has_variant(variant) && layout < LAYOUTS; layout++)
            for (int options = 0; options < 16; options++)
                wrong += check_pack(s, layout, options & 1, options >> 1 & 1, options >> 2 & 1,
                                    options >> 3 & 1, variant);
    return wrong;
}

int check_packing(void) {
    int wrong = 0;
    for (size_t c = 0; c < sizeof CHANNELS / sizeof *CHANNELS; c++)
        for (size_t p = 0; p < sizeof PIXELS / sizeof *PIXELS; p++)
            wrong += check_all_packing((shape){2, 2, PIXELS[p], CHANNELS[c]});
    for (int64_t per_row = 1; per_row < 40; per_row += 3)
        for (int64_t rows = 1; rows < 20; rows += 6) wrong += check_row_ones(rows, per_row);
    return wrong + check_all_interleaving();
}

void run_one_packing(int channels, int layout, int variant) {
    if (layout < LAYOUTS) check_pack((shape){1, 2, 17, channels}, layout, 0, 1, 1, 0, variant);
    else check_interleave(2, channels / 32, 0, variant);
}
