"""The 32-bit twin on a GPU, as fast as torch runs it: what packed inference is compared with.

It runs in bfloat16, which the tensor cores take, channels last, as a CUDA graph: once as torch
forms it, with cuDNN's fastest kernels, and once compiled by Inductor, with norms folded into
convolutions and kernels chosen by trial. The faster one is the twin. Its images are bfloat16
already; as those of the packed network they are copied to where the graph reads them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor

from bitfront.evaluators.latency.cuda import cuda_setting
from bitfront.evaluators.packed.cuda_graphs import captured, tuned_cudnn
from bitfront.spaces.architecture import Architecture
from bitfront.spaces.network import Network, build

INDUCTOR: Final = {"freezing": True, "max_autotune": True}
"""Options of the compiled twin. ``freezing`` folds norms; the CUDA graph is ours."""

TOLERANCE: Final = 0.1
"""Largest relative error of a twin's logits, which bfloat16 rounds on the way."""

_HOW: Final = "bfloat16, CUDA graph"


class Contender(NamedTuple):
    """One way to run the twin.

    Attributes:
        runtime: What runs it: "onnxruntime".
        call: Runs it once; on a GPU it only queues that. None where it is absent.
        absent: Why.
    """

    runtime: str
    call: Callable[[], object] | None
    absent: str = ""


def cuda_twins(architecture: Architecture, *, batch: int) -> list[Contender]:
    """The ways to run the twin of an architecture on the current CUDA device.

    Compiling takes a minute or more. Those of an earlier call cannot be run any more.

    Args:
        architecture: Of the low-bit network.
        batch: Images of one call; they are random.

    Raises:
        InvalidValue: If there is no such device.
    """
    cuda_setting(batch=batch)
    network = bfloat16(build(architecture.twin()).eval()).to("cuda")
    images = torch.randn(batch, *architecture.input, device="cuda", dtype=torch.bfloat16)
    images = images.contiguous(memory_format=torch.channels_last)
    with torch.no_grad(), tuned_cudnn():
        right = network(images).float()
        found = [_graph("torch", network, images, right)]
        try:
            found.append(_graph("torch.compile", compiled(network), images, right))
        except Exception as error:
            # Inductor has no one exception for what may be missing: a C compiler, or an operation
            reason = (str(error).strip() or repr(error)).splitlines()[0][:200]
            found.append(Contender(f"torch.compile, {_HOW}", None, reason))
    return found


def _graph(
    runtime: str, call: Callable[[Tensor], Tensor], images: Tensor, right: Tensor
) -> Contender:
    replay = captured(call, images)
    name = f"{runtime}, {_HOW}"
    if replay is None:
        return Contender(name, None, "it cannot be captured as a CUDA graph")
    # kernels that were chosen for their speed have been wrong: pytorch/pytorch#173068
    error = float((replay(images).float() - right).norm() / right.norm().clamp_min(1e-9))
    # also where the error is no number
    if not error <= TOLERANCE:
        return Contender(name, None, f"its logits have a relative error of {error:.3g}")
    return Contender(name, partial(replay, images))


def bfloat16(network: Network) -> Network:
    """A network in bfloat16 with channels last, where it is."""
    # torch's types know no module with a memory format
    changed: Any = network.to(torch.bfloat16)
    result: Network = changed.to(memory_format=torch.channels_last)
    return result


def compiled(network: Network) -> Callable[[Tensor], Tensor]:
    """A network compiled as a whole, for images of one shape."""
    # all networks share one forward, and Dynamo compiles it a few times at most
    torch.compiler.reset()
    call: Callable[[Tensor], Tensor] = torch.compile(
        network, fullgraph=True, dynamic=False, options=dict(INDUCTOR)
    )
    return call
