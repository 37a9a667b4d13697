"""A prepared product: all that can be computed before the maps are there.

Shape suffixes: those of `bitfront.kernels.cpu`.
"""

from __future__ import annotations

from typing import Any, Final, Literal

import torch
from torch import Tensor

from bitfront.kernels.finish import Finish, check_finish
from bitfront.kernels.geometry import Conv2dGeometry, Fill
from bitfront.kernels.gpu import constants
from bitfront.kernels.gpu.constants import ByteCode
from bitfront.kernels.gpu.finish import Ending, finish_options, plane_pitch, row_pitch
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
        self._ending = Ending(conv, finish, self._device)
        stores_codes = self._ending.stores_codes
        row_words = conv.taps * group_words
        sizes = (conv.rows, conv.group_outputs, row_words, stores_codes)
        passes = x_format.bits * weight.format.bits
        default = popcount_tile(*sizes, passes) if method == "popcount" else int8_tile(*sizes)
        self.tile = tile or default
        _require_tile(self.tile, method, stores_codes)
        fill_QP = fill_words(conv, x_format, fill, self._device)
        fills = any(conv.padding) and fill_QP is not None and bool(fill_QP.any())
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
                finish=self._ending.fused,
                fills=fills,
                replicates=fill_QP is None,
                classes=self._constants.beta.shape[0] > 1,
            ),
            "num_warps": self.tile.warps,
            "num_stages": self.tile.stages,
            # a float finish is rounded after the product and after the sum, as torch's
            "enable_fp_fusion": False,
        }

    def __call__(self, words: Tensor, out: Tensor | None = None) -> Tensor:
        """The finished result of words [Q, B, H, W, P], whose padding bits must be 0.

        Args:
            words: int32.
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
        conv = self.conv
        row = word_count(conv.channels)
        shape = (self._x_format.bits, conv.batch, conv.height, conv.width, row)
        if words.shape != shape or words.dtype != torch.int32 or words.device != self._device:
            raise ValueError(
                f"`words` must be torch.int32 {list(shape)} on {self._device}, but got "
                f"{words.dtype} {list(words.shape)} on {words.device}."
            )
        x = regroup(words, conv) if self._regroups else words.contiguous()
        written = self._ending.written(out)
        tiles = blocks(conv.group_outputs, self.tile.outputs) * conv.groups
        with on_device(x):
            self._kernel[(blocks(conv.rows, self.tile.rows) * tiles,)](
                x,
                self._weight.rows,
                self._fill_words,
                self._constants.beta,
                self._constants.row_class,
                self._constants.col_class,
                written.view(torch.int16) if written.dtype == torch.bfloat16 else written,
                self._ending.values,
                conv.rows,
                conv.outputs,
                conv.group_outputs,
                conv.height,
                conv.width,
                conv.out_height,
                conv.out_width,
                x.stride(0),
                self._weight.rows.stride(0),
                row_pitch(written),
                plane_pitch(written),
                **self._options,
            )
        return self._ending.result(written, out)


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
) -> dict[str, Any]:
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
        "P": group_words,
        "ROW_WORDS": blocks(row_words, ROW_WORDS) * ROW_WORDS,
        "WINDOW": not is_matrix,
        "CLASSES": classes,
        "FILL": fills,
        "REPLICATE": replicates,
        "GEOMETRY": (conv.kernel, conv.stride, conv.padding, conv.dilation),
        "X_BITS": x_format.bits,
        "W_BITS": w_format.bits,
        **own,
        **finish_options(finish),
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
