"""What a training step of a binary network costs, beside its 32-bit twin and other libraries.

A step is what the trainer does with a batch: forward, loss, backward, optimizer. A binary network
and its twin take turns, so that what else the machine does meets both; a ratio is taken in each
round, and its median and quartiles are reported. With one thread, time is processor time of the
process; with more it is wall time, because waiting threads burn processor time too, and then only
a quiet machine gives figures worth reading.

The layers are batch norm, sign and binary 3x3 convolution at ResNet-18's four sizes, forward and
backward, written with bitfront, bitorch and Brevitas on equal weights; before they are timed, their
results are compared. A library that cannot be imported is reported as absent. To have both::

    pip install --no-deps bitorch==0.4.1 brevitas==0.13.4 dependencies==2.0.1 unfoldNd
    pip install matplotlib pandas sympy

Run ``python benchmarks/training.py``; ``--json FILE`` keeps the result.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from bitfront.evaluators.training.optimizer import build_optimizer
from bitfront.kernels import machine
from bitfront.spaces import Architecture, Builder, Network, Recipe, build
from bitfront.spaces.ops import BatchNorm, Conv2d, Input, Quantize
from bitfront.spaces.quantizers import SIGN, SIGN_WEIGHT
from bitfront.spaces.zoo import zoo

NETWORKS = (
    "meliusnet22",
    "binarydensenet28",
    "resnet-e18",
    "birealnet18",
    "quicknet",
    "reactnet-a",
    # four boolean maps stand for each of its feature maps, so it is listed beside the six
    "boolnet-k4",
)
T_CLIP = 1.0


class Batch(NamedTuple):
    """Images of one step."""

    size: int
    images: int
    repeats: int


BATCHES = (Batch(size=96, images=8, repeats=21), Batch(size=224, images=4, repeats=7))


class Stage(NamedTuple):
    """A binary convolution of ResNet-18: channels, and rows and columns of its map."""

    channels: int
    size: int


STAGES = (Stage(64, 56), Stage(128, 28), Stage(256, 14), Stage(512, 7))
Work = Callable[[], Any]


def rounds(works: Sequence[Work], repeats: int, clock: Callable[[], float]) -> list[list[float]]:
    """Time each work once a round; seconds, a list per work."""
    # memory is warm when the allocator has seen a few steps
    for _ in range(5):
        for work in works:
            work()
    seconds: list[list[float]] = [[] for _ in works]
    for _ in range(repeats):
        for work, times in zip(works, seconds, strict=True):
            start = clock()
            work()
            times.append(clock() - start)
    return seconds


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median and quartiles."""
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return {"median": median, "low": low, "high": high}


def ratio(values: Sequence[float], others: Sequence[float]) -> dict[str, float]:
    """Round by round."""
    return spread([a / b for a, b in zip(values, others, strict=True)])


def step(architecture: Architecture, batch: Batch) -> Work:
    """A training step, repeated on one batch."""
    network = build(architecture).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = build_optimizer(network, Recipe())
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(batch.images, *architecture.input, generator=generator)
    x = x.contiguous(memory_format=torch.channels_last)
    y = torch.arange(batch.images) % architecture.classes

    def work() -> None:
        loss = F.cross_entropy(network(x), y)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return work


def beside_the_twin(name: str, batch: Batch, clock: Callable[[], float]) -> dict[str, Any]:
    """One network and its twin."""
    architecture = replace(zoo[name].architecture(), input=(3, batch.size, batch.size))
    works = [step(architecture, batch), step(architecture.twin(), batch)]
    binary, twin = rounds(works, batch.repeats, clock)
    return {
        "network": name,
        "image": batch.size,
        "batch": batch.images,
        "repeats": batch.repeats,
        "binary_ms": spread([1e3 * s for s in binary]),
        "twin_ms": spread([1e3 * s for s in twin]),
        "ratio": ratio(binary, twin),
    }


class Composed(nn.Module):
    """A batch norm and a peer's layer."""

    def __init__(self, channels: int, layer: nn.Module) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels)
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        """Norm, then layer."""
        y: Tensor = self.layer(self.norm(x))
        return y


def bitfront_layer(channels: int, size: int, padding_value: float) -> nn.Module:
    """Batch norm, sign, binary convolution."""
    b = Builder()
    x = b.add(Input(shape=(channels, size, size)), name="input")
    x = b.add(Quantize(quantizer=SIGN), b.add(BatchNorm(), x, name="norm"), name="sign")
    op = Conv2d(
        out_channels=channels,
        kernel_size=3,
        padding=1,
        padding_value=padding_value,
        weight=SIGN_WEIGHT,
    )
    b.add(op, x, name="conv")
    return Network(b.graph(), t_clip=T_CLIP)


def bitorch_layer(channels: int) -> nn.Module:
    """Its layer pads with -1 and cuts the gradient at 1."""
    from bitorch.layers import QConv2d

    layer = QConv2d(
        channels,
        channels,
        3,
        padding=1,
        input_quantization="sign",
        weight_quantization="sign",
        gradient_cancellation_threshold=T_CLIP,
    )
    return Composed(channels, layer)


def brevitas_layer(channels: int) -> nn.Module:
    """Its layer pads with 0 and cuts the gradient at 1; the scales are those of plain signs."""
    from brevitas.nn import QuantConv2d
    from brevitas.quant import SignedBinaryActPerTensorConst, SignedBinaryWeightPerTensorConst

    layer = QuantConv2d(
        channels,
        channels,
        3,
        padding=1,
        bias=False,
        weight_quant=SignedBinaryWeightPerTensorConst,
        weight_scaling_const=1.0,
        input_quant=SignedBinaryActPerTensorConst,
        input_scaling_const=1.0,
    )
    return Composed(channels, layer)


PEERS: dict[str, tuple[Callable[[int], nn.Module], float]] = {
    "bitorch": (bitorch_layer, -1.0),
    "brevitas": (brevitas_layer, 0.0),
}


def versions() -> dict[str, str]:
    """Versions of what is timed; "absent" where a peer cannot be imported."""
    found = machine.versions(("bitfront", "torch", *PEERS))
    for name, (make, _) in PEERS.items():
        try:
            make(8)
        except ImportError as error:
            found[name] = f"absent: {error}"
    return found


def pass_of(module: nn.Module, x: Tensor, grad: Tensor) -> Work:
    """Forward and backward, down to the gradient of the input."""

    def work() -> Tensor:
        y: Tensor = module(x)
        module.zero_grad()
        x.grad = None
        y.backward(grad)  # type: ignore[no-untyped-call]
        return y

    return work


def beside_a_peer(
    name: str, stage: Stage, count: int, memory_format: torch.memory_format, repeats: int
) -> dict[str, Any]:
    """One layer of a peer and the same of ours; equal results are asserted, then both timed."""
    make, padding_value = PEERS[name]
    mine = bitfront_layer(stage.channels, stage.size, padding_value)
    theirs = make(stage.channels)
    (weight,) = [p for p in theirs.parameters() if p.dim() == 4]
    with torch.no_grad():
        # a peer may clip latent weights of more than 1
        mine.conv.weight.clamp_(-1, 1)  # type: ignore[union-attr, operator]
        weight.copy_(mine.conv.weight)  # type: ignore[arg-type, union-attr]
    generator = torch.Generator().manual_seed(0)
    shape = (count, stage.channels, stage.size, stage.size)
    x, grad = (
        torch.randn(shape, generator=generator).contiguous(memory_format=memory_format)
        for _ in range(2)
    )
    works, results = [], []
    for module in (mine, theirs):
        module.to(memory_format=memory_format)  # type: ignore[call-overload]
        given = x.clone().requires_grad_()
        works.append(pass_of(module, given, grad))
        results.append((works[-1](), given.grad))
    (y, dx), (y_peer, dx_peer) = results
    assert torch.equal(y, y_peer), f"{name} computes something else"
    torch.testing.assert_close(dx, dx_peer, rtol=1e-3, atol=1e-3)
    seconds, peer = rounds(works, repeats, time.process_time)
    return {
        "channels": stage.channels,
        "size": stage.size,
        "bitfront_ms": spread([1e3 * s for s in seconds]),
        "peer_ms": spread([1e3 * s for s in peer]),
        "ratio": ratio(seconds, peer),
    }


def layers(name: str, count: int, repeats: int) -> list[dict[str, Any]]:
    """All four layers beside one peer, in both memory formats."""
    rows = []
    for title, memory_format in (
        ("channels_last", torch.channels_last),
        ("contiguous", torch.contiguous_format),
    ):
        for stage in STAGES:
            row = beside_a_peer(name, stage, count, memory_format, repeats)
            rows.append({"peer": name, "format": title, "batch": count, **row})
            print(
                f"  {name:10} {title:14} {stage.channels:4} x {stage.size:2}   "
                f"{row['bitfront_ms']['median']:8.2f} / {row['peer_ms']['median']:8.2f} ms   "
                f"{_shown(row['ratio'])}",
                flush=True,
            )
    return rows


def _shown(figures: dict[str, float]) -> str:
    return f"{figures['median']:.2f} ({figures['low']:.2f} to {figures['high']:.2f})"


def main() -> None:
    """Run, print tables, keep the JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--networks", nargs="*", default=NETWORKS, metavar="NAME")
    parser.add_argument("--threads", nargs="+", type=int, default=(1, 2), metavar="N")
    parser.add_argument("--layer-batch", type=int, default=8, help="images per layer; 0: no layers")
    parser.add_argument("--layer-repeats", type=int, default=21)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    found = versions()
    result: dict[str, Any] = {
        "benchmark": "training",
        "unit": "ms per step, and ratios",
        "spread": "median; low and high are quartiles over the rounds",
        "clock": "processor time with 1 thread, else wall time",
        "order": "what is compared takes turns, round by round",
        "optimizer": "RAdam",
        "memory_format": "channels_last",
        "date": datetime.now(UTC).date().isoformat(),
        "machine": machine.cpu_name(),
        "cores": os.cpu_count(),
        "load_average": {"before": os.getloadavg()[0]},
        "versions": found,
        "steps": [],
        "layers": [],
    }
    for threads in options.threads:
        torch.set_num_threads(threads)
        clock = time.process_time if threads == 1 else time.perf_counter
        for batch in BATCHES if threads == 1 else BATCHES[:1]:
            print(f"{batch.images} images of {batch.size}, {threads} threads: binary / twin")
            for name in options.networks:
                row = {"threads": threads, **beside_the_twin(name, batch, clock)}
                result["steps"].append(row)
                print(
                    f"  {name:18} {row['binary_ms']['median']:8.1f} / "
                    f"{row['twin_ms']['median']:8.1f} ms   {_shown(row['ratio'])}",
                    flush=True,
                )
    torch.set_num_threads(1)
    for name in PEERS if options.layer_batch else ():
        print(f"Layers: bitfront / {name} {found[name]}")
        if not found[name].startswith("absent"):
            result["layers"] += layers(name, options.layer_batch, options.layer_repeats)
    result["load_average"]["after"] = os.getloadavg()[0]
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
