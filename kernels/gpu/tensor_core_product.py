"""A prepared product on the 1-bit tensor cores: all that can be computed before the maps are there.

Shape suffixes: those of `bitfront.kernels.reference`; KW words of a row of the weight.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor

from bitfront.kernels.finish import Finish, Threshold, check_finish
from bitfront.kernels.geometry import Conv2dGeometry, Fill
from bitfront.kernels.gpu.constants import Constants
from bitfront.kernels.gpu.dispatch import TENSOR_CORE_PASSES
from bitfront.kernels.gpu.finish import Ending, plane_pitch, row_pitch
from bitfront.kernels.gpu.fragments import STEP_WORDS, WarpTile
from bitfront.kernels.gpu.launch import blocks, on_device
from bitfront.kernels.gpu.packing import count_ones, regroup
from bitfront.kernels.gpu.tensor_core import gemm_kernel
from bitfront.kernels.gpu.tensor_core_conv import conv_kernel
from bitfront.kernels.gpu.weight import GpuWeight
from bitfront.kernels.layout import (
    WORD_BITS,
    CodeFormat,
    PackedBits,
    PackedCodes,
    require_type,
    word_count,
)
from bitfront.kernels.operands import Packed, fill_words, planes_of, require_accumulator, taps

MAX_TAPS: Final = 31
"""One bit of an int32 says of each tap whether it lies inside."""

STAGES: Final = 4
"""Steps that are copied to shared memory ahead; 0 reads operands straight into registers."""

LARGE: Final = WarpTile(m_tiles=4, n_tiles=8, m_warps=2, n_warps=4)
SQUARE: Final = WarpTile(m_tiles=4, n_tiles=8, m_warps=2, n_warps=2)
TALL: Final = WarpTile(m_tiles=4, n_tiles=8, m_warps=4, n_warps=1)
SMALL: Final = WarpTile(m_tiles=2, n_tiles=4, m_warps=2, n_warps=2)
TILES: Final = (LARGE, SQUARE, TALL, SMALL)

_FULL_DEVICE: Final = 128
"""Tiles that keep a device busy: about its number of multiprocessors."""


def choose_tile(rows: int, outputs: int) -> WarpTile:
    """The largest tile of which there are enough for a device.

    >>> choose_tile(8192, 8192).columns, choose_tile(50176, 64).columns
    (256, 64)
    """
    for tile in TILES:
        fits = outputs > tile.columns // 2
        if fits and blocks(rows, tile.rows) * blocks(outputs, tile.columns) >= _FULL_DEVICE:
            return tile
    return SMALL


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanePlan:
    """In which order the planes of two formats meet, and what they are worth.

    Attributes:
        pairs: Plane of the map, plane of the weight, factor of the sum so far; largest value first.
        last: Factor of the final sum.
        row_values: What a one in each plane of the map adds by itself.
    """

    pairs: tuple[tuple[int, int, int], ...]
    last: int
    row_values: tuple[int, ...]

    @classmethod
    def of(cls, x: CodeFormat, w: CodeFormat) -> PlanePlan:
        """The plan of two formats.

        >>> two = CodeFormat(bits=2, coding="unsigned")
        >>> PlanePlan.of(two, CodeFormat(bits=1, coding="symmetric"))
        PlanePlan(pairs=((1, 0, 1), (0, 0, 2)), last=2, row_values=(-1, -2))
        """
        values = [
            (p * q, i, j)
            for i, p in enumerate(x.plane_values)
            for j, q in enumerate(w.plane_values)
        ]
        values.sort(key=lambda value: -abs(value[0]))
        pairs = []
        before = values[0][0]
        for value, i, j in values:
            pairs.append((i, j, before // value))
            before = value
        rows = tuple(w.offset * p for p in x.plane_values)
        return cls(pairs=tuple(pairs), last=before, row_values=rows)


def prepare_tensor_core_product(
    conv: Conv2dGeometry,
    x_format: CodeFormat,
    weight: GpuWeight,
    *,
    fill: Fill = 0,
    finish: Finish | None = None,
    tile: WarpTile | None = None,
    stages: int = STAGES,
) -> TensorCoreProduct:
    """Prepare a convolution for maps of one size.

    Args:
        conv: Its geometry; at most 31 taps.
        x_format: What the bits of the maps are worth; with the weight's at most 4 pairs of planes.
        weight: Of that geometry, on the device where the product will run.
        fill: 0, a value of `x_format`, or "replicate".
        finish: What becomes of the sums; None leaves them.
        tile: Of a block of threads; None chooses.
        stages: Steps in shared memory, 2 or more; 0 reads operands straight into registers.

    Returns:
        A callable from words [Q, B, H, W, P] to the result.

    Raises:
        TypeError: If an argument has another type.
        ValueError: If an argument does not fit, or a sum may pass 2^31 - 1.
    """
    require_type("weight", weight, GpuWeight)
    fits = (conv.outputs, *conv.kernel, conv.group_channels, conv.groups)
    if (*weight.words.shape[1:4], weight.source.channels, weight.groups) != fits:
        raise ValueError(
            "`weight` must have the outputs, kernel, channels and groups of the geometry, "
            f"{fits}, but has "
            f"{(*weight.words.shape[1:4], weight.source.channels, weight.groups)}."
        )
    passes = x_format.bits * weight.format.bits
    if passes > TENSOR_CORE_PASSES or conv.taps > MAX_TAPS:
        raise ValueError(
            f"`weight bits * map bits <= {TENSOR_CORE_PASSES}` and `taps <= {MAX_TAPS}` must hold "
            f"on the 1-bit tensor cores, but got {passes} and {conv.taps}. The int8 route takes "
            "it."
        )
    if stages == 1 or not 0 <= stages <= 8:
        raise ValueError(f"`stages` must be 0 or 2 to 8, but got {stages}.")
    require_accumulator(x_format, weight.format, conv.dot_length)
    check_finish(finish, conv.outputs, weight.rows.device)
    chosen = tile or choose_tile(conv.rows, conv.group_outputs)
    return TensorCoreProduct(conv, x_format, weight, fill, finish, chosen, stages)


class TensorCoreProduct:
    """A convolution that is ready to run; made by `prepare_tensor_core_product`.

    Attributes:
        conv: Its geometry.
        finish: What becomes of the sums.
        tile: Of a block of threads.
        stages: Steps in shared memory.
    """

    def __init__(
        self,
        conv: Conv2dGeometry,
        x_format: CodeFormat,
        weight: GpuWeight,
        fill: Fill,
        finish: Finish | None,
        tile: WarpTile,
        stages: int,
    ) -> None:
        self.conv = conv
        self.finish = finish
        self.tile = tile
        self.stages = stages
        self._x_format = x_format
        self._weight = weight
        self._device = weight.rows.device
        self._pixel = word_count(conv.group_channels)
        self._regroups = conv.groups > 1 and conv.group_channels % WORD_BITS > 0
        self._ending = Ending(conv, finish, self._device)
        self._fill_QP = fill_words(conv, x_format, fill, self._device)
        # taps outside read zeros: another border is put around the map
        self._borders = any(conv.padding) and (self._fill_QP is None or bool(self._fill_QP.any()))
        self._inner = conv.bordered() if self._borders else conv
        self._plan = PlanePlan.of(x_format, weight.format)
        corrects = fill == 0 and x_format.offset != 0 and any(conv.padding)
        self._constants = inside_constants(conv, x_format, weight, corrects)
        is_matrix = conv.taps == conv.groups == 1 and self._inner.stride == (1, 1)
        self._is_matrix = (
            is_matrix and not any(self._inner.padding) and (self._pixel % STEP_WORDS == 0)
        )

    def __call__(
        self, words: Tensor, ones: Tensor | None = None, out: Tensor | None = None
    ) -> Tensor:
        """The finished result of words [Q, B, H, W, P], whose padding bits must be 0.

        Args:
            words: int32.
            ones: int32 [Q, B, H, W], the popcounts that came with the words; None counts them.
                Not read by a product of several groups, which counts its own.
            out: Where to write it, or what to add it to if the finish merges: a tensor of the
                result's shape and dtype, such as a run of channels of a larger map. None makes a
                new one.

        Returns:
            int32 [B, Y, X, N]; floats with `Affine`; int32 words [B, Y, X, P'] with `Threshold`,
            [k, B, Y, X, P'] with `Requantise`.

        Raises:
            TypeError: If `out` is no tensor.
            ValueError: If a tensor has another shape, dtype or device; or if `out` does not fit
                (`bitfront.kernels.gpu.finish.row_pitch`), or is missing.
        """
        written = self._ending.written(out)
        self._run(words, ones, written, None)
        return self._ending.result(written, out)

    def packed(self, x: Packed) -> Packed:
        """As a call, of a map with its popcounts, to a map with its popcounts: a layer of a chain.

        Raises:
            TypeError: If the map is not packed.
            ValueError: If the kernel does not end in codes, or as a call.
        """
        if not self._ending.stores_codes:
            raise ValueError(
                "`finish` must be a Threshold or a Requantise that the kernel can store (each "
                f"group's outputs in whole words), but is {type(self.finish).__name__}."
            )
        words, _ = planes_of(x)
        out = self._ending.written(None)
        bits = out.shape[0] if out.dim() == 5 else 1
        # several blocks add to one number
        fresh = torch.empty if self._across() == 1 else torch.zeros
        ones = fresh(bits, *out.shape[-4:-1], dtype=torch.int32, device=self._device)
        self._run(words, x.popcount.reshape(words.shape[:-1]), out, ones)
        outputs = self.conv.outputs
        if isinstance(self.finish, Threshold):
            return PackedBits(words=out, channels=outputs, popcount=ones[0])
        made = CodeFormat(bits=bits, coding="unsigned")
        return PackedCodes(words=out, channels=outputs, format=made, popcount=ones)

    def _run(self, words: Tensor, ones: Tensor | None, out: Tensor, made: Tensor | None) -> None:
        conv = self.conv
        shape = (self._x_format.bits, conv.batch, conv.height, conv.width)
        self._require("words", words, (*shape, word_count(conv.channels)))
        if ones is not None:
            self._require("ones", ones, shape)
        x = regroup(words, conv) if self._regroups else words.contiguous()
        if self._borders:
            x = self._bordered(x)
            ones = None
        if not any(self._plan.row_values):
            # what no row value weighs is not read
            ones = x
        elif conv.groups > 1 or ones is None:
            ones = count_ones(x.view(*x.shape[:-1], conv.groups, self._pixel))
        launch(*self.launch_arguments(x, ones.contiguous(), out, made))

    def _across(self) -> int:
        """Blocks side by side that make one row of the result."""
        return blocks(self.conv.group_outputs, self.tile.columns) * self.conv.groups

    def _require(self, name: str, x: Tensor, shape: tuple[int, ...]) -> None:
        if x.shape != shape or x.dtype != torch.int32 or x.device != self._device:
            raise ValueError(
                f"`{name}` must be torch.int32 {list(shape)} on {self._device}, but got {x.dtype} "
                f"{list(x.shape)} on {x.device}."
            )

    def _bordered(self, x: Tensor) -> Tensor:
        (down, right), (height, width) = self.conv.padding, (self.conv.height, self.conv.width)
        if self._fill_QP is None:
            rows = torch.arange(-down, height + down, device=x.device).clamp(0, height - 1)
            columns = torch.arange(-right, width + right, device=x.device).clamp(0, width - 1)
            return x[:, :, rows[:, None], columns].contiguous()
        pixel_Q = self._fill_QP.repeat(1, self.conv.groups)[:, None, None, None]
        inner = self._inner
        bordered = pixel_Q.expand(-1, inner.batch, inner.height, inner.width, -1).contiguous()
        bordered[:, :, down : down + height, right : right + width] = x
        return bordered

    def launch_arguments(
        self, x: Tensor, ones: Tensor, out: Tensor, made: Tensor | None = None
    ) -> tuple[Any, int, dict[str, Any], int]:
        """What `launch` is given.

        Args:
            x: int32 words [Q, B, H, W, P] with their border, if the fill needs one.
            ones: int32 [Q, B, H, W, G], their popcounts.
            out: The result.
            made: int32 [k, B, Y, X], the popcounts of codes; zeros where several blocks add.
        """
        conv, rows, tile = self._inner, self._weight.rows, self.tile
        arguments: dict[str, Any] = {
            "x_ptr": x,
            "w_ptr": rows,
            "ones_ptr": ones,
            "beta_ptr": self._constants.beta,
            "out_ptr": out,
            "out_ones_ptr": made,
            "M": conv.rows,
            "N": conv.outputs,
            "KW": rows.shape[-1],
            "x_plane": x.stride(0),
            "w_plane": rows.stride(0),
            "out_row": row_pitch(out),
            "out_plane": plane_pitch(out),
            "PAIRS": self._plan.pairs,
            "LAST": self._plan.last,
            "ROW_VALUES": self._plan.row_values,
            "STAGES": self.stages,
            "ONES": 0 if made is None else min(self._across(), 2),
            "finish_ptr": self._ending.values,
            **self._ending.options,
            **tile.constants,
        }
        if self._is_matrix:
            arguments["OPERATOR"] = "and"
        else:
            arguments |= {
                "row_class_ptr": self._constants.row_class,
                "col_class_ptr": self._constants.col_class,
                "height": conv.height,
                "width": conv.width,
                "out_height": conv.out_height,
                "out_width": conv.out_width,
                "ones_plane": ones.stride(0),
                "P": self._pixel,
                "GROUPS": conv.groups,
                "GEOMETRY": (conv.kernel, conv.stride, conv.padding, conv.dilation),
                "CLASSES": self._constants.beta.shape[0] > 1,
            }
        kernel = gemm_kernel if self._is_matrix else conv_kernel
        return kernel, blocks(conv.rows, tile.rows) * self._across(), arguments, tile.warps


def launch(kernel: Any, count: int, arguments: dict[str, Any], warps: int) -> None:
    """Run blocks of a kernel on the device of its map.

    Raises:
        ValueError: If the map is not on a CUDA device.
    """
    x = arguments["x_ptr"]
    if x.device.type != "cuda":
        raise ValueError(f"`weight` and `words` must be on a CUDA device, but are on {x.device}.")
    with on_device(x):
        # a float finish is rounded after the product and after the sum, as torch's
        kernel[(count,)](**arguments, num_warps=warps, enable_fp_fusion=False)


def inside_constants(
    conv: Conv2dGeometry, x_format: CodeFormat, weight: GpuWeight, corrects: bool
) -> Constants:
    """``offset of x * sum of the weights at the taps that count``, by class of position.

    Args:
        conv: The geometry.
        x_format: What the bits of the maps are worth.
        weight: Of the geometry.
        corrects: Whether only the taps inside count; else all.
    """
    device = weight.rows.device
    if corrects:
        inside = [taps(conv, axis, torch.device("cpu"))[1] for axis in (0, 1)]
        rows, row_class = torch.unique(inside[0], dim=0, return_inverse=True)
        columns, col_class = torch.unique(inside[1], dim=0, return_inverse=True)
    else:
        rows, columns = (torch.ones(1, size, dtype=torch.bool) for size in conv.kernel)
        row_class, col_class = (
            torch.zeros(size, dtype=torch.int64) for size in (conv.out_height, conv.out_width)
        )
    # [row class, column class, h, w] to [classes, T]
    counts = (rows[:, None, :, None] & columns[None, :, None, :]).flatten(2).flatten(0, 1)
    beta = x_format.offset * (counts.long() @ weight.tap_sums.cpu().long())
    return Constants(
        beta=beta.to(torch.int32).to(device),
        row_class=(row_class * len(columns)).to(torch.int32).to(device),
        col_class=col_class.to(torch.int32).to(device),
    )
