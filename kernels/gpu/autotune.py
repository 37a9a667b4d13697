"""Which tile is fastest: candidates, each checked against the default's result, timed by turns.

What wins is a row of a table that `bitfront.kernels.gpu.prepare_product` looks products up in.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any, Final
from uuid import uuid4

import torch
import triton
from torch import Tensor

from bitfront.kernels.finish import Affine, Finish, Requantise, Threshold
from bitfront.kernels.geometry import Conv2dGeometry
from bitfront.kernels.gpu.device import device_facts
from bitfront.kernels.gpu.dispatch import POPCOUNT_PASSES, TENSOR_CORE_CAPABILITIES, Route
from bitfront.kernels.gpu.fragments import WarpTile
from bitfront.kernels.gpu.prepare import choose, default_choice, prepare_choice
from bitfront.kernels.gpu.roofline import conv_case, gemm_case
from bitfront.kernels.gpu.tensor_core_product import (
    SMALL,
    TILES,
    TensorCoreProduct,
)
from bitfront.kernels.gpu.tiles import FEW_ROWS, MAX_STAGES, SPLIT_WORDS
from bitfront.kernels.gpu.timing import COLD_ROWS, Calls, copies_of, timed
from bitfront.kernels.gpu.tuning import (
    Choice,
    Kind,
    ProductCase,
    TimedChoice,
    TuningTable,
    file_name,
    fits,
    read_table,
    table_text,
    user_folder,
)
from bitfront.kernels.gpu.weight import GpuWeight, prepare_weight
from bitfront.kernels.layout import BINARY, WORD_BITS, CodeFormat, PackedCodes
from bitfront.kernels.packing import pack_bits, row_count

BUDGET_S: Final = 480.0
"""Products that would start later are named skipped."""

SLACK: Final = 4
"""How far beyond the model's bounds a route may still be the fastest."""

MOST_SUMS: Final = 64
"""Of a thread, in registers."""

LEAST_SHARED_BYTES: Final = 99 << 10
"""Shared memory of a block that every device of capability 8.0 and higher has."""

WARP_TILES: Final = (
    *TILES,
    WarpTile(m_tiles=2, n_tiles=8, m_warps=2, n_warps=2),
    WarpTile(m_tiles=4, n_tiles=4, m_warps=4, n_warps=1),
    WarpTile(m_tiles=1, n_tiles=4, m_warps=1, n_warps=4),
    WarpTile(m_tiles=1, n_tiles=4, m_warps=1, n_warps=2),
    WarpTile(m_tiles=1, n_tiles=4, m_warps=1, n_warps=1),
)
"""On the 1-bit tensor cores, 512 bits deep: wide, square, high, and for few rows."""

WARP_STAGES: Final = (0, 2, 3, 6)
"""Besides the default."""

Timer = Callable[[Sequence[Calls]], list[dict[str, float]]]
"""Milliseconds of each way, as `timed` gives them."""

_U2: Final = CodeFormat(bits=2, coding="unsigned")
_S2: Final = CodeFormat(bits=2, coding="symmetric")
_U4: Final = CodeFormat(bits=4, coding="unsigned")
_S4: Final = CodeFormat(bits=4, coding="signed")


@dataclass(frozen=True, slots=True, kw_only=True)
class TunedProduct:
    """A product to find the fastest tile of.

    Attributes:
        conv: Its geometry; a border reads zeros.
        x_format: What the bits of its maps are worth.
        w_format: What the bits of its weight are worth.
        kind: What is stored.
    """

    conv: Conv2dGeometry
    x_format: CodeFormat = BINARY
    w_format: CodeFormat = BINARY
    kind: Kind = "sums"

    @property
    def name(self) -> str:
        """For people."""
        conv = self.conv
        return (
            f"{conv.rows}x{conv.outputs}, {conv.taps} taps of {conv.group_channels}, "
            f"{self.w_format.bits} x {self.x_format.bits} bits, {self.kind}"
        )

    @property
    def case(self) -> ProductCase:
        """What a table calls it."""
        finish = self.finish(torch.device("cpu"))
        return ProductCase.of(self.conv, self.x_format, self.w_format, finish)

    def finish(self, device: torch.device) -> Finish | None:
        """A batch norm and what stores this kind; codes have as many bits as the maps."""
        numbers = torch.arange(self.conv.outputs, device=device, dtype=torch.int32)
        if self.kind == "floats":
            return Affine(scale=numbers % 5 / 7, shift=numbers % 3 / 3)
        if self.kind == "sums":
            return None
        threshold, flip = numbers % 7 - 3, numbers % 3 == 0
        bits = min(self.x_format.bits, 4)
        if bits == 1:
            return Threshold(threshold=threshold, flip=flip)
        steps = 4 * torch.arange(2**bits - 1, device=device, dtype=torch.int32)
        return Requantise(thresholds=threshold + steps[:, None], flip=flip)


def _products() -> Iterator[TunedProduct]:
    """Layers of networks and square products, what matters most first."""
    layers = [
        conv_case(channels, size, batch).conv
        for batch in (256, 8, 1)
        for channels, size in ((64, 56), (128, 28), (256, 14), (512, 7))
    ]
    for rows, size in ((4096, 4096), (1, 4096), (8, 4096), (8192, 8192), (1, 16384), (64, 4096)):
        yield TunedProduct(conv=gemm_case(rows, size, size).conv)
    for conv in layers:
        yield TunedProduct(conv=conv, kind="codes")
    for conv in layers:
        yield TunedProduct(conv=conv, kind="floats")
    for conv in layers[:8]:
        yield TunedProduct(conv=conv, x_format=_U2, kind="codes")
    for conv in layers[:8]:
        yield TunedProduct(conv=conv, x_format=_U2, w_format=_S2, kind="codes")
        yield TunedProduct(conv=conv, x_format=_U4, w_format=_S4, kind="floats")
    for rows, size in ((8, 16384), (1, 1024), (8, 1024), (64, 1024), (512, 1024), (512, 4096)):
        yield TunedProduct(conv=gemm_case(rows, size, size).conv)


PRODUCTS: Final = tuple(_products())


def candidates(capability: int, product: TunedProduct, shared_bytes: int) -> list[Choice]:
    """Ways to compute a product that may be the fastest; the default first.

    Args:
        capability: Ten times the compute capability.
        product: The product.
        shared_bytes: Shared memory that a block may have.

    Raises:
        ValueError: The device is too old.
    """
    case, formats = product.case, (product.x_format, product.w_format)
    default = choose(capability, product.conv, *formats)
    routes: dict[Route, None] = {default: None}
    passes = case.weight_bits * case.input_bits
    if case.rows * passes < SLACK * POPCOUNT_PASSES:
        routes["popcount"] = None
    routes["tensor_core"] = None
    # where there are 1-bit tensor cores, int8 ones have a fourth of their rate
    if capability not in TENSOR_CORE_CAPABILITIES or passes > 1:
        routes["int8"] = None
    found = {default_choice(default, case): None}
    for method in routes:
        first = default_choice(method, case)
        for choice in (first, *_variants(first, case)):
            if fits(choice, capability, case, formats) and _has_room(choice, case, shared_bytes):
                found[choice] = None
    return list(found)


def _variants(choice: Choice, case: ProductCase) -> Iterator[Choice]:
    """Each number of a tile halved or doubled, or one of the tiles of the tensor cores."""
    tile = choice.tile
    if isinstance(tile, WarpTile):
        for stages in WARP_STAGES:
            yield replace(choice, stages=stages)
        for other in WARP_TILES:
            # less than half of it lies outside, and it is no smaller than need be
            if other.columns < 2 * case.outputs and min(
                SMALL.rows, case.rows
            ) <= other.rows < 2 * max(SMALL.rows, case.rows):
                yield replace(choice, tile=other)
        return
    changes = [
        {name: value}
        for name, most in (("outputs", 1024), ("words", 1024), ("rows", 1024), ("warps", 16))
        for value in (getattr(tile, name) * 2, getattr(tile, name) // 2)
        if 1 <= value <= most
    ]
    changes += [{"stages": n} for n in (tile.stages - 1, tile.stages + 1) if 1 <= n <= MAX_STAGES]
    for change in changes:
        yield replace(choice, tile=replace(tile, **change))


def _has_room(choice: Choice, case: ProductCase, shared_bytes: int) -> bool:
    """Whether sums fit into registers and operands into shared memory, and no half lies outside."""
    tile = choice.tile
    if isinstance(tile, WarpTile):
        return choice.stages * (tile.rows + tile.columns) * WORD_BITS * 2 <= shared_bytes
    sizes = (
        (tile.rows, max(16, case.rows)),
        (tile.outputs, max(WORD_BITS, case.outputs)),
        (tile.words, max(SPLIT_WORDS, case.words)),
    )
    # the default may be larger than the product, no other
    if any(size >= 2 * needed for size, needed in sizes):
        return False
    sums = tile.rows * tile.outputs
    bits = case.weight_bits + case.input_bits
    words = (tile.rows + tile.outputs) * tile.words
    if choice.route == "popcount" and tile.rows <= FEW_ROWS:
        sums *= tile.words // SPLIT_WORDS
    shared = tile.stages * words * 4 * bits
    if choice.route == "int8":
        # a byte for each bit of a word
        shared += words * WORD_BITS
    threads = WORD_BITS * tile.warps
    return threads <= sums <= MOST_SUMS * threads and shared <= shared_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of one product.

    Attributes:
        row: The fastest way.
        default_ms: Of the default.
        timed: How many ways were timed.
        refused: Ways that could not run, with the reason.
        inexact: Ways whose result differs from the default's.
    """

    row: TimedChoice
    default_ms: float
    timed: int
    refused: dict[str, str]
    inexact: list[str]


def tune(
    product: TunedProduct,
    device: torch.device,
    *,
    capability: int,
    shared_bytes: int = LEAST_SHARED_BYTES,
    timer: Timer = timed,
    copies: int = 1,
) -> Outcome:
    """Find the fastest way to compute a product.

    Args:
        product: The product.
        device: Where it runs.
        capability: Ten times its compute capability.
        shared_bytes: Shared memory that a block may have.
        timer: Times all ways against each other.
        copies: Of the weight, taken in turn so that no cache holds them.

    Raises:
        ValueError: The device is too old.
    """
    x = _codes((product.conv.batch, product.conv.height, product.conv.width), product, device)
    weight = _weight(product, device)
    weights = [weight, *(replace(weight, rows=weight.rows.clone()) for _ in range(copies - 1))]
    finish = product.finish(device)
    default, *others = candidates(capability, product, shared_bytes)
    right = _call(product, default, weight, finish, x)()
    ways: dict[Choice, Calls] = {}
    refused: dict[str, str] = {}
    inexact: list[str] = []
    for choice in (default, *others):
        # the compiler and the device refuse in ways of their own; the reason is kept
        try:
            calls = [_call(product, choice, each, finish, x) for each in weights]
            if not torch.equal(calls[0](), right):
                inexact.append(str(choice))
                continue
        except Exception as error:
            if choice == default:
                raise
            refused[str(choice)] = f"{type(error).__name__}: {str(error):.200}"
            continue
        ways[choice] = calls
    times = [row["ms"] for row in timer(list(ways.values()))]
    best, ms = min(zip(ways, times, strict=True), key=lambda way: way[1])
    return Outcome(
        row=TimedChoice(case=product.case, choice=best, ms=ms),
        default_ms=times[0],
        timed=len(times),
        refused=refused,
        inexact=inexact,
    )


def _call(
    product: TunedProduct,
    choice: Choice,
    weight: GpuWeight,
    finish: Finish | None,
    x: PackedCodes,
) -> Callable[[], Tensor]:
    ready = prepare_choice(product.conv, product.x_format, weight, choice, finish=finish)
    if isinstance(ready, TensorCoreProduct):
        return partial(ready, x.words, x.popcount)
    return partial(ready, x.words)


def _codes(
    shape: tuple[int, ...], product: TunedProduct, device: torch.device, of_weight: bool = False
) -> PackedCodes:
    """Random bits in each plane of maps or of a weight."""
    conv = product.conv
    format = product.w_format if of_weight else product.x_format
    channels = conv.group_channels if of_weight else conv.channels
    generator = torch.Generator(device).manual_seed(1 + of_weight)
    bits = torch.randint(
        2, (format.bits, *shape, channels), generator=generator, device=device, dtype=torch.uint8
    )
    words = pack_bits(bits.bool())
    return PackedCodes(words=words, channels=channels, format=format, popcount=row_count(words))


def _weight(product: TunedProduct, device: torch.device) -> GpuWeight:
    conv = product.conv
    codes = _codes((conv.outputs, *conv.kernel), product, device, of_weight=True)
    return prepare_weight(codes, conv.groups)


def tune_file(
    path: Path,
    device: torch.device,
    *,
    products: Sequence[TunedProduct] = PRODUCTS,
    budget_s: float = BUDGET_S,
    progress: Callable[[str], None] = lambda name: None,
) -> dict[str, Any]:
    """Find the fastest ways on a CUDA device and keep them in a table.

    The file is written after each product. Products that are in it already are not timed again, so
    a second run goes on where the first one stopped.

    Args:
        path: Of the table.
        device: A CUDA device.
        products: What to time.
        budget_s: Seconds after which no product is begun.
        progress: Told what begins.

    Returns:
        Plain data: what was found, refused, inexact, failed and skipped.

    Raises:
        OSError: If the file cannot be read or written.
        ValueError: If the file is no table of this device.
    """
    facts = device_facts(device)

    def one(product: TunedProduct) -> Outcome:
        size = product.conv.outputs * product.case.words * 4 * product.w_format.bits
        few = product.conv.rows <= COLD_ROWS
        return tune(
            product,
            device,
            capability=facts.capability,
            shared_bytes=facts.shared_bytes,
            copies=copies_of(facts.cache_bytes, size) if few else 1,
        )

    return keep_tuning(
        path,
        facts.name,
        facts.capability,
        one,
        products=products,
        budget_s=budget_s,
        progress=progress,
    )


def keep_tuning(
    path: Path,
    device: str,
    capability: int,
    tune_one: Callable[[TunedProduct], Outcome],
    *,
    products: Sequence[TunedProduct] = PRODUCTS,
    budget_s: float = BUDGET_S,
    progress: Callable[[str], None] = lambda name: None,
    clock: Callable[[], float] = monotonic,
) -> dict[str, Any]:
    """As `tune_file`, by whatever tunes one product.

    Args:
        path: Of the table.
        device: Its name.
        capability: Ten times its compute capability.
        tune_one: Finds the fastest way of a product.
        products: What to time.
        budget_s: Seconds after which no product is begun.
        progress: Told what begins.
        clock: In seconds.
    """
    start = clock()
    rows: dict[ProductCase, TimedChoice] = {}
    if path.exists():
        before = read_table(path)
        if before.device != device:
            raise ValueError(f"{path} must be of {device}, but is of {before.device}.")
        rows = {row.case: row for row in before.rows}
    found: list[dict[str, Any]] = []
    refused: dict[str, dict[str, str]] = {}
    inexact: dict[str, list[str]] = {}
    failed: dict[str, str] = {}
    skipped: list[str] = []
    for product in products:
        if product.case in rows:
            continue
        if clock() - start > budget_s:
            skipped.append(product.name)
            continue
        progress(product.name)
        # of CUDA or the compiler; the next run would meet it again, and get no further
        try:
            outcome = tune_one(product)
        except Exception as error:
            failed[product.name] = f"{type(error).__name__}: {str(error):.200}"
            continue
        rows[product.case] = outcome.row
        found.append(
            {
                "name": product.name,
                "choice": str(outcome.row.choice),
                "ms": outcome.row.ms,
                "default_ms": outcome.default_ms,
                "timed": outcome.timed,
            }
        )
        if outcome.refused:
            refused[product.name] = outcome.refused
        if outcome.inexact:
            inexact[product.name] = outcome.inexact
        table = TuningTable(
            device=device,
            capability=capability,
            date=datetime.now(UTC).date().isoformat(),
            versions={"torch": torch.__version__, "triton": triton.__version__},
            rows=tuple(rows.values()),
        )
        _replace(path, table_text(table))
    return {
        "device": device,
        "file": str(path),
        "used_if_at": str(user_folder() / file_name(device)),
        "found": found,
        "refused": refused,
        "inexact": inexact,
        "failed": failed,
        "skipped": skipped,
        "seconds": clock() - start,
    }


def _replace(path: Path, text: str) -> None:
    """Write a file so that its name never stands for a part of it."""
    temporary = path.with_name(f".{path.name[:16]}.{uuid4().hex}")
    try:
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
