"""A prepared product: all that can be computed before the maps are there.

Shape suffixes: those of `bitfront.kernels.cpu`.
"""

from __future__ import annotations

from typing import Final, Literal

import torch
from torch import Tensor

from bitfront.kernels.geometry import Conv2dGeometry, Fill
from bitfront.kernels.gpu import constants
from bitfront.kernels.gpu.constants import ByteCode
from bitfront.kernels.gpu.epilogue import BFLOAT16, CODES, FLOAT32, SUMS
from bitfront.kernels.gpu.finish import (
    Affine,
    Finish,
    Requantise,
    Threshold,
    check_finish,
    finished,
)
from bitfront.kernels.gpu.int8 import int8_kernel
from bitfront.kernels.gpu.launch import blocks, on_device, require_device
from bitfront.kernels.gpu.packing import regroup
from bitfront.kernels.gpu.popcount import popcount_kernel
from bitfront.kernels.gpu.tiles import FEW_ROWS, SPLIT_WORDS, Tile, int8_tile, popcount_tile
from bitfront.kernels.gpu.weight import ROW_WORDS, GpuWeight
from bitfront.kernels.layout import WORD_BITS, CodeFormat, require_type, word_count
from bitfront.kernels.operands import fill_words, require_accumulator

Method = Literal["popcount", "int8"]
"""The kernels of this module; `bitfront.kernels.gpu.dispatch.Route` has the tensor cores too."""

METHODS: Final = ("popcount", "int8")


def prepare_triton_product(
    conv: Conv2dGeometry,
    x_format: CodeFormat,
    weight: GpuWeight,
    *,
    method: Method,
    fill: Fill = 0,
    finish: Finish | None = None,
    tile: Tile | None = None,
) -> Product:
    """Prepare a convolution for maps of one size.

    Args:
        conv: Its geometry.
        x_format: What the bits of the maps are worth.
        weight: Of that geometry, on the device where the product will run.
        method: "popcount" or "int8".
        fill: 0, a value of `x_format`, or "replicate".
        finish: What becomes of the sums; None leaves them.
        tile: How the product is cut; None takes the default.

    Returns:
        A callable from words [Q, B, H, W, P] to the result.

    Raises:
        TypeError: If an argument has another type.
        ValueError: If an argument does not fit, or a sum may pass 2^31 - 1.
    """
    require_type("conv", conv, Conv2dGeometry)
    require_type("x_format", x_format, CodeFormat)
    require_type("weight", weight, GpuWeight)
    require_device("weight", weight.rows)
    fits = (conv.outputs, *conv.kernel, conv.group_channels, conv.groups)
    if (*weight.words.shape[1:4], weight.source.channels, weight.groups) != fits:
        raise ValueError(
            "`weight` must have the outputs, kernel, channels and groups of the geometry, "
            f"{fits}, but has "
            f"{(*weight.words.shape[1:4], weight.source.channels, weight.groups)}."
        )
    require_accumulator(x_format, weight.format, conv.dot_length)
    check_finish(finish, conv.outputs, weight.rows.device)
    if method not in METHODS:
        raise ValueError(f"`method` must be one of {', '.join(METHODS)}, but got {method!r}.")
    return Product(conv, x_format, weight, method, fill, finish, tile)


class Product:
    """A convolution that is ready to run on maps of one size; made by `prepare_triton_product`.

    Attributes:
        conv: Its geometry.
        finish: What becomes of the sums.
        method: How they are computed.
        tile: How the product is cut.
    """

    def __init__(
        self,
        conv: Conv2dGeometry,
        x_format: CodeFormat,
        weight: GpuWeight,
        method: Method,
        fill: Fill,
        finish: Finish | None,
        tile: Tile | None,
    ) -> None:
        self.conv = conv
        self.finish = finish
        self.method = method
        self._x_format = x_format
        self._weight = weight
        self._device = weight.rows.device
        group_words = word_count(conv.group_channels)
        self._regroups = conv.groups > 1 and conv.group_channels % WORD_BITS > 0
        # codes of several groups fill a row of words only where each group fills its own
        whole = conv.groups == 1 or conv.group_outputs % WORD_BITS == 0
        self._fused = finish if whole or isinstance(finish, Affine) else None
        stores_codes = isinstance(self._fused, Threshold | Requantise)
        row_words = conv.taps * group_words
        sizes = (conv.rows, conv.group_outputs, row_words, stores_codes)
        passes = x_format.bits * weight.format.bits
        default = popcount_tile(*sizes, passes) if method == "popcount" else int8_tile(*sizes)
        self.tile = tile or default
        _require_tile(self.tile, method, stores_codes)
        fill_QP = fill_words(conv, x_format, fill, self._device)
        fills = any(conv.padding) and fill_QP is not None and bool(fill_QP.any())
        self._finish_pointers = _finish_pointers(self._fused)
        if method == "popcount":
            self._kernel = popcount_kernel
            self._constants = constants.popcount_constants(conv, x_format, weight, fill)
        else:
            self._kernel = int8_kernel
            padded = blocks(row_words, self.tile.words) * self.tile.words
            self._constants = constants.byte_constants(conv, x_format, weight, fill, padded)
        self._fill_words = fill_QP if fills else weight.rows
        self._options = {
            **kernel_options(
                conv,
                x_format,
                weight.format,
                method,
                self.tile,
                finish=self._fused,
                fills=fills,
                replicates=fill_QP is None,
                classes=self._constants.beta.shape[0] > 1,
            ),
            "num_warps": self.tile.warps,
            "num_stages": self.tile.stages,
            # a float finish is rounded after the product and after the sum, as torch's
            "enable_fp_fusion": False,
        }

    def __call__(self, words: Tensor) -> Tensor:
        """The finished result of words [Q, B, H, W, P], whose padding bits must be 0.

        Returns:
            int32 [B, Y, X, N]; floats with `Affine`; int32 words [B, Y, X, P'] with `Threshold`,
            [k, B, Y, X, P'] with `Requantise`.

        Raises:
            ValueError: If a tensor has another shape, dtype or device.
        """
        conv = self.conv
        row = word_count(conv.channels)
        shape = (self._x_format.bits, conv.batch, conv.height, conv.width, row)
        if words.shape != shape or words.dtype != torch.int32 or words.device != self._device:
            raise ValueError(
                f"`words` must be torch.int32 {list(shape)} on {self._device}, but got "
                f"{words.dtype} {list(words.shape)} on {words.device}."
            )
        x = regroup(words, conv) if self._regroups else words.contiguous()
        out = self._result()
        planes = out.dim() == 5
        first, second = self._finish_pointers
        tiles = blocks(conv.group_outputs, self.tile.outputs) * conv.groups
        with on_device(x):
            self._kernel[(blocks(conv.rows, self.tile.rows) * tiles,)](
                x,
                self._weight.rows,
                self._fill_words,
                self._constants.beta,
                self._constants.row_class,
                self._constants.col_class,
                out.view(torch.int16) if out.dtype == torch.bfloat16 else out,
                out if first is None else first,
                out if second is None else second,
                conv.rows,
                conv.outputs,
                conv.group_outputs,
                conv.height,
                conv.width,
                conv.out_height,
                conv.out_width,
                x.stride(0),
                self._weight.rows.stride(0),
                out.shape[-1],
                out.stride(0) if planes else 0,
                **self._options,
            )
        return out if self._fused is self.finish else finished(out, self.finish)

    def _result(self) -> Tensor:
        """Where the kernel writes."""
        conv, fused = self.conv, self._fused
        shape = (conv.batch, conv.out_height, conv.out_width, conv.outputs)
        if isinstance(fused, Affine):
            return torch.empty(shape, dtype=fused.dtype, device=self._device)
        if isinstance(fused, Threshold | Requantise):
            shape = (*shape[:-1], word_count(conv.outputs))
        if isinstance(fused, Requantise):
            return torch.empty(fused.bits, *shape, dtype=torch.int32, device=self._device)
        return torch.empty(shape, dtype=torch.int32, device=self._device)


def kernel_options(
    conv: Conv2dGeometry,
    x_format: CodeFormat,
    w_format: CodeFormat,
    method: Method,
    tile: Tile,
    *,
    finish: Finish | None = None,
    fills: bool = False,
    replicates: bool = False,
    classes: bool = False,
) -> dict[str, int]:
    """What a kernel is compiled for: its arguments in capitals.

    Args:
        conv: The geometry.
        x_format: What the bits of the maps are worth.
        w_format: What the bits of the weight are worth.
        method: Which kernel.
        tile: How the product is cut.
        finish: What the kernel makes of the sums.
        fills: Whether a tap outside reads words that are not 0.
        replicates: Whether a tap outside reads the nearest pixel.
        classes: Whether constants differ by position.
    """
    group_words = word_count(conv.group_channels)
    row_words = conv.taps * group_words
    # a matrix product reads row m from word m * P on
    is_matrix = conv.taps == 1 and conv.stride == (1, 1) and not any(conv.padding)
    own = _popcount_options(x_format, w_format, tile)
    if method == "int8":
        own = _int8_options(x_format, w_format)
    return {
        "X_PIXEL": group_words * conv.groups,
        "PIXEL_WORDS": group_words,
        "TAPS": conv.taps,
        "ROW_WORDS": blocks(row_words, ROW_WORDS) * ROW_WORDS,
        "WINDOW": not is_matrix,
        "CLASSES": classes,
        "FILL": fills,
        "REPLICATE": replicates,
        "KERNEL_X": conv.kernel[1],
        "STRIDE_Y": conv.stride[0],
        "STRIDE_X": conv.stride[1],
        "PADDING_Y": conv.padding[0],
        "PADDING_X": conv.padding[1],
        "DILATION_Y": conv.dilation[0],
        "DILATION_X": conv.dilation[1],
        "X_BITS": x_format.bits,
        "W_BITS": w_format.bits,
        **own,
        "FINISH": _finish_kind(finish),
        "BITS": finish.bits if isinstance(finish, Requantise) else 1,
        "TILE_ROWS": tile.rows,
        "TILE_OUTPUTS": tile.outputs,
        "TILE_WORDS": tile.words,
    }


def _require_tile(tile: Tile, method: Method, stores_codes: bool) -> None:
    least = 16 if method == "int8" else 1
    least_outputs = WORD_BITS if stores_codes else least
    if tile.rows < least or tile.outputs < least_outputs:
        raise ValueError(
            f"`tile` must have at least {least} rows and {least_outputs} outputs for this "
            f"product, but got {tile}."
        )
    if method == "popcount" and (
        tile.words < SPLIT_WORDS or (tile.rows > FEW_ROWS and tile.words != SPLIT_WORDS)
    ):
        raise ValueError(
            f"`tile` must have {SPLIT_WORDS} words, or more where it has at most {FEW_ROWS} rows, "
            f"but got {tile}."
        )


def _finish_kind(finish: Finish | None) -> int:
    if finish is None:
        return SUMS
    if isinstance(finish, Affine):
        return BFLOAT16 if finish.dtype == torch.bfloat16 else FLOAT32
    return CODES


def _finish_pointers(finish: Finish | None) -> tuple[Tensor | None, Tensor | None]:
    """What the kernel reads of a finish: dense, and bool as int8."""
    if isinstance(finish, Affine):
        return finish.scale.contiguous(), finish.shift.contiguous()
    if isinstance(finish, Threshold):
        return finish.threshold.contiguous(), finish.flip.contiguous().view(torch.int8)
    if isinstance(finish, Requantise):
        return finish.thresholds.contiguous(), finish.flip.contiguous().view(torch.int8)
    return None, None


def _popcount_options(x: CodeFormat, w: CodeFormat, tile: Tile) -> dict[str, int]:
    return {
        "X_SIGNED": x.coding == "signed",
        "W_SIGNED": w.coding == "signed",
        "XOR": w.coding == "symmetric",
        "FACTOR": constants.popcount_factor(x, w),
        "LATE": tile.rows <= FEW_ROWS,
        # loads wait in shared memory, not in registers: less than half of them
        "STAGES": tile.stages,
    }


def _int8_options(x_format: CodeFormat, w_format: CodeFormat) -> dict[str, int]:
    x, w = ByteCode.of(x_format), ByteCode.of(w_format)
    return {
        "X_FLIP": x.flip,
        "X_SCALE": x.scale,
        "X_OFFSET": x.offset,
        "W_FLIP": w.flip,
        "W_SCALE": w.scale,
        "W_OFFSET": w.offset,
        "FACTOR": x.step * w.step,
        "ROW_FACTOR": x.step * w.bias,
    }
