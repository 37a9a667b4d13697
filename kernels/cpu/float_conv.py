"""Convolutions of 32-bit floats with few input channels a group, such as the stem of a network.

Shape suffixes: B batch, C channels, H height, W width, N outputs, Y and X rows and columns of a
result, G groups, F panels of a group, L the outputs of a panel, T taps.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import torch
from torch import Tensor

from bitfront.kernels.cpu.threads import workers
from bitfront.kernels.cpu.winograd import points_of, saves_time, transformed
from bitfront.kernels.geometry import Conv2dGeometry, Pair
from bitfront.kernels.layout import require_int
from bitfront.kernels.native_library import FLOAT_KERNEL_ROWS, FloatJob, NativeLibrary, load

PANELS: Final = (32, 16, 8)
"""Outputs that a panel of weights may have."""

_FEW_PRODUCTS: Final = 2**23
_OWN_PRODUCTS: Final = 2**19
_PAIR_WEIGHTS: Final = 2**20
_SHARE_PRODUCTS: Final = 2**19
"""Products that are worth a thread, which takes tens of microseconds to begin."""


def prepare_float_conv(
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    stride: Pair = 1,
    padding: Pair = 0,
    dilation: Pair = 1,
    groups: int = 1,
    rectifies: bool = False,
    image: tuple[int, int, int, int],
    pairs: bool | None = None,
    variant: str | None = None,
    threads: int = 1,
) -> FloatConv | None:
    """Prepare a convolution of zero-padded maps of one size.

    Each output is a sum in an order of its own, whatever the batch and the threads are. Pairs of
    results that share products share NaNs too, and an infinity makes them NaN.

    Args:
        weight: float32 [N, C / G, kh, kw].
        bias: float32 [N]; None is 0.
        stride: An int or (vertical, horizontal).
        padding: As stride.
        dilation: As stride.
        groups: G.
        rectifies: Whether a ReLU follows.
        image: (B, C, H, W) of the maps.
        pairs: Whether two results share products, as `winograd` says; None where that is faster.
        variant: Instruction set, one of `variants`; None takes the fastest.
        threads: Threads that share the rows of the result.

    Returns:
        A callable from maps [B, C, H, W] to [B, N, Y, X]; None without the compiled library.

    Raises:
        TypeError: If a size is not an int.
        ValueError: If an argument does not fit, the kernel has more than 32 rows, or there are no
            pairs where they are asked for.
    """
    require_int("threads", threads, 1, 1024)
    _require_floats("weight", weight, 4)
    if bias is not None:
        _require_floats("bias", bias, 1)
        if bias.shape != weight.shape[:1]:
            raise ValueError(
                f"`bias` must have one value per output, {weight.shape[0]}, but got {len(bias)}."
            )
    outputs, group_channels, rows, columns = weight.shape
    if len(image) != 4:
        raise ValueError(f"`image` must be (batch, channels, height, width), but got {image!r}.")
    batch, channels, height, width = image
    conv = Conv2dGeometry.of(
        image=(batch, height, width, channels),
        weight=(outputs, rows, columns, group_channels),
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
    )
    if rows > FLOAT_KERNEL_ROWS:
        raise ValueError(
            f"A kernel must have at most {FLOAT_KERNEL_ROWS} rows, but `weight` has {rows}."
        )
    library = load()
    if library is None:
        return None
    if variant is not None and variant not in library.variants:
        raise ValueError(
            f"`variant` must be one of {', '.join(library.variants)} on this CPU, but got "
            f"{variant!r}."
        )
    chosen = variant or library.variants[-1]
    points = points_of(conv)
    if pairs and not points:
        raise ValueError(
            "`pairs` needs a kernel of three or four steps of its window in a row, without "
            f"dilation there, but got (kernel={conv.kernel}, stride={conv.stride}, "
            f"dilation={conv.dilation}, outputs of a group={conv.group_outputs})."
        )
    points = points if (saves_time(conv) if pairs is None else pairs) else 0
    return FloatConv(library, conv, weight, bias, rectifies, points, chosen, threads)


def _require_floats(name: str, values: Tensor, axes: int) -> None:
    if values.dim() != axes or values.dtype != torch.float32 or values.device.type != "cpu":
        raise ValueError(
            f"`{name}` must be torch.float32 with {axes} axes on the CPU, but got {values.dtype} "
            f"{list(values.shape)} on {values.device}."
        )


class FloatConv:
    """A convolution that is ready to run on maps of one size; made by `prepare_float_conv`.

    It keeps its lines between calls, so one object serves one thread at a time.

    Attributes:
        conv: Its geometry.
    """

    def __init__(
        self,
        library: NativeLibrary,
        conv: Conv2dGeometry,
        weight: Tensor,
        bias: Tensor | None,
        rectifies: bool,
        points: int,
        variant: str,
        threads: int,
    ) -> None:
        self.conv = conv
        self._library = library
        self._variant = variant
        # an output of a group of one channel takes a lane of its own
        own = conv.groups > 1 and conv.group_channels == conv.group_outputs == 1
        groups, outputs = (1, conv.groups) if own else (conv.groups, conv.group_outputs)
        panel = panel_outputs(outputs)
        taps = weight.detach().permute(0, 2, 3, 1)
        weight_GNT = (transformed(taps, conv.stride[1]) if points else taps).reshape(
            groups, outputs, -1
        )
        bias_GN = weight.new_zeros(conv.outputs) if bias is None else bias.detach()
        self._weight_GFTL = in_panels(weight_GNT, panel)
        self._bias_GFL = in_panels(bias_GN.reshape(groups, outputs, 1), panel)
        job = FloatJob(
            weight=self._weight_GFTL.data_ptr(),
            bias=self._bias_GFL.data_ptr(),
            batch=conv.batch,
            height=conv.height,
            width=conv.width,
            channels=conv.channels,
            rows=conv.out_height,
            cols=conv.out_width,
            groups=conv.groups,
            group_channels=conv.group_channels,
            group_outputs=conv.group_outputs,
            panel=panel,
            own_channels=own,
            points=points,
            rectifies=rectifies,
        )
        pairs = {
            "kernel_{}s": conv.kernel,
            "{}_stride": conv.stride,
            "{}_padding": conv.padding,
            "{}_dilation": conv.dilation,
        }
        for name, (vertical, horizontal) in pairs.items():
            setattr(job, name.format("row"), vertical)
            setattr(job, name.format("col"), horizontal)
        products = conv.rows * conv.outputs * conv.dot_length
        threads = max(1, min(threads, products // _SHARE_PRODUCTS))
        self._scratch = torch.empty(threads, library.float_scratch(job), dtype=torch.float32)
        self._jobs = list(self._shares(job, threads))

    def __call__(self, x: Tensor, out: Tensor | None = None) -> Tensor:
        """The convolution of maps, in channels-last memory.

        Args:
            x: float32 [B, C, H, W]; copied where the channels of a pixel are not neighbours.
            out: Where to write it: float32 [B, N, Y, X] whose channels are neighbours in memory,
                such as a run of channels of a larger map. None makes a new one.

        Raises:
            ValueError: If a tensor has another shape, dtype, device or memory format.
        """
        conv = self.conv
        _require_map("x", x, (conv.batch, conv.channels, conv.height, conv.width))
        shape = (conv.batch, conv.outputs, conv.out_height, conv.out_width)
        if out is None:
            out = torch.empty(shape, dtype=torch.float32, memory_format=torch.channels_last)
        else:
            _require_map("out", out, shape)
            if not _is_dense(out):
                raise ValueError(
                    "`out` must have its channels next to each other in memory, but has steps "
                    f"{out.stride()}."
                )
        if not _is_dense(x):
            x = x.contiguous(memory_format=torch.channels_last)
        for job in self._jobs:
            job.x, job.out = x.data_ptr(), out.data_ptr()
            job.x_image, _, job.x_row, job.x_col = x.stride()
            job.out_image, _, job.out_row, job.out_col = out.stride()
        self._run()
        return out

    def _shares(self, job: FloatJob, threads: int) -> Iterator[FloatJob]:
        """A job for each thread: its rows of the results, and its lines."""
        rows = self.conv.batch * self.conv.out_height
        for share, scratch in enumerate(self._scratch):
            part = FloatJob.from_buffer_copy(job)
            part.first, part.last = rows * share // threads, rows * (share + 1) // threads
            part.scratch = scratch.data_ptr()
            if part.first < part.last:
                yield part

    def _run(self) -> None:
        compute, variant = self._library.float_conv, self._variant
        first, *others = self._jobs
        if not others:
            compute(first, variant)
            return
        # submitted at once, awaited below
        running = workers(len(others)).map(lambda job: compute(job, variant), others)
        compute(first, variant)
        for _ in running:
            pass


def is_faster(conv: Conv2dGeometry, variant: str | None = None) -> bool:
    """Whether a convolution takes less time here than in oneDNN and torch: a rule on its sizes.

    Measured on one core of an EPYC of the Zen 4 generation, as times of the faster of the two over
    times of this: 1.07 to 1.5 with pairs of results (7x7 of 3 to 64 channels at 224x224 with
    stride 2: 1.3; 3x3 of 64 to 64 at 56x56: 1.4). Alone, which is worth it on AVX-512 only: 1.1 to
    2.4 up to 8 million products, whose calls it makes sooner; 1.1 to 1.3 for a stem of 3x3 with up
    to 32 outputs; 1.2 to 1.8 for groups of 4 channels with 8 outputs; 1.2 to 1.9 for a channel per
    output up to half a million products, and 0.7 beyond.

    Args:
        conv: Its geometry.
        variant: Instruction set; None is the fastest.
    """
    library = load()
    if library is None:
        return False
    chosen = variant or library.variants[-1]
    if chosen not in ("avx2", "avx512"):
        return False
    if points_of(conv) and saves_time(conv):
        # the weights are read once for every row of a result
        return conv.outputs * conv.dot_length <= _PAIR_WEIGHTS
    if chosen != "avx512":
        return False
    products = conv.rows * conv.outputs * conv.dot_length
    if conv.groups == conv.channels == conv.outputs > 1:
        return products <= _OWN_PRODUCTS
    if conv.group_outputs < PANELS[-1]:
        return False
    is_stem = conv.groups == 1 and conv.dot_length <= 32 and conv.outputs <= 32
    has_small_groups = conv.groups > 1 and 1 < conv.group_channels < 8
    return is_stem or has_small_groups or products <= _FEW_PRODUCTS


def panel_outputs(outputs: int) -> int:
    """Outputs of a panel: as few outputs that are not there as can be, then as many as can be."""
    return min(PANELS, key=lambda panel: (-outputs % panel, -panel))


def in_panels(values_GNT: Tensor, panel: int) -> Tensor:
    """[G, F, T, L]: outputs side by side, with zeros behind the last."""
    groups, outputs, taps = values_GNT.shape
    padded = values_GNT.new_zeros(groups, outputs + -outputs % panel, taps)
    padded[:, :outputs] = values_GNT
    return padded.reshape(groups, -1, panel, taps).transpose(2, 3).contiguous()


def _is_dense(values: Tensor) -> bool:
    return values.stride(1) == 1 or values.shape[1] == 1


def _require_map(name: str, values: Tensor, shape: tuple[int, ...]) -> None:
    if values.shape != shape or values.dtype != torch.float32 or values.device.type != "cpu":
        raise ValueError(
            f"`{name}` must be torch.float32 {list(shape)} on the CPU, but got {values.dtype} "
            f"{list(values.shape)} on {values.device}."
        )
