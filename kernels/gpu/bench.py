"""How fast the GPU kernels are beside cuBLAS and cuDNN, in one run without attendance.

``python -m bitfront.kernels.gpu.bench --output gpu.json`` on a machine with a CUDA device; some
minutes, no network. Every kernel is checked for exactness on odd and on large shapes before it is
timed: a wrong kernel has no speed. Times are those of CUDA graphs, so a launch from Python costs
nothing; operands stay in the caches where they fit.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import sys
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from statistics import median, quantiles
from time import monotonic
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from bitfront.kernels import reference
from bitfront.kernels.geometry import Conv2dGeometry
from bitfront.kernels.gpu.finish import Affine, Threshold, finished
from bitfront.kernels.gpu.product import Method, prepare_triton_product
from bitfront.kernels.gpu.roofline import CASES, GpuCase, Limits, conv_case, gemm_case, ratios
from bitfront.kernels.gpu.tensor_core_product import (
    LARGE,
    SQUARE,
    TensorCoreProduct,
    choose_tile,
    launch,
    prepare_tensor_core_product,
)
from bitfront.kernels.gpu.weight import prepare_weight
from bitfront.kernels.layout import BINARY, CodeFormat, PackedBits, PackedCodes
from bitfront.kernels.packing import pack, pack_codes, row_count, unpack_bits

BUDGET_S: Final = 480
"""Cases that would start later are named skipped."""

DEVICE: Final = "cuda"
ROUNDS: Final = 20
GRAPH_MS: Final = 2.0
FEW_ROWS: Final = 64
"""Up to so many rows counting bits is measured, and the tensor cores read from registers."""

ODD: Final = (
    conv_case(33, 9, 3),
    conv_case(130, 5, 2),
    gemm_case(1, 1, 1),
    gemm_case(67, 45, 1000),
    gemm_case(129, 257, 4097),
)


class NoDevice(Exception):
    """There is nothing to measure."""


class InexactKernel(Exception):
    """A kernel gave other numbers than the reference."""


class Contender(NamedTuple):
    """One way to compute a case.

    Attributes:
        name: Library or kernel.
        precision: "bf16", "int8" or "1-bit".
        result_bits: Of a number of its result.
        call: Computes it once.
        unit: What bounds it: "popcount", "binary", or "" where that is not known.
    """

    name: str
    precision: str
    result_bits: int
    call: Callable[[], object]
    unit: str = ""


def operands(case: GpuCase, seed: int) -> tuple[PackedBits, PackedBits]:
    """Random signs on the device."""
    conv = case.conv
    generator = torch.Generator(DEVICE).manual_seed(seed)

    def signs(*shape: int) -> PackedBits:
        return pack(torch.randn(*shape, device=DEVICE, dtype=torch.float16, generator=generator))

    x = signs(conv.batch, conv.height, conv.width, conv.channels)
    return x, signs(conv.outputs, *conv.kernel, conv.channels)


def expected_sums(case: GpuCase, x: PackedBits, w: PackedBits) -> Tensor:
    """By int8 tensor cores where there are many rows, else by the reference; padded with -1."""
    conv = case.conv
    if case.is_matrix and conv.rows >= 1024:
        a, b = (
            (2 * unpack_bits(bits.words, conv.channels) - 1).to(torch.int8).flatten(0, 2)
            for bits in (x, w)
        )
        return torch._int_mm(a, b.T).reshape(1, 1, conv.rows, conv.outputs)
    return reference.xnor_conv2d(x, w, padding=conv.padding, fill=-1)


def threshold_of(outputs: int) -> Threshold:
    """A batch norm and a sign."""
    numbers = torch.arange(outputs, device=DEVICE, dtype=torch.int32)
    return Threshold(threshold=numbers % 7 - 3, flip=numbers % 3 == 0)


def check(case: GpuCase) -> list[str]:
    """Compare every kernel with the expected result.

    Returns:
        What was compared.

    Raises:
        InexactKernel: A result differs.
    """
    x, w = operands(case, 1)
    sums, weight, conv = expected_sums(case, x, w), prepare_weight(w), case.conv
    threshold = threshold_of(conv.outputs)
    floats = torch.full((conv.outputs,), 0.5, device=DEVICE)
    done = []

    def require(name: str, equal: bool) -> None:
        if not equal:
            raise InexactKernel(f"{case.name}: {name} must equal the reference, but does not.")
        done.append(f"{case.name}: {name}")

    methods: tuple[Method, ...] = ("popcount", "int8") if conv.rows <= 1024 else ()
    for finish in (None, threshold, Affine(scale=floats, shift=floats)):
        right, kind = finished(sums, finish), type(finish).__name__
        for method in methods:
            made = prepare_triton_product(
                conv, BINARY, weight, method=method, fill=-1, finish=finish
            )(x.words[None])
            require(f"{method}, {kind}", torch.equal(made, right))
        for stages in (0, 4):
            product = prepare_tensor_core_product(
                conv, BINARY, weight, fill=-1, finish=finish, stages=stages
            )
            made = product(x.words[None], x.popcount[None])
            require(f"tensor cores, {stages} stages, {kind}", torch.equal(made, right))
    packed = prepare_tensor_core_product(conv, BINARY, weight, fill=-1, finish=threshold).packed(x)
    require("popcounts", torch.equal(packed.popcount, row_count(packed.words)))
    return done


def check_planes(case: GpuCase) -> list[str]:
    """Compare products of signs and of 2-bit codes in a border of zeros, as `check`.

    Raises:
        InexactKernel: A result differs.
    """
    conv, done = case.conv, []
    signs = prepare_weight(operands(case, 3)[1])
    w = PackedCodes(
        words=signs.words, channels=conv.channels, format=BINARY, popcount=row_count(signs.words)
    )
    shape = (conv.batch, conv.height, conv.width, conv.channels)
    for format in (BINARY, CodeFormat(bits=2, coding="unsigned")):
        codes = torch.arange(math.prod(shape), device=DEVICE).reshape(shape) * 5 // 3
        x = pack_codes(format.low + format.step * (codes % 2**format.bits), format)
        right = reference.bitserial_conv2d(x, w, padding=conv.padding)
        for stages in (0, 4):
            product = prepare_tensor_core_product(conv, format, signs, stages=stages)
            name = f"{case.name}: {format.bits} bits, zeros outside, {stages} stages"
            if not torch.equal(product(x.words, x.popcount), right):
                raise InexactKernel(f"{name} must equal the reference, but does not.")
            done.append(name)
    return done


def contenders(case: GpuCase) -> Iterator[Contender]:
    """Peers and kernels of a case."""
    yield from _peers(case)
    x, w = operands(case, 2)
    conv, words, weight = case.conv, x.words[None], prepare_weight(w)
    if not case.is_matrix:
        for stages in (0, 4):
            layer = _tensor_core(conv, weight, stages, threshold_of(conv.outputs))
            name = f"b1 layer, {stages} stages"
            yield Contender(name, "1-bit", 1, partial(layer.packed, x), "binary")
        return
    ones = x.popcount[None]
    if conv.rows <= FEW_ROWS:
        made = prepare_triton_product(conv, BINARY, weight, method="popcount")
        yield Contender("popcount", "1-bit", 32, lambda: made(words), "popcount")
    is_wide = conv.rows > FEW_ROWS
    for tile in (SQUARE, LARGE) if is_wide else (choose_tile(conv.rows, conv.outputs),):
        for stages in (0, 4):
            product = prepare_tensor_core_product(conv, BINARY, weight, tile=tile, stages=stages)
            name = f"b1 gemm {tile.rows}x{tile.columns}, {stages} stages"
            yield Contender(name, "1-bit", 32, partial(product, words, ones), "binary")
            # where rows end on a whole step
            if tile == SQUARE and conv.channels % 512 == 0:
                yield Contender(f"{name}, XOR", "XOR", 32, _xor(product, words, ones))
    if is_wide:
        int8 = prepare_triton_product(conv, BINARY, weight, method="int8")
        yield Contender("unpacked to int8", "1-bit", 32, lambda: int8(words))


def _tensor_core(
    conv: Conv2dGeometry, weight: Any, stages: int, finish: Threshold
) -> TensorCoreProduct:
    return prepare_tensor_core_product(conv, BINARY, weight, fill=-1, finish=finish, stages=stages)


def _xor(product: TensorCoreProduct, words: Tensor, ones: Tensor) -> Callable[[], object]:
    """The same kernel with XOR, as libraries for older devices have it."""
    conv = product.conv
    out = torch.empty(conv.rows, conv.outputs, dtype=torch.int32, device=DEVICE)
    kernel, count, arguments, warps = product.launch_arguments(words, ones[..., None], out)
    length = torch.full((conv.outputs,), conv.dot_length, dtype=torch.int32, device=DEVICE)
    changed = {"OPERATOR": "xor", "LAST": -2, "ROW_VALUES": (0,), "beta_ptr": length}
    return lambda: launch(kernel, count, {**arguments, **changed}, warps)


def _peers(case: GpuCase) -> Iterator[Contender]:
    conv = case.conv
    if not case.is_matrix:
        x = torch.randn(conv.batch, conv.channels, conv.height, conv.width, device=DEVICE)
        w = torch.randn(conv.outputs, conv.channels, *conv.kernel, device=DEVICE)
        nhwc = [v.bfloat16().to(memory_format=torch.channels_last) for v in (x, w)]
        yield Contender("cuDNN", "bf16", 16, lambda: F.conv2d(nhwc[0], nhwc[1], padding=1))
        return
    a = torch.randn(conv.rows, conv.channels, device=DEVICE).bfloat16()
    b = torch.randn(conv.outputs, conv.channels, device=DEVICE).bfloat16()
    yield Contender("cuBLAS", "bf16", 16, lambda: torch.mm(a, b.T))
    # which takes more than 16 rows
    if conv.rows > 16:
        signs = [v.sign().to(torch.int8) for v in (a, b)]
        yield Contender("torch._int_mm", "int8", 32, lambda: torch._int_mm(signs[0], signs[1].T))


def timed(calls: Sequence[Callable[[], object]]) -> list[dict[str, float]]:
    """Milliseconds of each call, in CUDA graphs that take turns: median, tenths, least."""
    graphs = [_graph(call) for call in calls]
    seen: list[list[float]] = [[] for _ in calls]
    cuda: Any = torch.cuda
    begin, end = (cuda.Event(enable_timing=True) for _ in range(2))
    for _ in range(ROUNDS):
        for times, (graph, count) in zip(seen, graphs, strict=True):
            begin.record()
            graph.replay()
            end.record()
            end.synchronize()
            times.append(begin.elapsed_time(end) / count)
    rows = []
    for times in seen:
        low, *_, high = quantiles(times, n=10)
        rows.append({"ms": median(times), "ms_p10": low, "ms_p90": high, "ms_min": min(times)})
    return rows


def _graph(call: Callable[[], object]) -> tuple[Any, int]:
    """A graph of as many calls as take some milliseconds, and how many they are."""
    cuda: Any = torch.cuda
    cuda.synchronize()
    stream = cuda.Stream()
    with cuda.stream(stream):
        for _ in range(3):
            call()
        begin, end = (cuda.Event(enable_timing=True) for _ in range(2))
        begin.record(stream)
        call()
        end.record(stream)
        stream.synchronize()
    count = max(1, min(200, int(GRAPH_MS / max(begin.elapsed_time(end), 1e-3))))
    graph = cuda.CUDAGraph()
    with cuda.graph(graph):
        for _ in range(count):
            call()
    graph.replay()
    cuda.synchronize()
    return graph, count


def measured(case: GpuCase, limits: Limits) -> dict[str, Any]:
    """Times, ratios and shares of what the device can do at most."""
    ways = list(contenders(case))
    rows = []
    for way, times in zip(ways, timed([way.call for way in ways]), strict=True):
        row: dict[str, Any] = {"name": way.name, "precision": way.precision, **times}
        row["macs_per_s"] = case.macs / times["ms"] * 1e3
        if way.unit:
            binary, popcount = limits.binary_macs_per_s, limits.popcount_macs_per_s
            rate = binary if way.unit == "binary" else popcount
            least = limits.least_ms(case.macs, rate, case.bytes(1, way.result_bits))
            row |= {"roofline_ms": least, "share_of_roofline": least / times["ms"]}
        rows.append(row)
    return {"name": case.name, "macs": case.macs, "contenders": rows, "ratios": ratios(rows)}


def device_limits() -> Limits:
    """Of the current device; its bandwidth by a copy that no cache holds."""
    properties: Any = torch.cuda.get_device_properties(0)
    source = torch.zeros(1 << 30, dtype=torch.uint8, device=DEVICE)
    target = torch.empty_like(source)
    copy = timed([lambda: target.copy_(source)])[0]["ms_min"]
    return Limits(
        multiprocessors=properties.multi_processor_count,
        clock_hz=float(properties.clock_rate) * 1e3,
        bytes_per_s=2 * source.numel() / copy * 1e3,
    )


def run(
    cases: Sequence[GpuCase] = CASES, progress: Callable[[str], None] = lambda name: None
) -> dict[str, Any]:
    """Check, then measure.

    Args:
        cases: What to measure.
        progress: Told what begins.

    Returns:
        Plain data.

    Raises:
        NoDevice: There is no CUDA device.
        InexactKernel: A kernel is not exact.
    """
    if not torch.cuda.is_available():
        raise NoDevice(
            "The GPU benchmark needs a CUDA device of capability 8.0 to 9.0, but torch "
            f"{torch.__version__} finds none on this machine."
        )
    start = monotonic()
    torch.backends.cudnn.benchmark = True
    exact = []
    for case in (*ODD, conv_case(64, 56, 8), conv_case(512, 7, 8), gemm_case(2048, 4096, 8192)):
        progress(f"exactness: {case.name}")
        exact += check(case)
    for case in ODD:
        exact += check_planes(case)
    limits = device_limits()
    rows, skipped = [], []
    for case in cases:
        if monotonic() - start > BUDGET_S:
            skipped.append(case.name)
            continue
        progress(case.name)
        rows.append(measured(case, limits))
    return {
        "benchmark": "gpu kernels",
        "device": torch.cuda.get_device_name(0),
        "capability": list(torch.cuda.get_device_capability(0)),
        "date": datetime.now(UTC).date().isoformat(),
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "clock": "CUDA events around CUDA graphs, operands in the caches where they fit",
        "rounds": ROUNDS,
        "limits": {
            "multiprocessors": limits.multiprocessors,
            "clock_hz": limits.clock_hz,
            "bytes_per_s": limits.bytes_per_s,
            "popcount_macs_per_s": limits.popcount_macs_per_s,
            "binary_macs_per_s": limits.binary_macs_per_s,
        },
        "exact": exact,
        "cases": rows,
        "skipped": skipped,
        "seconds": monotonic() - start,
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the result as JSON, or write it to a file; 1 where there is nothing to measure."""
    parser = argparse.ArgumentParser(
        prog="python -m bitfront.kernels.gpu.bench", description=__doc__
    )
    parser.add_argument("--output", type=Path, help="a file for the JSON")
    given = parser.parse_args(arguments)
    try:
        result = run(progress=lambda name: print(name, file=sys.stderr, flush=True))
    except (NoDevice, InexactKernel) as error:
        print(error, file=sys.stderr)
        return 1
    text = json.dumps(result, indent=1)
    if given.output is None:
        print(text)
    else:
        given.output.write_text(text + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
