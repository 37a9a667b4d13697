"""Low-bit products on a CPU: the compiled kernels, equal to the reference bit for bit.

A weight is brought into panels of 32 outputs once (`prepare_weight`), since a layer runs many
times. Without the compiled library the same calls run on `bitfront.kernels.reference`.

With values a = o_a + sum_i p_i a_i and w = o_w + sum_j q_j w_j of bits a_i and w_j, a product is
one pass over the words for each pair of planes, and all that does not depend on the position is a
constant of the output::

    both symmetric        sum_ij 2^(i+j) (K - 2 popcount(a_i ^ w_j))
    weights symmetric     sum_ij p_i 2^j (popcount(w_j) - popcount(a_i ^ w_j))
    inputs symmetric      sum_ij 2^i q_j (2 popcount(a_i & w_j) - popcount(w_j))
    neither               sum_ij p_i q_j popcount(a_i & w_j)

Shape suffixes: B batch, H height, W width, P words of a row, M rows, N outputs, Q and R planes,
h and w the axes of a kernel, T its taps, G groups, F panels of a group, L the 32 outputs of a
panel, Y and X rows and columns of a result.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from bitfront.kernels import reference
from bitfront.kernels.geometry import Conv2dGeometry, Fill, Pair
from bitfront.kernels.layout import (
    BINARY,
    CodeFormat,
    PackedBits,
    PackedCodes,
    require_clear_padding,
    require_int,
    require_type,
    word_count,
)
from bitfront.kernels.native_library import (
    ADD,
    AFFINE,
    AND,
    BITS,
    PANEL,
    STORE,
    XOR,
    Job,
    NativeLibrary,
    load,
)
from bitfront.kernels.operands import fill_words, regroup, require_accumulator, taps
from bitfront.kernels.packing import pack as reference_pack
from bitfront.kernels.packing import pack_bits, row_count

Packed = PackedBits | PackedCodes


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CpuWeight:
    """A weight as the kernels read it; made by `prepare_weight`.

    Attributes:
        source: What it was made of.
        words: int32 [R, N, h, w, P] of the source.
        format: What the bits are worth.
        groups: G.
        panels: int32 [R, G, F, T * P, L]; outputs past the last are 0.
        ones: int32 [R, G, F, L], the ones of each plane of each output.
        tap_sums: int32 [T, G, F, L], the sum of an output's weights at a tap.
    """

    source: Packed
    words: Tensor
    format: CodeFormat
    groups: int
    panels: Tensor
    ones: Tensor
    tap_sums: Tensor


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Affine:
    """Finish sums as floats, ``scale[n] * sum + shift[n]``: a batch norm.

    Attributes:
        scale: float32 [N].
        shift: float32 [N].
    """

    scale: Tensor
    shift: Tensor


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Threshold:
    """Finish sums as bits, ``(sum >= threshold[n]) != flip[n]``: a batch norm and a sign.

    Attributes:
        threshold: int32 [N].
        flip: bool [N]; True where the batch norm's scale is negative.
    """

    threshold: Tensor
    flip: Tensor


Finish = Affine | Threshold


def variants() -> tuple[str, ...]:
    """Instruction sets of this CPU that the library has, slowest first; none without it."""
    library = load()
    return () if library is None else library.variants


def _planes(packed: Packed) -> tuple[Tensor, CodeFormat]:
    if isinstance(packed, PackedBits):
        return packed.words[None], BINARY
    require_type("an operand", packed, PackedCodes)
    return packed.words, packed.format


def prepare_weight(weight: Packed, groups: int = 1) -> CpuWeight:
    """Bring a weight into panels of 32 outputs.

    Args:
        weight: words [N, h, w, P] or [N, P] of each plane.
        groups: Of the convolution.

    Raises:
        TypeError: If it is neither `PackedBits` nor `PackedCodes`.
        ValueError: If its shape, device or padding bits are wrong, or groups do not divide N.
    """
    words, format = _planes(weight)
    if words.dim() == 3:
        words = words[:, :, None, None]
    if words.dim() != 5 or words.device.type != "cpu":
        raise ValueError(
            "`weight` must be [N, h, w, words] or [N, words] of each plane, on the CPU, but got "
            f"{tuple(words.shape[1:])} on {words.device}."
        )
    require_int("groups", groups, 1)
    if words.shape[1] % groups:
        raise ValueError(
            f"`N % groups == 0` must hold, but got (N={words.shape[1]}, groups={groups})."
        )
    require_clear_padding("weight", words, weight.channels)
    ones_RNT = row_count(words.flatten(2, 3))
    plane_values = torch.tensor(format.plane_values, dtype=torch.int32)
    sums_NT = (plane_values[:, None, None] * ones_RNT).sum(0, dtype=torch.int32)
    sums_NT += weight.channels * format.offset
    return CpuWeight(
        source=weight,
        words=words,
        format=format,
        groups=groups,
        panels=_by_panel(words.flatten(2), groups).transpose(-1, -2).contiguous(),
        ones=_by_panel(ones_RNT.sum(-1, dtype=torch.int32), groups),
        tap_sums=_by_panel(sums_NT.T, groups),
    )


def _by_panel(x: Tensor, groups: int) -> Tensor:
    """[D, N, ...] to [D, G, F, L, ...], zeros past the last output of a group."""
    share = x.shape[1] // groups
    panels = -(-share // PANEL)
    padded = x.new_zeros(x.shape[0], groups, panels * PANEL, *x.shape[2:])
    padded[:, :, :share] = x.reshape(x.shape[0], groups, share, *x.shape[2:])
    return padded.reshape(x.shape[0], groups, panels, PANEL, *x.shape[2:])


def gemm(
    a: Packed,
    weight: CpuWeight,
    *,
    finish: Finish | None = None,
    variant: str | None = None,
    threads: int = 1,
) -> Tensor:
    """Product of packed rows and a weight, ``a @ w.T`` of their values.

    Args:
        a: words [M, P] of each plane.
        weight: Of one tap and one group.
        finish: What becomes of the sums; None leaves them.
        variant: Instruction set, one of `variants`; None takes the fastest.
        threads: Threads that share the rows.

    Returns:
        int32 [M, N]; float32 [M, N] with `Affine`; int32 words [M, P'] with `Threshold`.

    Raises:
        TypeError: If an operand has another type.
        ValueError: If shapes do not agree, padding bits are not 0, or a sum may pass 2^31 - 1.
    """
    words, _ = _planes(a)
    if words.dim() != 3:
        raise ValueError(
            f"`a` must hold words [rows, words] of each plane, but got {tuple(words.shape[1:])}."
        )
    # one row of M positions
    result = _convolve(
        a, words[:, None, None], weight, 1, 0, 1, 0, finish, variant=variant, threads=threads
    )
    return result[0, 0]


def conv2d(
    x: Packed,
    weight: CpuWeight,
    *,
    stride: Pair = 1,
    padding: Pair = 0,
    dilation: Pair = 1,
    fill: Fill = 0,
    finish: Finish | None = None,
    variant: str | None = None,
    threads: int = 1,
) -> Tensor:
    """Convolution of packed maps; the arguments are those of `reference.xnor_conv2d`.

    Args:
        x: words [B, H, W, P] of each plane.
        weight: Holds the groups too.
        stride: An int or (vertical, horizontal).
        padding: As stride.
        dilation: As stride.
        fill: 0, a value of the format of `x`, or "replicate".
        finish: What becomes of the sums; None leaves them.
        variant: Instruction set, one of `variants`; None takes the fastest.
        threads: Threads that share images or rows.

    Returns:
        int32 [B, Y, X, N]; float32 with `Affine`; int32 words [B, Y, X, P'] with `Threshold`.

    Raises:
        TypeError: If an operand has another type.
        ValueError: If shapes do not agree, padding bits are not 0, or a sum may pass 2^31 - 1.
    """
    words, _ = _planes(x)
    if words.dim() != 5:
        raise ValueError(
            f"`x` must hold words [B, H, W, words] of each plane, but got {tuple(words.shape[1:])}."
        )
    return _convolve(
        x,
        words,
        weight,
        stride,
        padding,
        dilation,
        fill,
        finish,
        variant=variant,
        threads=threads,
    )


def _convolve(
    x: Packed,
    words: Tensor,
    weight: CpuWeight,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    fill: Fill,
    finish: Finish | None,
    *,
    variant: str | None,
    threads: int,
) -> Tensor:
    require_type("weight", weight, CpuWeight)
    require_int("threads", threads, 1, 1024)
    _, batch, height, width, _ = words.shape
    conv = Conv2dGeometry.of(
        image=(batch, height, width, x.channels),
        weight=(*weight.words.shape[1:4], weight.source.channels),
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=weight.groups,
    )
    if words.device.type != "cpu":
        raise ValueError(f"`x` must be on the CPU, but is on {words.device}.")
    require_clear_padding("x", words, x.channels)
    _, x_format = _planes(x)
    require_accumulator(x_format, weight.format, conv.dot_length)
    _check_finish(finish, conv)
    fill_QP = fill_words(conv, x_format, fill, words.device)
    library = load()
    if library is None:
        sums = _reference_sums(x, words, weight, conv, fill)
        return _finished(sums, finish)
    if variant is not None and variant not in library.variants:
        raise ValueError(
            f"`variant` must be one of {', '.join(library.variants)} on this CPU, but got "
            f"{variant!r}."
        )
    return _Product(library, conv, words, x_format, weight, fill, fill_QP).run(
        finish, variant or library.variants[-1], threads
    )


def _check_finish(finish: Finish | None, conv: Conv2dGeometry) -> None:
    if finish is None:
        return
    pairs = (
        (("scale", finish.scale, torch.float32), ("shift", finish.shift, torch.float32))
        if isinstance(finish, Affine)
        else (("threshold", finish.threshold, torch.int32), ("flip", finish.flip, torch.bool))
    )
    for name, values, dtype in pairs:
        if values.dtype != dtype or values.shape != (conv.outputs,):
            raise ValueError(
                f"`{name}` must be {dtype} [{conv.outputs}], but got {values.dtype} "
                f"{list(values.shape)}."
            )


def _reference_sums(
    x: Packed, words: Tensor, weight: CpuWeight, conv: Conv2dGeometry, fill: Fill
) -> Tensor:
    def coded(planes: Tensor, channels: int, format: CodeFormat) -> PackedCodes:
        return PackedCodes(
            words=planes, channels=channels, format=format, popcount=row_count(planes)
        )

    return reference.bitserial_conv2d(
        coded(words, x.channels, _planes(x)[1]),
        coded(weight.words, weight.source.channels, weight.format),
        stride=conv.stride,
        padding=conv.padding,
        dilation=conv.dilation,
        groups=conv.groups,
        fill=fill,
    )


def _finished(sums: Tensor, finish: Finish | None) -> Tensor:
    if isinstance(finish, Affine):
        return sums.float() * finish.scale + finish.shift
    if isinstance(finish, Threshold):
        return pack_bits((sums >= finish.threshold) != finish.flip)
    return sums


class _Product:
    """One product, from the padded map to the finished result."""

    def __init__(
        self,
        library: NativeLibrary,
        conv: Conv2dGeometry,
        words: Tensor,
        x_format: CodeFormat,
        weight: CpuWeight,
        fill: Fill,
        fill_QP: Tensor | None,
    ) -> None:
        self.library = library
        self.conv = conv
        self.weight = weight
        self.x_format = x_format
        self.share_words = word_count(conv.group_channels)
        self.map = self._padded(words, fill_QP)
        self.beta, self.row_class, self.col_class = self._constants(fill)

    def _padded(self, words: Tensor, fill_QP: Tensor | None) -> Tensor:
        """int32 [Q, B, H', W', G * P]: the words of each group side by side, with the border."""
        conv = self.conv
        if conv.groups > 1 and conv.group_channels % 32:
            words = regroup(words, conv).flatten(-2)
        (down, right), (height, width) = conv.padding, (conv.height, conv.width)
        if not (down or right):
            return words.contiguous()
        if fill_QP is None:
            rows = torch.arange(-down, height + down).clamp(0, height - 1)
            columns = torch.arange(-right, width + right).clamp(0, width - 1)
            return words[:, :, rows[:, None], columns].contiguous()
        border = fill_QP.repeat(1, conv.groups)
        shape = (*words.shape[:2], height + 2 * down, width + 2 * right, words.shape[-1])
        padded = torch.empty(shape, dtype=torch.int32)
        padded[:] = border[:, None, None, None]
        padded[:, :, down : down + height, right : right + width] = words
        return padded

    def _constants(self, fill: Fill) -> tuple[Tensor, Tensor, Tensor]:
        """The constant of each output by class of position, and the classes of rows and columns.

        Positions differ where taps lie outside and a zero was filled with another value.
        """
        conv, weight, x_format = self.conv, self.weight, self.x_format
        w_scales, x_scales = _scales(weight.format), _scales(x_format)
        share = conv.dot_length
        ones = weight.ones
        constant = torch.zeros(ones.shape[1:], dtype=torch.int32)
        for x_scale in x_scales:
            for j, w_scale in enumerate(w_scales):
                scale = x_scale * w_scale
                if weight.format.coding == "symmetric":
                    both = x_format.coding == "symmetric"
                    constant += scale * (share if both else ones[j])
                elif x_format.coding == "symmetric":
                    constant -= scale * ones[j]
        if fill != 0 or x_format.is_value(0) or not any(conv.padding):
            zeros = [torch.zeros(n, dtype=torch.int32) for n in (conv.out_height, conv.out_width)]
            return constant[None].contiguous(), zeros[0], zeros[1]
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

    def run(self, finish: Finish | None, variant: str, threads: int) -> Tensor:
        """The finished result."""
        conv, weight = self.conv, self.weight
        positions = (conv.batch, conv.out_height, conv.out_width)
        w_scales, x_scales = _scales(weight.format), _scales(self.x_format)
        single = len(w_scales) == len(x_scales) == 1
        whole_words = conv.groups == 1 or conv.group_outputs % PANEL == 0
        fused = finish if single and (whole_words or isinstance(finish, Affine)) else None
        keep: list[Tensor] = []
        if isinstance(fused, Threshold):
            out = torch.empty(*positions, word_count(conv.outputs), dtype=torch.int32)
            keep = [
                _by_panel(fused.threshold[None], conv.groups),
                pack_bits(_by_panel(fused.flip[None], conv.groups)),
            ]
        elif isinstance(fused, Affine):
            out = torch.empty(*positions, conv.outputs, dtype=torch.float32)
            keep = [_by_panel(v[None], conv.groups) for v in (fused.scale, fused.shift)]
        else:
            out = torch.empty(*positions, conv.outputs, dtype=torch.int32)
        weights_symmetric = weight.format.coding == "symmetric"
        inputs_symmetric = self.x_format.coding == "symmetric"
        nothing = torch.zeros_like(self.beta)
        first = True
        for i, x_scale in enumerate(x_scales):
            for j, w_scale in enumerate(w_scales):
                job = self._job(i, j, out, self.beta if first else nothing)
                job.op = XOR if weights_symmetric else AND
                sign = -1 if weights_symmetric else 1
                job.alpha = sign * x_scale * w_scale * (2 if inputs_symmetric else 1)
                job.finish = STORE if first else ADD
                if isinstance(fused, Threshold):
                    job.finish = BITS
                    job.threshold, job.flip = (t.data_ptr() for t in keep)
                elif isinstance(fused, Affine):
                    job.finish = AFFINE
                    job.scale, job.shift = (t.data_ptr() for t in keep)
                self._run_job(job, out.shape[-1], variant, threads)
                first = False
        return out if fused is finish else _finished(out, finish)

    def _job(self, i: int, j: int, out: Tensor, beta: Tensor) -> Job:
        conv, weight, share = self.conv, self.weight, self.share_words
        _, _, _, width, pixel = self.map.shape
        x = self.map[i]
        offsets = self._tap_offsets(width, pixel)
        return Job(
            a=x.data_ptr(),
            weight=weight.panels[j].data_ptr(),
            out=out.data_ptr(),
            taps=offsets.data_ptr(),
            beta=beta.data_ptr(),
            row_class=self.row_class.data_ptr(),
            col_class=self.col_class.data_ptr(),
            batch=conv.batch,
            rows=conv.out_height,
            cols=conv.out_width,
            image_step=x.stride(0),
            row_step=conv.stride[0] * width * pixel,
            col_step=conv.stride[1] * pixel,
            outputs=conv.outputs,
            out_words=word_count(conv.outputs),
            groups=conv.groups,
            group_outputs=conv.group_outputs,
            group_words=share,
            tap_count=conv.taps,
            words=share,
        )

    def _tap_offsets(self, width: int, pixel: int) -> Tensor:
        conv = self.conv
        rows = torch.arange(conv.kernel[0]) * (conv.dilation[0] * width * pixel)
        columns = torch.arange(conv.kernel[1]) * (conv.dilation[1] * pixel)
        self._offsets = (rows[:, None] + columns).flatten().contiguous()
        return self._offsets

    def _run_job(self, job: Job, out_width: int, variant: str, threads: int) -> None:
        if threads == 1:
            self.library.product(job, variant)
            return
        jobs = list(_shares(job, out_width, threads))
        for done in [_workers(threads).submit(self.library.product, j, variant) for j in jobs]:
            done.result()


def _scales(format: CodeFormat) -> tuple[int, ...]:
    """What a plane's -1 and +1 (symmetric) or its 1 (else) are worth."""
    if format.coding == "symmetric":
        return tuple(1 << q for q in range(format.bits))
    return format.plane_values


@cache
def _workers(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="bitfront-kernels")


def _shares(job: Job, out_width: int, threads: int) -> Iterator[Job]:
    """Split a job by images, rows or columns, whichever is first large enough."""
    bytes_per_word = 4
    axes = (
        ("batch", job.image_step, job.rows * job.cols, None),
        ("rows", job.row_step, job.cols, "row_class"),
        ("cols", job.col_step, 1, "col_class"),
    )
    for number, (axis, step, positions, classes) in enumerate(axes):
        size = getattr(job, axis)
        outer = [getattr(job, name) for name, *_ in axes[:number]]
        if any(n > 1 for n in outer):
            break
        if size < threads and axis != "cols":
            continue
        for share in range(threads):
            start, end = size * share // threads, size * (share + 1) // threads
            if start == end:
                continue
            part = Job.from_buffer_copy(job)
            setattr(part, axis, end - start)
            part.a += start * step * bytes_per_word
            part.out += start * positions * out_width * bytes_per_word
            if classes is not None:
                setattr(part, classes, getattr(part, classes) + start * bytes_per_word)
            yield part
        return
    yield job


def pack(x: Tensor, *, variant: str | None = None) -> PackedBits:
    """As `bitfront.kernels.pack`: bit = (x >= 0) along the last axis.

    float32 on the CPU takes the compiled packer, strided last axes too (a permuted NCHW map);
    anything else takes the reference.
    """
    library = load()
    if (
        library is None
        or not isinstance(x, Tensor)
        or x.dtype != torch.float32
        or x.device.type != "cpu"
        or x.layout != torch.strided
        or x.dim() == 0
        or x.numel() == 0
    ):
        return reference_pack(x)
    x = x.detach()
    channels = x.shape[-1]
    words = torch.empty(*x.shape[:-1], word_count(channels), dtype=torch.int32)
    nan = False
    for rows, out in _matrices(x, words):
        nan |= library.pack(
            rows.data_ptr(),
            rows.shape[0],
            channels,
            rows.stride(0),
            rows.stride(1),
            out.data_ptr(),
            words.shape[-1],
            variant or library.variants[-1],
        )
    if nan:
        raise ValueError("`x` must not have NaN, which has no sign, but got at least one.")
    ones = torch.empty(words.shape[:-1], dtype=torch.int32)
    library.row_ones(words.data_ptr(), ones.numel(), words.shape[-1], ones.data_ptr())
    return PackedBits(words=words, channels=channels, popcount=ones)


def pack_nchw(x: Tensor, *, variant: str | None = None) -> PackedBits:
    """As `bitfront.kernels.pack_nchw`: axis 1 of [B, C, H, W] to words [B, H, W, P]."""
    if not isinstance(x, Tensor) or x.dim() != 4:
        raise ValueError("`x` must be a tensor [B, C, H, W].")
    return pack(x.permute(0, 2, 3, 1), variant=variant)


def _matrices(x: Tensor, words: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Split [..., C] into matrices [M, C] with one step between rows, and the words of each."""
    try:
        matrix = x.view(-1, x.shape[-1])
    except RuntimeError:
        for part, out in zip(x.unbind(0), words.unbind(0), strict=True):
            yield from _matrices(part, out)
        return
    yield matrix, words.view(-1, words.shape[-1])
