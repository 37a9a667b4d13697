/* A convolution of floats with few input channels a group, in channels-last maps:
 * out = bias[n] + sum over taps and channels of weight * x, zeros beside the map, and max(0, out)
 * where it rectifies. Weights stand in panels of 8, 16 or 32 outputs, zeros behind the last:
 * [groups][panels][taps][channels of the group][panel]. With a channel per output there is one
 * output a group, and panels of groups: [panels][taps][panel].
 *
 * With `points`, r + 1 of a kernel whose row is r = 3 or 4 steps of the window, pairs of results are
 * computed from fewer products. Weights are then [groups][panels][points][kernel rows][columns of a
 * step][channels of the group][panel], transformed as kernels/cpu/float_conv.py says; the last point
 * but one has only those columns that the last step of the kernel reaches.
 */
#ifndef BITFRONT_FLOAT_CONV_H
#define BITFRONT_FLOAT_CONV_H

#include <stdint.h>

#define BF_FLOAT_ROWS 32 /* of a kernel, at most */

/* Rows `first` up to `last` of the results of all images in turn are computed. */
typedef struct {
    const float *x, *weight, *bias; /* bias: [groups][panels][panel], or [panels][panel] */
    float *out;
    float *scratch; /* bf_float_scratch floats, of one thread */
    int64_t batch, height, width, channels;
    int64_t rows, cols;            /* of the result */
    int64_t first, last;           /* 0 .. batch * rows */
    int64_t x_image, x_row, x_col; /* floats between images, rows and pixels */
    int64_t out_image, out_row, out_col;
    int32_t kernel_rows, kernel_cols, row_stride, col_stride;
    int32_t row_padding, col_padding, row_dilation, col_dilation;
    int32_t groups, group_channels, group_outputs, panel;
    int32_t own_channels; /* whether each output has a channel of its own */
    int32_t points;       /* 0, 4 or 5 */
    int32_t rectifies;
} bf_float_job;

/* Floats of scratch memory that a job needs. */
int64_t bf_float_scratch(const bf_float_job *job);

/* Run a job. Returns 0, or -1 if the variant cannot run here or the job is malformed. */
int bf_float_conv(const bf_float_job *job, int variant);

#endif
