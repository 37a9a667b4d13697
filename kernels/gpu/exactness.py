"""Comparisons of the GPU kernels with the exact reference, on the device that will be measured."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor

from bitfront.kernels import reference
from bitfront.kernels.finish import Affine, Finish, Requantise, Threshold, finished
from bitfront.kernels.gpu.comparing import Bounds, pack_compared
from bitfront.kernels.gpu.packing import pack as gpu_pack
from bitfront.kernels.gpu.product import Method, prepare_triton_product
from bitfront.kernels.gpu.roofline import GpuCase
from bitfront.kernels.gpu.tensor_core_product import prepare_tensor_core_product
from bitfront.kernels.gpu.weight import prepare_weight
from bitfront.kernels.layout import BINARY, CodeFormat, PackedBits, PackedCodes
from bitfront.kernels.packing import pack, pack_bits, pack_codes, row_count, unpack_bits


class InexactKernel(Exception):
    """A kernel gave other numbers than the reference, or did not run."""


def all_checked(
    checks: Mapping[str, Callable[[], int]], progress: Callable[[str], None]
) -> dict[str, int]:
    """Make all checks, also where some fail: a device is there for minutes.

    Args:
        checks: By name; each gives how many results it compared.
        progress: Told what begins.

    Returns:
        How many results were compared, by name.

    Raises:
        InexactKernel: Some failed: each is named.
    """
    done: dict[str, int] = {}
    wrong: list[str] = []
    for name, way in checks.items():
        progress(f"exactness: {name}")
        try:
            done[name] = way()
        except InexactKernel as error:
            wrong.append(str(error))
        # of CUDA or the compiler: a kernel that does not run
        except Exception as error:
            wrong.append(f"{name}: {type(error).__name__}: {str(error):.200}")
    if wrong:
        raise InexactKernel("\n".join(wrong))
    return done


def operands(case: GpuCase, seed: int, device: torch.device) -> tuple[PackedBits, PackedBits]:
    """Random signs on a device: maps and weight."""
    conv = case.conv
    generator = torch.Generator(device).manual_seed(seed)

    def signs(*shape: int) -> PackedBits:
        return pack(torch.randn(*shape, device=device, dtype=torch.float16, generator=generator))

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


def threshold_of(outputs: int, device: torch.device) -> Threshold:
    """A batch norm and a sign."""
    numbers = torch.arange(outputs, device=device, dtype=torch.int32)
    return Threshold(threshold=numbers % 7 - 3, flip=numbers % 3 == 0)


def finishes(
    outputs: int, device: torch.device, *, every: bool
) -> Iterator[tuple[str, Finish | None]]:
    """What the sums become: as they are and as bits, or in every way that a kernel knows."""
    threshold = threshold_of(outputs, device)
    yield "sums", None
    yield "bits", threshold
    if not every:
        return
    steps = torch.tensor([-9, 0, 4], device=device, dtype=torch.int32)[:, None]
    yield "codes", Requantise(thresholds=threshold.threshold + steps, flip=threshold.flip)
    numbers = torch.arange(outputs, device=device).float()
    scale, shift = (numbers % 5 - 2) / 7, numbers % 3 / 3
    yield "bfloat16", Affine(scale=scale, shift=shift, dtype=torch.bfloat16)
    yield "float32", Affine(scale=scale, shift=shift, dtype=torch.float32)
    yield "rectified", Affine(scale=scale, shift=shift, rectifies=True)
    yield (
        "rectified, normed",
        Affine(scale=scale, shift=shift, rectifies=True, scale_after=shift, shift_after=scale),
    )
    yield "merged", Affine(scale=scale, shift=shift, merges=True)


def check(
    case: GpuCase, device: torch.device, *, every: bool = False, has_tensor_cores: bool = True
) -> int:
    """Compare every kernel with the expected result.

    Args:
        case: The product.
        device: Where it runs.
        every: Whether to try every finish.
        has_tensor_cores: Whether the device has 1-bit ones.

    Returns:
        How many results were compared.

    Raises:
        InexactKernel: A result differs.
    """
    x, w = operands(case, 1, device)
    sums, weight, conv = expected_sums(case, x, w), prepare_weight(w), case.conv
    words, ones = x.words[None], x.popcount[None]
    done = 0
    wrong: list[str] = []

    def require(name: str, equal: bool) -> None:
        nonlocal done
        if not equal:
            wrong.append(name)
        done += 1

    methods: tuple[Method, ...] = ("popcount", "int8") if conv.rows <= 1024 else ()
    for kind, finish in finishes(conv.outputs, device, every=every):
        before, right = _merged(sums, finish)
        for method in methods:
            triton = prepare_triton_product(
                conv, BINARY, weight, method=method, fill=-1, finish=finish
            )
            made = triton(words) if before is None else triton(words, out=before.clone())
            require(f"{method}, {kind}", torch.equal(made, right))
        for stages in (0, 4) if has_tensor_cores else ():
            gluon = prepare_tensor_core_product(
                conv, BINARY, weight, fill=-1, finish=finish, stages=stages
            )
            made = gluon(words, ones) if before is None else gluon(words, ones, out=before.clone())
            require(f"tensor cores, {stages} stages, {kind}", torch.equal(made, right))
    if has_tensor_cores:
        threshold = threshold_of(conv.outputs, device)
        product = prepare_tensor_core_product(conv, BINARY, weight, fill=-1, finish=threshold)
        packed = product.packed(x)
        require("popcounts", torch.equal(packed.popcount, row_count(packed.words)))
    if wrong:
        raise InexactKernel(
            f"{case.name}: {len(wrong)} of {done} must equal the reference, but do not: "
            f"{'; '.join(wrong)}."
        )
    return done


def _merged(sums: Tensor, finish: Finish | None) -> tuple[Tensor | None, Tensor]:
    """What is in the result before, if the finish adds to it, and the result."""
    right = finished(sums, finish)
    if not (isinstance(finish, Affine) and finish.merges):
        return None, right
    # halves, so that neither float32 nor the order of a sum rounds them
    before = torch.arange(right.numel(), device=right.device).reshape(right.shape) % 8 / 2
    return before, before + right


def check_planes(case: GpuCase, device: torch.device) -> int:
    """Compare products of signs and of 2-bit codes in a border of zeros, as `check`.

    Args:
        case: The product.
        device: Where it runs.

    Returns:
        How many results were compared.

    Raises:
        InexactKernel: A result differs.
    """
    conv, done = case.conv, 0
    signs = prepare_weight(operands(case, 3, device)[1])
    w = PackedCodes(
        words=signs.words, channels=conv.channels, format=BINARY, popcount=row_count(signs.words)
    )
    shape = (conv.batch, conv.height, conv.width, conv.channels)
    for format in (BINARY, CodeFormat(bits=2, coding="unsigned")):
        codes = torch.arange(math.prod(shape), device=device).reshape(shape) * 5 // 3
        x = pack_codes(format.low + format.step * (codes % 2**format.bits), format)
        right = reference.bitserial_conv2d(x, w, padding=conv.padding)
        for stages in (0, 4):
            product = prepare_tensor_core_product(conv, format, signs, stages=stages)
            name = f"{case.name}: {format.bits} bits, zeros outside, {stages} stages"
            if not torch.equal(product(x.words, x.popcount), right):
                raise InexactKernel(f"{name} must equal the reference, but does not.")
            done += 1
    return done


def check_packing(device: torch.device) -> int:
    """Compare the packers of signs and of codes with torch on odd shapes.

    Args:
        device: Where they run.

    Returns:
        How many results were compared.

    Raises:
        InexactKernel: A result differs.
    """
    done = 0
    changes = (1, 3, 1)
    for shape in ((1, 1, 1, 1), (3, 5, 7, 67), (2, 3, 3, 130)):
        generator = torch.Generator(device).manual_seed(shape[-1])
        x = torch.randn(shape, device=device, generator=generator)
        steps = torch.tensor([-0.5, 0.0, 0.5], device=device)[:, None]
        values = steps + torch.randn(shape[-1], device=device, generator=generator)
        flips = torch.arange(3 * shape[-1], device=device).reshape(3, -1) % 5 == 0
        bounds = Bounds(values=values, flips=flips, changes=changes, start=2, planes=2)
        codes = torch.full(shape, 2, device=device)
        for value, flip, change in zip(values, flips, changes, strict=True):
            codes ^= ((x >= value) != flip) * change
        planes = torch.stack([pack_bits((codes >> q & 1).bool()) for q in range(2)])
        made, right = gpu_pack(x), pack(x)
        for name, equal in (
            ("signs", torch.equal(made.words, right.words)),
            ("popcounts of signs", torch.equal(made.popcount, right.popcount)),
            ("codes", torch.equal(pack_compared(x, bounds), planes)),
        ):
            if not equal:
                raise InexactKernel(
                    f"packing {list(shape)}: {name} must equal the reference, but do not."
                )
            done += 1
    return done
