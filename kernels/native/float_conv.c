/* Convolutions of 32-bit floats with few input channels a group; see float_conv.h.
 *
 * The rows that a row of the result reads stand, with zeros on both sides, in a ring of lines that
 * stays in the first cache, and so does a panel of weights. */
#include "float_conv.h"

#include "bitfront_native.h"

#include <math.h>
#include <stddef.h>
#include <string.h>

#if defined(__GNUC__) && defined(__x86_64__)
#define BF_X86 1
#include <immintrin.h>
#endif

#if defined(__GNUC__)
#define BF_INLINE static inline __attribute__((always_inline))
/* kept out of its callers, whose registers it would take */
#define BF_APART __attribute__((noinline))
#define BF_WILL_WRITE(at) __builtin_prefetch(at, 1)
#else
#define BF_INLINE static inline
#define BF_APART
#define BF_WILL_WRITE(at) ((void)(at))
#endif

/* What is the same for all tiles of a row of the result and of the registers of a panel. */
typedef struct {
    const float *const *lines; /* a line per row of the kernel */
    const float *weight, *bias;
    int64_t step, run_step; /* floats between the values of neighbouring outputs, between runs */
    int32_t runs, run;      /* a row of the kernel: so many runs of so many floats */
    int32_t count;          /* outputs that there are from the first register on */
    float low;              /* no result is less */
} bf_float_span;

/* A transformed line: for each point what is multiplied there, pair by pair of results. */
typedef struct {
    int64_t pairs;
    int64_t longer;   /* floats of a step of the window that the kernel's last step reaches */
    int64_t start[6]; /* floats before each point's values, and of all */
} bf_float_planes;

typedef void bf_float_tile(const bf_float_job *, const bf_float_span *, int64_t from, float *out);

/* A tile for many pixels, for few and for one. */
typedef struct {
    int32_t pixels[3];
    bf_float_tile *tile[3];
} bf_float_sizes;

/* A kind of register: its tiles of two registers, of one, of one with a channel per output, and
 * those that keep products for the pairs. */
typedef struct {
    int32_t lanes;
    bf_float_sizes two, one, own, two_products, one_products;
    void (*pairs)(const bf_float_job *, const bf_float_span *, const float *products, int64_t col,
                  float *out, int vectors, int pairs);
    void (*transform)(const bf_float_job *, const bf_float_planes *, const float *line, float *out);
} bf_float_tiles;

enum { BF_SUMS, BF_OWN_CHANNELS, BF_PRODUCTS };

/* Plain loops, which the compiler makes registers of. */
typedef struct {
    float lane[8];
} bf_eight;

BF_INLINE bf_eight eight_load(const float *from) {
    bf_eight x;
    memcpy(x.lane, from, sizeof x.lane);
    return x;
}

BF_INLINE bf_eight eight_set1(float value) {
    bf_eight x;
    for (int i = 0; i < 8; i++) x.lane[i] = value;
    return x;
}

BF_INLINE bf_eight eight_add(bf_eight a, bf_eight b) {
    for (int i = 0; i < 8; i++) a.lane[i] += b.lane[i];
    return a;
}

BF_INLINE bf_eight eight_sub(bf_eight a, bf_eight b) {
    for (int i = 0; i < 8; i++) a.lane[i] -= b.lane[i];
    return a;
}

BF_INLINE bf_eight eight_fma(bf_eight a, bf_eight b, bf_eight c) {
    for (int i = 0; i < 8; i++) c.lane[i] += a.lane[i] * b.lane[i];
    return c;
}

BF_INLINE bf_eight eight_max(bf_eight a, bf_eight b) {
    for (int i = 0; i < 8; i++) b.lane[i] = a.lane[i] > b.lane[i] ? a.lane[i] : b.lane[i];
    return b;
}

#define BF_NAME(x) portable_##x
#define BF_TARGET
#define BF_VECTOR bf_eight
#define BF_LANES 8
#define BF_LOAD eight_load
#define BF_SET1 eight_set1
#define BF_ADD eight_add
#define BF_SUB eight_sub
#define BF_FMA eight_fma
#define BF_MAX eight_max
#define BF_STORE(to, y) memcpy(to, (y).lane, sizeof(y).lane)
#define BF_STORE_PART(to, y, count) memcpy(to, (y).lane, (size_t)(count) * sizeof *(y).lane)
#define BF_ONE 4
#define BF_TWO 2
#define BF_FEW 2
#include "float_conv.inc"

#ifdef BF_X86
/* eight words, of which the last `count` of the first eight are set */
static const int32_t bf_first_lanes[16] = {-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0};

#define BF_NAME(x) avx2_##x
#define BF_TARGET __attribute__((target("avx2,fma")))
#define BF_VECTOR __m256
#define BF_LANES 8
#define BF_LOAD _mm256_loadu_ps
#define BF_SET1 _mm256_set1_ps
#define BF_ADD _mm256_add_ps
#define BF_SUB _mm256_sub_ps
#define BF_FMA _mm256_fmadd_ps
#define BF_MAX _mm256_max_ps
#define BF_STORE _mm256_storeu_ps
#define BF_STORE_PART(to, y, count)                                                                \
    _mm256_maskstore_ps(to, _mm256_loadu_si256((const __m256i *)(bf_first_lanes + 8 - (count))), y)
#define BF_ONE 12
#define BF_TWO 6
#define BF_FEW 3
#include "float_conv.inc"

#define BF_NAME(x) avx512_##x
#define BF_TARGET __attribute__((target("avx512f,avx512vl")))
#define BF_VECTOR __m512
#define BF_LANES 16
#define BF_LOAD _mm512_loadu_ps
#define BF_SET1 _mm512_set1_ps
#define BF_ADD _mm512_add_ps
#define BF_SUB _mm512_sub_ps
#define BF_FMA _mm512_fmadd_ps
#define BF_MAX _mm512_max_ps
#define BF_STORE _mm512_storeu_ps
#define BF_STORE_PART(to, y, count) _mm512_mask_storeu_ps(to, (__mmask16)((1u << (count)) - 1), y)
#define BF_ONE 14
#define BF_TWO 14
#define BF_FEW 7
#include "float_conv.inc"

/* half registers, for panels of 8 outputs */
#define BF_NAME(x) avx512_half_##x
#define BF_TARGET __attribute__((target("avx512f,avx512vl,fma")))
#define BF_VECTOR __m256
#define BF_LANES 8
#define BF_LOAD _mm256_loadu_ps
#define BF_SET1 _mm256_set1_ps
#define BF_ADD _mm256_add_ps
#define BF_SUB _mm256_sub_ps
#define BF_FMA _mm256_fmadd_ps
#define BF_MAX _mm256_max_ps
#define BF_STORE _mm256_storeu_ps
#define BF_STORE_PART(to, y, count) _mm256_mask_storeu_ps(to, (__mmask8)((1u << (count)) - 1), y)
#define BF_ONE 14
#define BF_TWO 14
#define BF_FEW 7
#include "float_conv.inc"
#endif

static const bf_float_tiles *tiles_of(const bf_float_job *job, int variant) {
#ifdef BF_X86
    if (variant == BF_AVX512) return job->panel % 16 ? &avx512_half_tiles : &avx512_tiles;
    if (variant == BF_AVX2 && __builtin_cpu_supports("fma")) return &avx2_tiles;
#endif
    (void)job, (void)variant;
    return &portable_tiles;
}

/* Columns of a line, the zeros on both sides among them. */
static int64_t line_columns(const bf_float_job *job) {
    const int64_t cols = job->points ? (job->cols + 1) / 2 * 2 : job->cols;
    /* transformed ones are read in whole steps of the window */
    const int64_t reach = job->points ? (int64_t)(job->points - 1) * job->col_stride
                                      : (int64_t)(job->kernel_cols - 1) * job->col_dilation + 1;
    return (cols - 1) * job->col_stride + reach;
}

/* Floats of a line, and as many behind it as a register may load or store there. */
static int64_t line_floats(const bf_float_job *job) {
    return line_columns(job) * job->channels + BF_PANEL;
}

static int64_t ring_lines(const bf_float_job *job) {
    return (int64_t)(job->kernel_rows - 1) * job->row_dilation + 1;
}

/* Steps of the window in a row of the kernel, the last of them perhaps not whole. */
static int32_t steps_of(const bf_float_job *job) { return job->points - 1; }

/* The point that a kernel of one step less does without. */
static int32_t spare_point(const bf_float_job *job) { return job->points - 2; }

static bf_float_planes planes_of(const bf_float_job *job) {
    bf_float_planes planes;
    const int64_t pixel = job->col_stride * job->channels;
    const int64_t longer = job->kernel_cols - (int64_t)(steps_of(job) - 1) * job->col_stride;
    planes.pairs = (job->cols + 1) / 2;
    planes.longer = longer * job->channels;
    planes.start[0] = 0;
    for (int32_t point = 0; point < job->points; point++) {
        const int64_t floats = point == spare_point(job) ? planes.longer : pixel;
        planes.start[point + 1] = planes.start[point] + planes.pairs * floats + BF_PANEL;
    }
    return planes;
}

/* Floats of what is kept of a row of a map. */
static int64_t kept_floats(const bf_float_job *job) {
    return job->points ? planes_of(job).start[job->points] : line_floats(job);
}

int64_t bf_float_scratch(const bf_float_job *job) {
    /* and what stands for a row of zeros, and a line to transform */
    return (ring_lines(job) + 1) * kept_floats(job) + (job->points ? line_floats(job) : 0);
}

/* One row of a map as a line; what lies beside the map stays zero. */
static void fill_line(const bf_float_job *job, const float *x, float *line) {
    const int64_t columns = line_columns(job);
    int64_t first = job->col_padding, last = job->col_padding + job->width;
    if (last > columns) last = columns;
    if (last <= first) return;
    line += first * job->channels;
    if (job->x_col == job->channels) {
        memcpy(line, x, (size_t)((last - first) * job->channels) * sizeof *line);
        return;
    }
    for (; first < last; first++, x += job->x_col, line += job->channels)
        memcpy(line, x, (size_t)job->channels * sizeof *line);
}

/* The tile for the pixels from `at` on. The last one may begin earlier, and computes some again. */
static int size_of(const bf_float_sizes *sizes, int64_t at, int64_t pixels) {
    const int64_t left = pixels - at;
    if (left > sizes->pixels[1] && pixels >= sizes->pixels[0]) return 0;
    return left > 1 && pixels >= sizes->pixels[1] ? 1 : 2;
}

/* What a tile writes last is on its way to the cache while the tile is computed. */
static void will_write(const bf_float_job *job, const float *out, int64_t pixels, int64_t floats) {
    for (; pixels > 0; pixels--, out += job->out_col)
        for (int64_t n = 0; n < floats; n += 16) BF_WILL_WRITE(out + n);
}

/* A row of the result. */
static void sum_row(const bf_float_job *job, const bf_float_span *span,
                    const bf_float_sizes *sizes, int64_t floats, int64_t from, float *out) {
    int32_t pixels;
    for (int64_t col = 0; col < job->cols; col += pixels) {
        const int size = size_of(sizes, col, job->cols);
        pixels = sizes->pixels[size];
        if (col > job->cols - pixels) col = job->cols - pixels;
        will_write(job, out + col * job->out_col, pixels, floats);
        sizes->tile[size](job, span, from + col * span->step, out + col * job->out_col);
    }
}

/* The same by pairs of results: from r + 1 products instead of 2 r, where the kernel is r steps long
 * (Winograd, Arithmetic Complexity of Computations, 1980, chapter 5b). */
static void pair_row(const bf_float_job *job, const bf_float_span *span, const bf_float_tiles *tiles,
                     const bf_float_planes *planes, int two, int64_t from, float *out) {
    const bf_float_sizes *sizes = two ? &tiles->two_products : &tiles->one_products;
    const int vectors = two ? 2 : 1;
    float products[5 * 14 * BF_PANEL];
    int32_t pairs;
    for (int64_t pair = 0; pair < planes->pairs; pair += pairs) {
        const int size = size_of(sizes, pair, planes->pairs);
        pairs = sizes->pixels[size];
        if (pair > planes->pairs - pairs) pair = planes->pairs - pairs;
        const int64_t left = job->cols - 2 * pair;
        will_write(job, out + 2 * pair * job->out_col, left < 2 * pairs ? left : 2 * pairs,
                   vectors * tiles->lanes);
        bf_float_span at = *span;
        for (int32_t point = 0; point < job->points; point++) {
            const int64_t floats = point == spare_point(job) ? planes->longer : span->step;
            at.step = floats;
            /* channels of all groups stand between the runs of one */
            at.runs = (int32_t)(floats / job->channels);
            at.run = job->group_channels;
            if (job->groups == 1) at.run *= at.runs, at.runs = 1;
            sizes->tile[size](job, &at, from + planes->start[point] + pair * floats,
                              products + (int64_t)point * pairs * vectors * tiles->lanes);
            at.weight += (int64_t)job->kernel_rows * at.runs * at.run * job->panel;
        }
        tiles->pairs(job, span, products, 2 * pair, out + 2 * pair * job->out_col, vectors, pairs);
    }
}

/* Weights of an output in all. */
static int64_t weights_of(const bf_float_job *job, const bf_float_planes *planes) {
    int64_t columns = job->kernel_cols;
    if (job->points)
        columns = (int64_t)(job->points - 1) * job->col_stride + planes->longer / job->channels;
    return job->kernel_rows * columns * (job->own_channels ? 1 : job->group_channels);
}

static void run_panels(const bf_float_job *job, const bf_float_tiles *tiles,
                       const bf_float_planes *planes, const float *const *lines, float *out) {
    const int own = job->own_channels != 0;
    const int64_t group_outputs = own ? job->channels : job->group_outputs;
    const int64_t panel_weights = weights_of(job, planes) * job->panel;
    const int32_t groups = own ? 1 : job->groups;
    bf_float_span span;
    span.lines = lines;
    span.low = job->rectifies ? 0.0f : -INFINITY;
    span.step = job->col_stride * job->channels;
    span.runs = job->kernel_cols;
    span.run = own ? 1 : job->group_channels;
    span.run_step = job->points ? job->channels : job->col_dilation * job->channels;
    if (!own && span.run_step == span.run) span.run *= span.runs, span.runs = 1;
    const float *weight = job->weight, *bias = job->bias;
    for (int32_t group = 0; group < groups; group++) {
        for (int64_t first = 0; first < group_outputs; first += job->panel) {
            for (int32_t lane = 0; lane < job->panel && first + lane < group_outputs;) {
                const int two = !own && job->panel - lane >= 2 * tiles->lanes;
                const int32_t floats = two ? 2 * tiles->lanes : tiles->lanes;
                const int64_t from = own ? first + lane : (int64_t)group * job->group_channels;
                float *const to = out + group * group_outputs + first + lane;
                span.weight = weight + lane;
                span.bias = bias + lane;
                span.count = (int32_t)(group_outputs - first - lane);
                if (job->points)
                    pair_row(job, &span, tiles, planes, two, from, to);
                else
                    sum_row(job, &span, own ? &tiles->own : two ? &tiles->two : &tiles->one, floats,
                            from, to);
                lane += floats;
            }
            weight += panel_weights;
            bias += job->panel;
        }
    }
}

static int is_sound(const bf_float_job *job) {
    const int own = job->own_channels != 0;
    if (job->panel != 8 && job->panel != 16 && job->panel != BF_PANEL) return 0;
    if (job->kernel_rows < 1 || job->kernel_rows > BF_FLOAT_ROWS || job->kernel_cols < 1) return 0;
    if (job->rows < 1 || job->cols < 1 || job->groups < 1 || job->first < 0) return 0;
    if (job->points) {
        const int64_t steps = ((int64_t)job->kernel_cols + job->col_stride - 1) / job->col_stride;
        if (own || job->col_dilation != 1 || job->points != steps + 1) return 0;
        if (steps != 3 && steps != 4) return 0;
    }
    if (own) return job->groups == job->channels && job->group_outputs == 1;
    return (int64_t)job->groups * job->group_channels == job->channels;
}

int bf_float_conv(const bf_float_job *job, int variant) {
    if (!bf_has_variant(variant) || !is_sound(job)) return -1;
    const bf_float_tiles *tiles = tiles_of(job, variant);
    const int64_t floats = kept_floats(job), ring = ring_lines(job);
    const float *const zeros = job->scratch + ring * floats;
    float *const apart = job->scratch + (ring + 1) * floats;
    bf_float_planes planes = {0};
    if (job->points) planes = planes_of(job);
    const bf_float_tiles *narrow = tiles;
#ifdef BF_X86
    /* whole registers are mostly written again */
    if (job->col_stride * job->channels <= 8 && variant == BF_AVX512) narrow = &avx512_half_tiles;
#endif
    memset(job->scratch, 0, (size_t)bf_float_scratch(job) * sizeof *job->scratch);
    /* rows of the map above this one are in the ring as far as rows of the result still read them */
    int64_t filled = 0;
    for (int64_t index = job->first; index < job->last; index++) {
        const int64_t image = index / job->rows, row = index % job->rows;
        const int64_t top = row * job->row_stride - job->row_padding;
        if (index == job->first || row == 0) filled = 0;
        if (filled < top) filled = top;
        for (; filled < top + ring && filled < job->height; filled++) {
            const float *x = job->x + image * job->x_image + filled * job->x_row;
            float *const line = job->scratch + filled % ring * floats;
            fill_line(job, x, job->points ? apart : line);
            if (job->points) narrow->transform(job, &planes, apart, line);
        }
        const float *lines[BF_FLOAT_ROWS];
        for (int32_t tap = 0; tap < job->kernel_rows; tap++) {
            const int64_t from = top + (int64_t)tap * job->row_dilation;
            const int inside = from >= 0 && from < job->height;
            lines[tap] = inside ? job->scratch + from % ring * floats : zeros;
        }
        run_panels(job, tiles, &planes, lines,
                   job->out + image * job->out_image + row * job->out_row);
    }
    return 0;
}
