"""Does every network of the zoo work? Each is costed, trained a step, exported and verified.

Per network, at the smallest square input (a multiple of 32) at which it lowers, with ten classes:
lower, plan, count by every convention, estimate energy on every profile, build, train one step on
real digits by its own recipe (but a tiny step: deep networks start with gradients of a million),
evaluate, compare its binary layers with packed bits, export in every format and verify the files.
Each network runs in a process of its own, so memory is free after it.

``python benchmarks/zoo_check.py`` checks all; names or patterns choose some; ``--missing`` chooses
those that have no good result in their present form. Results are kept in
``benchmarks/results/zoo_check.json`` and shown in ``docs/coverage.md``, which ``--document`` renews
without checking anything. Exit status 1 if a network fails.
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from importlib.metadata import version
from pathlib import Path
from shutil import rmtree
from subprocess import PIPE, Popen, TimeoutExpired
from tempfile import TemporaryDirectory
from typing import Any, Final

import zoo_coverage

from bitfront.cli.target import fitted
from bitfront.evaluators.cost import CONVENTIONS, SCOPES, count, estimate_energy, peak_memory_bytes
from bitfront.evaluators.hardware.profile import load_profile, profile_names
from bitfront.spaces import Architecture, InfeasibleArchitecture
from bitfront.spaces.plan import plan
from bitfront.spaces.zoo import ZooEntry, zoo

SIDES: Final = range(32, 225, 32)
IMAGES: Final = 4
SETTLING: Final = 16
MAX_RATE: Final = 1e-6
STATELESS: Final = 100_000_000
"""Parameters above which a step is plain SGD: an optimizer's state would take gigabytes."""
PACKAGES: Final = ("torch", "onnx", "onnxruntime")
TIMEOUT_S: Final = 1800


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


def check(entry: ZooEntry, folder: Path) -> dict[str, Any]:
    """Run every check on one network.

    Returns:
        Its row: what was checked, how long each part took, what failed.
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
    part("cost", lambda: _cost(entry.architecture()))
    part("cost, small", lambda: _cost(architecture))
    data = digits(architecture.input)
    weights = folder / "weights.safetensors"
    found = part("train", lambda: _train(entry, architecture, data, weights))
    if found is None:
        return row
    row |= found
    for name, work in _exports(entry, architecture, data, weights, folder).items():
        part(name, work)
    return row


def reset_peak() -> None:
    """Give freed memory back and measure the peak anew, as far as the system can."""
    gc.collect()
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_mib() -> int:
    """Largest resident memory since ``reset_peak``."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) // 1024
    return 0


def _cost(architecture: Architecture) -> None:
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

    from bitfront.evaluators.training import DataSet, load_dataset
    from bitfront.evaluators.training.splits import Split

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
        validation=stretched(real.validation, SETTLING),
        test=stretched(real.test),
    )


def _train(entry: ZooEntry, architecture: Architecture, data: Any, weights: Path) -> dict[str, Any]:
    """One step by the entry's recipe, then an evaluation and the exact check of binary layers."""
    import torch
    from safetensors.torch import save_file

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
    if sum(p.numel() for p in network.parameters()) > STATELESS:
        trainer.optimizer = torch.optim.SGD(network.parameters())
    settling = torch.from_numpy(data.normalized(data.validation.images))
    settle_norms(network, settling)
    loss = trainer.run_epoch().train_loss
    for name, parameter in network.named_parameters():
        if parameter.grad is None or not bool(parameter.grad.isfinite().all()):
            raise ValueError(f"{name} must get a finite gradient, but got none.")
        parameter.grad = None
    print("GRAD", peak_mib(), file=sys.stderr)
    reset_peak()
    x = torch.from_numpy(data.normalized(data.test.images))
    settle_norms(network, settling)
    accuracy = trainer.evaluate("test").accuracy
    with torch.inference_mode():
        logits = network.eval()(x)
    if logits.shape != (IMAGES, 10) or not bool(logits.isfinite().all()):
        raise ValueError(f"Logits must be finite, (4, 10), but are {tuple(logits.shape)}.")
    print("EVAL", peak_mib(), file=sys.stderr)
    reset_peak()
    layers = check_binary_layers(network, x)
    print("BIN", peak_mib(), file=sys.stderr)
    reset_peak()
    save_file({k: v.contiguous() for k, v in network.state_dict().items()}, weights)
    return {
        "parameters": sum(p.numel() for p in network.parameters()),
        "loss": loss,
        "accuracy": accuracy,
        "binary_layers": layers,
    }


def settle_norms(network: Any, x: Any) -> None:
    """Give batch norms the statistics of ``x``.

    With the initial ones, or nine tenths of them after one step, maps grow from layer to layer, up
    to infinity, and so does what rounding makes of them.
    """
    import torch

    from bitfront.spaces.torch_ops import NORM_MOMENTUM

    statistics = [b for name, b in network.named_buffers() if "running_" in name.split(".")[-1]]
    with torch.no_grad():
        for buffer in statistics:
            buffer.zero_()
        network.train()(x)
        for buffer in statistics:
            buffer.div_(NORM_MOMENTUM)


def _exports(
    entry: ZooEntry, architecture: Architecture, data: Any, weights: Path, folder: Path
) -> dict[str, Callable[[], None]]:
    from bitfront.export import TrainedOn, Winner, exporters

    winner = Winner(
        # the name of a file may not hold every letter
        name=entry.name.replace("+", "p"),
        architecture=architecture,
        recipe=entry.recipe,
        weights=weights,
        data=TrainedOn.of(data),
    )

    def export(format: str) -> None:
        exporter = exporters[format]
        path = exporter.write(winner, folder / format)
        result = exporter.verify(winner, path, data)
        rmtree(path.parent)
        # a network of one step is undecided: a value that rounding tips over, which the
        # verification has traced, may change the class
        if not result.layers_exact or result.unexplained or result.max_difference is None:
            raise ValueError(result.text)

    return {name: lambda name=name: export(name) for name in exporters}  # type: ignore[misc]


def run_one(name: str) -> dict[str, Any]:
    """Check one network in a process of its own and measure that process.

    Returns:
        Its row, with peak memory and what it was checked with.
    """
    start = time.perf_counter()
    environment = {**os.environ, "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "2")}
    command = [sys.executable, __file__, "--in-this-process", name]
    with Popen(command, stdout=PIPE, stderr=PIPE, env=environment, text=True) as child:
        try:
            out, err = child.communicate(timeout=TIMEOUT_S)
        except TimeoutExpired:
            child.kill()
            out, err = child.communicate()
            err += f"not done after {TIMEOUT_S} seconds"
    lines = out.splitlines()
    if child.returncode == 0 and lines:
        row: dict[str, Any] = json.loads(lines[-1])
    else:
        last = err.strip().splitlines()[-1:] or [f"exit status {child.returncode}"]
        row = {"seconds": {}, "failed": [f"process: {last[0][:300]}"]}
    row["total_seconds"] = round(time.perf_counter() - start, 1)
    row["digest"] = zoo[name].architecture().digest
    row["date"] = datetime.now(UTC).date().isoformat()
    row["versions"] = {package: version(package) for package in PACKAGES}
    return row


def in_this_process(name: str) -> None:
    """Check one network and print its row as one line of JSON."""
    with TemporaryDirectory() as folder:
        row = check(zoo[name], Path(folder))
    print(json.dumps(row))


def chosen(patterns: list[str], missing: bool) -> list[str]:
    """Names of the networks to check."""
    names = [
        name
        for name in sorted(zoo)
        if not patterns or any(fnmatchcase(name, pattern) for pattern in patterns)
    ]
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            sys.exit(f"No network is named {pattern!r}; `bitfront zoo` lists them.")
    if missing:
        results = zoo_coverage.load_results()
        names = [name for name in names if zoo_coverage.state(name, results) != "works"]
    return names


def main() -> None:
    """Check, keep the results, renew the document."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="networks, or patterns; all")
    parser.add_argument("--missing", action="store_true", help="only what has no good result yet")
    parser.add_argument("--document", action="store_true", help="only renew docs/coverage.md")
    parser.add_argument("--in-this-process", metavar="NAME", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.in_this_process:
        in_this_process(options.in_this_process)
        return
    failures = 0
    if not options.document:
        names = chosen(options.names, options.missing)
        print(f"{'network':26} {'input':>9} {'parameters':>12} {'s':>6} {'MiB':>6}  failed")
        for name in names:
            row = run_one(name)
            failures += bool(row["failed"])
            side = "x".join(map(str, row.get("input", ())))
            parameters = f"{row['parameters']:,}" if "parameters" in row else "-"
            peak = max(row.get("peak_mib", {}).values(), default=0)
            print(
                f"{name:26} {side:>9} {parameters:>12} {row['total_seconds']:6.1f} "
                f"{peak:6}  {'; '.join(row['failed']) or '-'}",
                flush=True,
            )
            zoo_coverage.keep(name, row)
        print(f"{len(names) - failures} of {len(names)} networks work.")
    zoo_coverage.renew()
    if failures:
        sys.exit(1)


if __name__ == "__main__":
    main()
