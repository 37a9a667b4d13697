"""Every check on one network of the zoo; ``python benchmarks/network_check.py NAME`` prints JSON.

At the smallest square input (a multiple of 32) at which it lowers, with ten classes: lower, plan,
count by every convention, estimate energy on every profile, build, train one step on real digits by
its own recipe (but a tiny step: deep networks start with gradients of a million), evaluate, compare
its binary layers with packed bits, export in every format and verify the files.
"""

from __future__ import annotations

import gc
import json
import math
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from math import prod
from pathlib import Path
from shutil import rmtree
from tempfile import TemporaryDirectory
from typing import Any, Final

from bitfront.cli.target import fitted
from bitfront.evaluators.cost import CONVENTIONS, SCOPES, count, estimate_energy, peak_memory_bytes
from bitfront.evaluators.hardware.profile import load_profile, profile_names
from bitfront.spaces import Architecture, InfeasibleArchitecture
from bitfront.spaces.plan import plan
from bitfront.spaces.zoo import ZooEntry, zoo

SIDES: Final = range(32, 225, 32)
IMAGES: Final = 4
SETTLING_IMAGES: Final = 16
MAX_RATE: Final = 1e-6
LARGE: Final = 80_000_000
"""Parameters above which memory is saved: the step is plain SGD, whose state takes none, and the
network is exported without repeated blocks, since the ONNX runtime holds ten copies of weights."""


def smallest(architecture: Architecture) -> Architecture:
    """The architecture for ten classes and the smallest square input at which it lowers."""
    for side in SIDES:
        small = fitted(architecture, (architecture.input[0], side, side), classes=10)
        try:
            small.lower()
        except InfeasibleArchitecture:
            if side == SIDES[-1]:
                raise
        else:
            return small
    raise AssertionError


def parameters(architecture: Architecture) -> int:
    """Values in the tensors that its network would have."""
    return sum(prod(row.shape) for row in architecture.lower().parameters())


def shortened(architecture: Architecture) -> Architecture:
    """Each different block of a stage once; then fewer, from the end, until it is not large."""
    stages = [list(dict.fromkeys(stage.blocks)) for stage in architecture.stages]
    while True:
        short = replace(
            architecture,
            stages=tuple(
                replace(stage, blocks=tuple(blocks))
                for stage, blocks in zip(architecture.stages, stages, strict=True)
            ),
        )
        longer = [blocks for blocks in stages if len(blocks) > 1]
        if parameters(short) <= LARGE or not longer:
            return short
        longer[-1].pop()


def check(entry: ZooEntry, folder: Path) -> dict[str, Any]:
    """Run every check on one network.

    Returns:
        Its row: what was checked, how long each part took and how much memory, what failed.
    """
    seconds: dict[str, float] = {}
    peaks: dict[str, int] = {}
    failed: list[str] = []
    row: dict[str, Any] = {"seconds": seconds, "peak_mib": peaks, "failed": failed}

    def part(name: str, work: Callable[[], Any]) -> Any:
        start = time.perf_counter()
        reset_peak()
        try:
            return work()
        except Exception as error:  # the row tells, and the other parts still run
            text = " ".join(str(error).split())
            failed.append(f"{name}: {type(error).__name__}: {text[:300]}")
            return None
        finally:
            seconds[name] = round(time.perf_counter() - start, 2)
            peaks[name] = peak_mib()

    architecture = part("lower", lambda: smallest(entry.architecture()))
    if architecture is None:
        return row
    row["input"] = list(architecture.input)
    row["parameters"] = parameters(architecture)
    part("cost", lambda: costs(entry.architecture()))
    part("cost, small", lambda: costs(architecture))
    data = digits(architecture.input)
    weights = folder / "weights.safetensors"
    row |= part("train", lambda: trains(entry, architecture, data, weights)) or {}
    if row["parameters"] > LARGE:
        blocks = sum(len(stage.blocks) for stage in architecture.stages)
        architecture = shortened(architecture)
        left = sum(len(stage.blocks) for stage in architecture.stages)
        row["exported_blocks"] = f"{left} of {blocks}"
        part("shorten", lambda: save_untrained(architecture, data, weights))
    if weights.exists():
        from bitfront.export import exporters

        for name in exporters:
            part(name, lambda name=name: exports(name, entry, architecture, data, weights))  # type: ignore[misc]
    return row


def reset_peak() -> None:
    """Give freed memory back and measure the peak anew, as far as the system can."""
    gc.collect()
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_mib() -> int:
    """Largest resident memory since ``reset_peak``; 0 where the system does not tell."""
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) // 1024
    return 0


def costs(architecture: Architecture) -> None:
    """Count and estimate by everything there is."""
    graph = architecture.lower()
    planned = plan(graph)
    figures = {"memory": float(peak_memory_bytes(planned))}
    for convention in CONVENTIONS:
        counts = count(graph, convention)
        figures[f"size by {convention}"] = counts.size_mib
        if counts.ops is not None:
            figures[f"OPs by {convention}"] = counts.ops
    for profile in profile_names():
        for scope in SCOPES:
            energy = estimate_energy(planned, load_profile(profile), scope=scope)
            figures[f"energy on {profile}, {scope}"] = energy.total_mj
    for name, value in figures.items():
        if not (math.isfinite(value) and value > 0):
            raise ValueError(f"{name} must be positive, but is {value}.")


def digits(shape: tuple[int, int, int]) -> Any:
    """A few real digits per split, stretched to ``shape`` and repeated over channels."""
    import numpy as np
    import torch
    from torch.nn import functional as F  # noqa: N812

    from bitfront.evaluators.training import DataSet, Split, load_dataset

    real = load_dataset("digits", data_dir="data")

    def stretched(split: Split, number: int = IMAGES) -> Split:
        few = split.take(np.arange(number))
        x = torch.tensor(few.images, dtype=torch.float32)
        x = F.interpolate(x, size=shape[1:], mode="bilinear").repeat(1, shape[0], 1, 1)
        return Split(images=x.round().to(torch.uint8).numpy(), labels=few.labels.copy())

    return DataSet(
        name="digits",
        class_names=real.class_names,
        train=stretched(real.train),
        validation=stretched(real.validation, SETTLING_IMAGES),
        test=stretched(real.test),
    )


def trains(entry: ZooEntry, architecture: Architecture, data: Any, weights: Path) -> dict[str, Any]:
    """One step by the entry's recipe, an evaluation, and the exact check of binary layers."""
    import torch

    from bitfront.evaluators.binary_layers import check_binary_layers
    from bitfront.evaluators.training import Trainer
    from bitfront.spaces import Candidate

    rate = min(entry.recipe.learning_rate, MAX_RATE)
    recipe = replace(entry.recipe, epochs=1, warmup_epochs=0, batch_size=IMAGES, learning_rate=rate)
    candidate = Candidate(architecture=architecture, recipe=recipe)
    trainer = Trainer(candidate, data, seed=0, device="cpu")
    network = trainer.network
    declared = {row.name: row.shape for row in network.graph.parameters()}
    built = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    if declared != built:
        raise ValueError("The graph's table of parameters must be the network's state_dict.")
    if parameters(architecture) > LARGE:
        trainer.optimizer = torch.optim.SGD(network.parameters())
    settle_norms(network, data)
    loss = trainer.run_epoch().train_loss
    for name, parameter in network.named_parameters():
        if parameter.grad is None or not bool(parameter.grad.isfinite().all()):
            raise ValueError(f"{name} must get a finite gradient, but got none.")
        parameter.grad = None
    settle_norms(network, data)
    accuracy = trainer.evaluate("test").accuracy
    x = torch.from_numpy(data.normalized(data.test.images))
    with torch.inference_mode():
        logits = network.eval()(x)
    if logits.shape != (IMAGES, 10) or not bool(logits.isfinite().all()):
        raise ValueError(f"Logits must be finite, (4, 10), but are {tuple(logits.shape)}.")
    layers = check_binary_layers(network, x)
    save(network, weights)
    return {"loss": loss, "accuracy": accuracy, "binary_layers": layers}


def save_untrained(architecture: Architecture, data: Any, weights: Path) -> None:
    """Keep initial weights of a network whose norms have sane statistics."""
    from bitfront.spaces import build

    network = build(architecture)
    settle_norms(network, data)
    save(network, weights)


def save(network: Any, weights: Path) -> None:
    """Write a network's ``state_dict``."""
    from safetensors.torch import save_file

    save_file({name: t.contiguous() for name, t in network.state_dict().items()}, weights)


def settle_norms(network: Any, data: Any) -> None:
    """Give batch norms the statistics of the validation images.

    With the initial ones, or nine tenths of them after one step, maps grow from layer to layer, up
    to infinity, and so does what rounding makes of them.
    """
    import torch

    from bitfront.spaces.torch_ops import NORM_MOMENTUM

    statistics = [b for name, b in network.named_buffers() if "running_" in name.split(".")[-1]]
    with torch.no_grad():
        for buffer in statistics:
            buffer.zero_()
        network.train()(torch.from_numpy(data.normalized(data.validation.images)))
        for buffer in statistics:
            buffer.div_(NORM_MOMENTUM)


def exports(
    format: str, entry: ZooEntry, architecture: Architecture, data: Any, weights: Path
) -> None:
    """Write one format, read it back, and compare it with the network."""
    from bitfront.export import TrainedOn, Winner, exporters

    winner = Winner(
        # the name of a file may not hold every letter
        name=entry.name.replace("+", "p"),
        architecture=architecture,
        recipe=entry.recipe,
        weights=weights,
        data=TrainedOn.of(data),
    )
    path = exporters[format].write(winner, weights.parent / format)
    result = exporters[format].verify(winner, path, data)
    rmtree(path.parent)
    # a network of one step is undecided: a value that rounding tips over, which the verification
    # has traced, may change the class
    if not result.layers_exact or result.max_difference is None:
        raise ValueError(result.text)
    if result.unexplained and result.max_difference > 2 * rounding(architecture, data, weights):
        raise ValueError(result.text)


def rounding(architecture: Architecture, data: Any, weights: Path) -> float:
    """Largest error of a logit in single precision, measured against double; 0 if it quantises.

    152 layers of initial weights make 0.01 of what rounding does in the first.
    """
    import torch
    from safetensors.torch import load_file

    from bitfront.spaces import build

    network = build(architecture).eval()
    if any(node.op.kind == "quantize" for node in network.graph.nodes):
        return 0.0
    network.load_state_dict(load_file(weights))
    x = torch.from_numpy(data.normalized(data.test.images))
    with torch.inference_mode():
        single = network(x)
        return float((single - network.double()(x.double())).abs().max())


if __name__ == "__main__":
    with TemporaryDirectory() as _folder:
        _row = check(zoo[sys.argv[1]], Path(_folder))
    print(json.dumps(_row))
