"""Whether a training can fit the memory of a device, asked before anything is allocated.

Linux grants more memory than there is and kills whoever uses it, so an allocation that must fail is
better refused than tried.
"""

from __future__ import annotations

import os
import resource
from contextlib import suppress
from math import prod
from pathlib import Path
from typing import Final

import torch

from bitfront.evaluators.training.errors import EvaluationFailed
from bitfront.spaces.graph import Graph

CGROUP_LIMIT: Final = Path("/sys/fs/cgroup/memory.max")

MARGIN: Final = 2
"""The estimate counts maps that a step may share or drop early, so it must be this far above."""


def activation_bytes(graph: Graph, batch_size: int) -> int:
    """Bytes of the feature maps that a training step keeps: 4 per value; views share theirs."""
    return 4 * batch_size * sum(n.type.elements for n in graph.nodes if not n.op.view)


def device_bytes(device: torch.device) -> int:
    """Memory of a device; on the CPU what this process may use of it."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    limits = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    if soft != resource.RLIM_INFINITY:
        limits.append(soft)
    # there may be no such group, and its limit may be "max"
    with suppress(OSError, ValueError):
        limits.append(int(CGROUP_LIMIT.read_text()))
    return min(limits)


def check_memory(graph: Graph, batch_size: int, device: torch.device) -> None:
    """Refuse a training that cannot fit.

    Args:
        graph: Of the network.
        batch_size: Images of the largest step.
        device: Where it would run.

    Raises:
        EvaluationFailed: If its weights, gradients and feature maps take far more than there is.
    """
    weights = 8 * sum(prod(row.shape) for row in graph.parameters())
    maps = activation_bytes(graph, batch_size)
    there = device_bytes(device)
    if weights + maps > MARGIN * there:
        raise EvaluationFailed(
            f"The memory of {device}, {there / 2**30:.3g} GiB, does not suffice: weights and "
            f"gradients take {weights / 2**30:.3g} GiB and the feature maps of one training step "
            f"of {batch_size} images {maps / 2**30:.3g} GiB. A smaller batch_size, input or "
            "network needs less."
        )
