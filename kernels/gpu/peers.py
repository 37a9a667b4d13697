"""Other libraries on the same products: what ours are compared with.

cuBLAS, cuDNN and torch's int8 product are always there. GemLite and BitBLAS take part where they
are installed; they have 1-bit weights but keep activations of 16 and 8 bits, and say so in their
precision. A library that is missing, fails or gives another result is named with the reason.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from importlib import import_module
from time import monotonic
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from bitfront.kernels.gpu.roofline import GpuCase
from bitfront.kernels.gpu.timing import Calls

LIBRARY_SECONDS: Final = 90.0
"""For what other libraries compile and tune in a run; then they are left out."""

TOLERANCE: Final = 0.01
"""Largest relative error of a peer's result, which is rounded to 16 bits."""


class Contender(NamedTuple):
    """One way to compute a case.

    Attributes:
        name: Library or kernel.
        precision: "bf16", "int8", "W1A16", "W1A8", "XOR" or "1-bit".
        operand_bits: Of a number of the maps.
        result_bits: Of a number of its result.
        calls: Each computes it once.
        unit: What bounds it: "popcount", "binary", or "" where that is not known.
        weight_bits: Of a number of the weight; None where it is that of the maps.
        is_optional: Whether a run goes on without it, should it fail.
    """

    name: str
    precision: str
    operand_bits: int
    result_bits: int
    calls: Calls
    unit: str = ""
    weight_bits: int | None = None
    is_optional: bool = False


class Absent(NamedTuple):
    """A peer that did not take part, and why."""

    name: str
    precision: str
    reason: str


def torch_peers(
    case: GpuCase, device: torch.device, turns: Callable[[int], int]
) -> Iterator[Contender]:
    """What torch brings.

    Args:
        case: The product.
        device: Where it runs.
        turns: How many weights of so many bytes are taken in turn.
    """
    conv = case.conv
    if not case.is_matrix:
        x = torch.randn(conv.batch, conv.channels, conv.height, conv.width, device=device)
        w = torch.randn(conv.outputs, conv.channels, *conv.kernel, device=device)
        nhwc = [v.bfloat16().to(memory_format=torch.channels_last) for v in (x, w)]
        call = partial(F.conv2d, nhwc[0], nhwc[1], padding=conv.padding)
        yield Contender("cuDNN", "bf16", 16, 16, (call,))
        return
    a = torch.randn(conv.rows, conv.channels, device=device).bfloat16()
    b = torch.randn(conv.outputs, conv.channels, device=device).bfloat16()
    weights = copies(b, turns)
    yield Contender("cuBLAS", "bf16", 16, 16, [partial(torch.mm, a, w.T) for w in weights])
    # which takes more than 16 rows
    if conv.rows > 16:
        signs = [v.sign().to(torch.int8) for v in (a, b)]
        weights = copies(signs[1], turns)
        calls = [partial(torch._int_mm, signs[0], w.T) for w in weights]
        yield Contender("torch._int_mm", "int8", 8, 32, calls)


def copies(weight: Tensor, turns: Callable[[int], int]) -> list[Tensor]:
    """A weight as often as it is taken in turn."""
    count = turns(weight.numel() * weight.element_size())
    return [weight, *(weight.clone() for _ in range(count - 1))]


class OtherLibraries:
    """GemLite and BitBLAS, for so many seconds of a run.

    Args:
        device: Where they run.
        seconds: What all their preparations together may take before no other is begun.
        clock: In seconds.
    """

    def __init__(
        self,
        device: torch.device,
        seconds: float = LIBRARY_SECONDS,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._device = device
        self._left = seconds
        self._clock = clock
        self.absent: dict[str, str] = {}

    def contenders(
        self, case: GpuCase, a_MK: Tensor, b_NK: Tensor, turns: Callable[[int], int]
    ) -> Iterator[Contender | Absent]:
        """Those that compute a matrix product rightly; the others with the reason.

        Args:
            case: The product.
            a_MK: int8, its rows: -1 and 1.
            b_NK: int8, its weight: -1 and 1.
            turns: How many weights of so many bytes are taken in turn.
        """
        for name, precision, operand_bits, result_bits, prepare in (
            ("GemLite", "W1A16", 16, 16, gemlite_calls),
            ("BitBLAS", "W1A8", 8, 32, bitblas_calls),
        ):
            reason = self.absent.get(name)
            start = self._clock()
            calls: Calls = ()
            if reason is None and self._left <= 0:
                reason = "the time for other libraries was used up"
            if reason is None:
                # a peer may fail in any way of its own; the way is kept, and ours are measured
                try:
                    calls = prepare(a_MK, b_NK, turns(b_NK.numel() // 8))
                    reason = _wrong(calls[0](), a_MK, b_NK)
                except ModuleNotFoundError as error:
                    reason = f"the package {error.name} is not installed"
                    self.absent[name] = reason
                except Exception as error:
                    reason = f"{type(error).__name__}: {str(error):.200}"
                self._left -= self._clock() - start
            if reason is not None:
                yield Absent(name, precision, reason)
            else:
                yield Contender(name, precision, operand_bits, result_bits, calls, "", 1, True)


def _wrong(made: object, a_MK: Tensor, b_NK: Tensor) -> str | None:
    right = a_MK.float() @ b_NK.float().T
    if not isinstance(made, Tensor) or made.shape != right.shape:
        return "its result has another shape"
    error = float((made.float() - right).norm() / right.norm())
    # also where the error is no number
    if not error <= TOLERANCE:
        return f"its result has a relative error of {error:.3g}"
    return None


def gemlite_calls(a_MK: Tensor, b_NK: Tensor, turns: int) -> Calls:
    """GemLite 0.6: weights of 1 bit, activations and results in float16."""
    helper: Any = import_module("gemlite.helper")
    packer = helper.A16W1_HQQ_INT(device=str(a_MK.device), dtype=torch.float16)
    # a weight is (bit - zero) * scale
    scale = torch.full((len(b_NK), 1), 2.0, device=b_NK.device, dtype=torch.float16)
    bits = (b_NK > 0).to(torch.uint8)
    x = a_MK.half()
    layers = [packer.from_weights(bits, scale, scale / 4) for _ in range(turns)]
    return [partial(layer, x) for layer in layers]


def bitblas_calls(a_MK: Tensor, b_NK: Tensor, turns: int) -> Calls:
    """BitBLAS 0.1: weights of 1 bit, activations of 8, sums in int32."""
    bitblas: Any = import_module("bitblas")
    config = bitblas.MatmulConfig(
        M=len(a_MK),
        N=len(b_NK),
        K=a_MK.shape[1],
        A_dtype="int8",
        W_dtype="int1",
        accum_dtype="int32",
        out_dtype="int32",
        layout="nt",
        with_bias=False,
        with_scaling=False,
        with_zeros=False,
    )
    product = bitblas.Matmul(config=config)
    packed = product.transform_weight(b_NK)
    weights = [packed, *(packed.clone() for _ in range(turns - 1))]
    return [partial(product, a_MK, weight) for weight in weights]
