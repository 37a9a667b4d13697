"""What every launch needs: a device that runs the kernels, and tensors that are on it."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
import triton
from torch import Tensor


def interprets() -> bool:
    """Whether the kernels were made for Triton's interpreter, which runs them on the CPU."""
    from bitfront.kernels.gpu.bits import popcount

    return not isinstance(popcount, triton.JITFunction)


def require_device(name: str, x: Tensor) -> None:
    """Check that a tensor is where kernels run.

    Raises:
        ValueError: It is not.
    """
    if x.device.type != "cuda" and not (interprets() and x.device.type == "cpu"):
        raise ValueError(
            f"`{name}` must be on a CUDA device, but is on {x.device}. (Where TRITON_INTERPRET=1 "
            "is set before Triton is loaded, the kernels are interpreted on the CPU, for tests.)"
        )


def on_device(x: Tensor) -> AbstractContextManager[object]:
    """Launch on the device of a tensor, whichever is the current one."""
    return torch.cuda.device(x.device) if x.device.type == "cuda" else nullcontext()


def blocks(size: int, block: int) -> int:
    """Blocks that cover a size: ``ceil(size / block)``."""
    return -(-size // block)


def power_of_two(size: int) -> int:
    """The smallest power of two that is no less."""
    return 1 << (size - 1).bit_length()
