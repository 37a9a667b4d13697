"""A prepared product: all that can be computed before the maps are there."""

from __future__ import annotations

import torch
from torch import Tensor

from bitfront.kernels.cpu.checks import (
    require_dense,
    require_out,
    require_product,
    require_variant,
)
from bitfront.kernels.cpu.finish import by_output, check_finish, of_multiples
from bitfront.kernels.cpu.packer import Packer, Thresholds, pack_into
from bitfront.kernels.cpu.threads import PRODUCT_AXES, WORD_BYTES, run_shared
from bitfront.kernels.cpu.weight import CpuWeight
from bitfront.kernels.finish import Affine, Finish, Threshold, finished
from bitfront.kernels.geometry import Conv2dGeometry, Fill
from bitfront.kernels.layout import (
    BINARY,
    WORD_BITS,
    CodeFormat,
    require_int,
    word_count,
)
from bitfront.kernels.native_library import (
    ADD,
    AFFINE,
    AND,
    BITS,
    MERGE,
    PANEL,
    STORE,
    XOR,
    Job,
    NativeLibrary,
    load,
)
from bitfront.kernels.operands import fill_words, regroup, require_accumulator, taps


def prepare_product(
    conv: Conv2dGeometry,
    x_format: CodeFormat,
    weight: CpuWeight,
    *,
    fill: Fill = 0,
    finish: Finish | None = None,
    variant: str | None = None,
    threads: int = 1,
) -> Product | None:
    """Prepare a convolution for maps of one size.

    Args:
        conv: Its geometry.
        x_format: What the bits of the maps are worth.
        weight: Of that geometry.
        fill: 0, a value of `x_format`, or "replicate".
        finish: What becomes of the sums; None leaves them.
        variant: Instruction set, one of `variants`; None takes the fastest.
        threads: Threads that share a product.

    Returns:
        A callable from words [Q, B, H, W, P] to the result; None without the compiled library.

    Raises:
        TypeError: If an argument has another type.
        ValueError: If an argument does not fit, or a sum may pass 2^31 - 1.
    """
    require_product(conv, x_format, weight)
    require_int("threads", threads, 1, 1024)
    require_accumulator(x_format, weight.format, conv.dot_length)
    check_finish(finish, conv)
    library = load()
    if library is None:
        # the reference refuses a wrong fill itself
        return None
    chosen = require_variant(variant, library.variants)
    return Product(library, conv, x_format, weight, fill, finish, chosen, threads)


class Product:
    """A convolution that is ready to run on maps of one size; made by `prepare_product`.

    It keeps its padded map between calls, so one object serves one thread at a time.

    Attributes:
        conv: Its geometry.
        finish: What becomes of the sums.
    """

    def __init__(
        self,
        library: NativeLibrary,
        conv: Conv2dGeometry,
        x_format: CodeFormat,
        weight: CpuWeight,
        fill: Fill,
        finish: Finish | None,
        variant: str,
        threads: int,
    ) -> None:
        self.conv = conv
        self.finish = finish
        self._library = library
        self._x_format = x_format
        self._weight = weight
        self._variant = variant
        self._threads = threads
        self._fill_QP = fill_words(conv, x_format, fill, weight.words.device)
        self._share_words = word_count(conv.group_channels)
        self._regroups = conv.groups > 1 and conv.group_channels % WORD_BITS > 0
        self._pixel = self._share_words * conv.groups if conv.groups > 1 else self._share_words
        self._width = conv.width + 2 * conv.padding[1]
        self._beta, self._row_class, self._col_class = self._constants(fill)
        self._nothing = torch.zeros_like(self._beta)
        self._taps = self._tap_offsets()
        single = x_format.bits == weight.format.bits == 1
        whole = conv.groups == 1 or conv.group_outputs % PANEL == 0
        fuses = finish is not None and single and (whole or isinstance(finish, Affine))
        self._fused = finish if fuses else None
        self._result_kind = self._kind(self.finish)
        self._written_kind = self._kind(self._fused)
        self._merges = isinstance(finish, Affine) and finish.merges
        self._alphas = popcount_factors(x_format, weight.format)
        kernel_finish = self._in_popcounts()
        self._finish_constants = by_output(kernel_finish, conv.groups)
        row = word_count(conv.channels)
        self._words_shape = (x_format.bits, conv.batch, conv.height, conv.width, row)
        self._x_shape = (conv.batch, conv.height, conv.width, conv.channels)
        self._kept: tuple[Tensor, Tensor] | None = None
        self._packer: Packer | None = None
        self._steps: tuple[int, ...] = ()
        self._jobs = self._prepared()

    def __call__(self, words: Tensor, out: Tensor | None = None) -> Tensor:
        """The finished result of words [Q, B, H, W, P].

        Args:
            words: int32.
            out: Where to write it: a tensor of the result's shape and dtype whose last axis is
                dense, such as a run of channels of a larger map. None makes a new one.

        Raises:
            TypeError: If an argument is no tensor.
            ValueError: If a tensor has another shape, dtype, layout or device.
        """
        require_dense("words", words, torch.int32, self._words_shape)
        return self._multiply(self._padded(words), out)

    def of_floats(
        self,
        x_BHWC: Tensor,
        thresholds: Thresholds | None = None,
        out: Tensor | None = None,
    ) -> Tensor:
        """The finished result of the signs of float32 maps, packed straight into the border.

        Args:
            x_BHWC: float32, any strides.
            thresholds: Where each channel's sign changes; None is at 0.
            out: Where to write it, as above.

        Raises:
            TypeError: If an argument is no tensor.
            ValueError: If the maps have another shape, dtype, layout or device, hold a NaN, or the
                product is of codes of several bits.
        """
        x_BHWC = require_dense("x", x_BHWC, torch.float32, self._x_shape)
        if self._x_format != BINARY:
            raise ValueError(f"The product must be of signs, but is of {self._x_format}.")
        if self.inside is None:
            words = torch.empty(self._words_shape, dtype=torch.int32)
            pack_into(self._library, x_BHWC, words[0], self._variant, thresholds)
            return self(words, out)
        if self._packer is None:
            self._packer = Packer(
                self._library, self.inside[0], self.conv.channels, self._variant, self._threads
            )
        self._packer(x_BHWC, thresholds)
        return self._multiply(self._padded(self.inside), out)

    def _multiply(self, x: Tensor, out: Tensor | None) -> Tensor:
        result = self._result(out)
        first, plane_bytes = x.data_ptr(), x.stride(0) * WORD_BYTES
        written, steps = result.data_ptr(), result.stride()
        for plane, job in self._jobs:
            job.a = first + plane * plane_bytes
            job.out = written
            if steps != self._steps:
                job.out_image, job.out_row, job.out_col, _ = steps
            self._run(job)
        self._steps = steps
        if self._fused is self.finish:
            return result
        done = finished(result, self.finish)
        if out is None:
            return done
        return out.add_(done) if self._merges else out.copy_(done)

    def _result(self, out: Tensor | None) -> Tensor:
        """Where the kernels write: ``out`` itself if they finish it."""
        if out is not None:
            shape, dtype = self._result_kind
            require_out(out, dtype, shape)
            if self._fused is self.finish:
                return out
        elif self._merges:
            raise ValueError("A finish that merges needs `out`, which it adds to.")
        shape, dtype = self._written_kind
        return torch.empty(shape, dtype=dtype)

    def _kind(self, finish: Finish | None) -> tuple[tuple[int, ...], torch.dtype]:
        """Shape and dtype of a result."""
        conv = self.conv
        last = word_count(conv.outputs) if isinstance(finish, Threshold) else conv.outputs
        dtype = torch.float32 if isinstance(finish, Affine) else torch.int32
        return (conv.batch, conv.out_height, conv.out_width, last), dtype

    @property
    def inside(self) -> Tensor | None:
        """int32 [Q, B, H, W, P], the kept map without its border.

        A layer may write its bits here; a call that is given this very tensor copies nothing. None
        where each call rearranges the words, for groups that share words or a border of copies.
        """
        if self._regroups or self._fill_QP is None:
            return None
        return self._map()[1]

    def _padded(self, words: Tensor) -> Tensor:
        """int32 [Q, B, H', W', G * P]: the words of each group side by side, with the border."""
        if self._kept is not None and words is self._kept[1]:
            return self._kept[0]
        conv = self.conv
        if self._regroups:
            words = regroup(words, conv).flatten(-2)
        (down, right), (height, width) = conv.padding, (conv.height, conv.width)
        if not (down or right):
            return words.contiguous()
        if self._fill_QP is None:
            rows = torch.arange(-down, height + down).clamp(0, height - 1)
            columns = torch.arange(-right, width + right).clamp(0, width - 1)
            return words[:, :, rows[:, None], columns].contiguous()
        padded, inside = self._map()
        inside.copy_(words)
        return padded

    def _map(self) -> tuple[Tensor, Tensor]:
        """The map that is kept, its border filled, and its inside."""
        if self._kept is None:
            conv = self.conv
            down, right = conv.padding
            height = conv.height + 2 * down
            shape = (self._x_format.bits, conv.batch, height, self._width, self._pixel)
            padded = torch.empty(shape, dtype=torch.int32)
            if self._fill_QP is not None:
                padded[:] = self._fill_QP.repeat(1, conv.groups)[:, None, None, None]
            self._kept = (
                padded,
                padded[:, :, down : down + conv.height, right : right + conv.width],
            )
        return self._kept

    def _constants(self, fill: Fill) -> tuple[Tensor, Tensor, Tensor]:
        """The constant of each output by class of position, and the classes of rows and columns.

        Positions differ where taps lie outside and a zero was filled with another value.
        """
        conv, weight, x_format = self.conv, self._weight, self._x_format
        ones = weight.ones
        constant = torch.zeros(ones.shape[1:], dtype=torch.int32)
        for x_scale in plane_scales(x_format):
            for j, w_scale in enumerate(plane_scales(weight.format)):
                scale = x_scale * w_scale
                if weight.format.coding == "symmetric":
                    both = x_format.coding == "symmetric"
                    constant += scale * (conv.dot_length if both else ones[j])
                elif x_format.coding == "symmetric":
                    constant -= scale * ones[j]
        if fill != 0 or x_format.is_value(0) or not any(conv.padding):
            sizes = (conv.out_height, conv.out_width)
            row_class, col_class = (torch.zeros(n, dtype=torch.int32) for n in sizes)
            return constant[None].contiguous(), row_class, col_class
        outside = [~taps(conv, axis, weight.words.device)[1] for axis in (0, 1)]
        rows, row_class = torch.unique(outside[0], dim=0, return_inverse=True)
        columns, col_class = torch.unique(outside[1], dim=0, return_inverse=True)
        # [row class, column class, T]: taps that lie outside
        missing = (rows[:, None, :, None] | columns[None, :, None, :]).flatten(2).flatten(0, 1)
        correction = torch.einsum("ct,tgfl->cgfl", missing.int(), weight.tap_sums)
        beta = constant - x_format.offset * correction
        return (
            beta.to(torch.int32).contiguous(),
            (row_class * len(columns)).to(torch.int32),
            col_class.to(torch.int32),
        )

    def _tap_offsets(self) -> Tensor:
        """int64 [T]: words from a position's first word to each tap's."""
        conv = self.conv
        rows = torch.arange(conv.kernel[0]) * (conv.dilation[0] * self._width * self._pixel)
        columns = torch.arange(conv.kernel[1]) * (conv.dilation[1] * self._pixel)
        return (rows[:, None] + columns).flatten().contiguous()

    def _in_popcounts(self) -> Finish | None:
        """The fused finish; of popcounts with a constant added, where that is exact.

        That saves the kernels ``alpha * popcount + beta``, an eighth of the time at 64 channels.
        """
        if self._fused is None:
            return None
        ((planes, alpha),) = self._alphas.items()
        finish = of_multiples(self._fused, alpha)
        if finish is None or (self._beta % alpha).any():
            return self._fused
        self._alphas = {planes: 1}
        self._beta = torch.div(self._beta, alpha, rounding_mode="trunc")
        return finish

    def _prepared(self) -> list[tuple[int, Job]]:
        """One job for each pair of planes, and the plane of the map that it reads."""
        jobs: list[tuple[int, Job]] = []
        for (i, j), alpha in self._alphas.items():
            job = self._job(self._weight.panels[j])
            job.beta = (self._nothing if jobs else self._beta).data_ptr()
            job.op = XOR if self._weight.format.coding == "symmetric" else AND
            job.alpha = alpha
            job.finish = ADD if jobs else STORE
            if isinstance(self._fused, Threshold):
                job.finish = BITS
            elif isinstance(self._fused, Affine):
                job.finish = MERGE if self._fused.merges else AFFINE
                job.rectifies = self._fused.rectifies
            for name, values in self._finish_constants.items():
                setattr(job, name, values.data_ptr())
            jobs.append((i, job))
        return jobs

    def _job(self, panels: Tensor) -> Job:
        conv = self.conv
        return Job(
            weight=panels.data_ptr(),
            taps=self._taps.data_ptr(),
            row_class=self._row_class.data_ptr(),
            col_class=self._col_class.data_ptr(),
            batch=conv.batch,
            rows=conv.out_height,
            cols=conv.out_width,
            image_step=(conv.height + 2 * conv.padding[0]) * self._width * self._pixel,
            row_step=conv.stride[0] * self._width * self._pixel,
            col_step=conv.stride[1] * self._pixel,
            groups=conv.groups,
            group_outputs=conv.group_outputs,
            group_words=self._share_words,
            tap_count=conv.taps,
            words=self._share_words,
        )

    def _run(self, job: Job) -> None:
        run_shared(self._library.product, job, self._variant, self._threads, PRODUCT_AXES)


def popcount_factors(x_format: CodeFormat, w_format: CodeFormat) -> dict[tuple[int, int], int]:
    """What a popcount of planes (i, j) is worth: a power of two or its negative."""
    factor = 2 if x_format.coding == "symmetric" else 1
    if w_format.coding == "symmetric":
        factor = -factor
    return {
        (i, j): x_scale * w_scale * factor
        for i, x_scale in enumerate(plane_scales(x_format))
        for j, w_scale in enumerate(plane_scales(w_format))
    }


def plane_scales(format: CodeFormat) -> tuple[int, ...]:
    """What a plane's -1 and +1 (symmetric) or its 1 (else) are worth."""
    if format.coding == "symmetric":
        return tuple(1 << q for q in range(format.bits))
    return format.plane_values
