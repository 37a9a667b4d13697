"""``bitfront bench``: measurements on this machine."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from bitfront.cli.app import Json, app
from bitfront.cli.output import err, out, write_json, write_table
from bitfront.evaluators.files import replace_file
from bitfront.spaces.errors import InvalidValue

bench = typer.Typer(help="Measure this machine.", no_args_is_help=True)
app.add_typer(bench, name="bench")


DEVICES = ("cpu", "cuda")
ROUNDS = 15


@bench.command("kernels")
def bench_kernels(
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    threads: Annotated[
        list[int] | None,
        typer.Option(help="Threads of every contender; repeat it for several. 1 if none.", min=1),
    ] = None,
    rounds: Annotated[int, typer.Option(help="Rounds of at least 10 ms each.", min=2)] = ROUNDS,
    variant: Annotated[
        str | None,
        typer.Option(help="Instruction set of our kernels: portable, neon, avx2 or avx512."),
    ] = None,
    to: Annotated[
        Path | None, typer.Option(help="Write the measurements to this file as JSON.")
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="Write a plot to this file as SVG.")] = None,
    tune: Annotated[
        Path | None,
        typer.Option(help="With cuda: time the tiles of each kernel, and keep the fastest here."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Kernels beside torch and ONNX Runtime, cuBLAS and cuDNN: exactness first, then speed.

    With --tune nothing is compared: the fastest tiles of this GPU go to a file, and a later run
    goes on where the time was used up.
    """
    if device not in DEVICES:
        raise InvalidValue(f"device must be one of {', '.join(DEVICES)}, but is {device!r}.")
    for path in (to, plot, tune):
        # before minutes of measuring, not after
        if path is not None and not path.absolute().parent.is_dir():
            raise InvalidValue(f"The folder of {path} must exist, but does not.")
    if device == "cuda":
        if threads or variant or rounds != ROUNDS:
            raise InvalidValue("--threads, --variant and --rounds are for the CPU.")
        if tune is not None and (to or plot):
            raise InvalidValue("--tune compares nothing: no --to, no --plot.")
        _bench_gpu(to, plot, tune, as_json)
        return
    if tune is not None:
        raise InvalidValue("--tune is for --device cuda.")
    result = _on_cpu(threads or [1], rounds, variant)
    _keep(to, result)
    if plot is not None:
        from bitfront.kernels.bench import draw

        _write(plot, draw(result))
    if as_json:
        write_json(result)
    else:
        _print(result)


def _on_cpu(threads: list[int], rounds: int, variant: str | None) -> dict[str, Any]:
    from bitfront.kernels.bench import InexactKernel, run

    try:
        return run(
            threads=threads,
            rounds=rounds,
            variant=variant,
            progress=lambda name: err.print(f"{name} ..."),
        )
    except ValueError as error:
        raise InvalidValue(str(error)) from None
    except InexactKernel as error:
        raise _failed(error) from None


def _bench_gpu(to: Path | None, plot: Path | None, tune: Path | None, as_json: bool) -> None:
    """Measure the GPU, or say why that is impossible: status 1."""
    try:
        from bitfront.kernels.gpu.bench import NoDevice, run, tune_gpu
        from bitfront.kernels.gpu.exactness import InexactKernel
        from bitfront.kernels.gpu.report import draw
    except ModuleNotFoundError as error:
        raise InvalidValue(
            f"--device cuda needs the package {error.name}, which is not installed: "
            "pip install 'bitfront[gpu]'."
        ) from None

    def progress(name: str) -> None:
        err.print(f"{name} ...", markup=False)

    try:
        if tune is None:
            # a case that breaks the device does not take the others with it
            result = run(progress=progress, save=partial(_keep, to))
        else:
            result = tune_gpu(tune, progress=progress)
    except (NoDevice, InexactKernel) as error:
        raise _failed(error) from None
    except (ValueError, OSError) as error:
        # of the table; a measurement raises neither
        if tune is None:
            raise
        raise InvalidValue(str(error)) from None
    _keep(to, result)
    # of nothing there is no picture
    if plot is not None and result["cases"]:
        _write(plot, draw(result))
    if as_json:
        write_json(result)
    elif tune is None:
        _print_gpu(result)
    else:
        _print_tuning(result)
    for name, reason in result["failed"].items():
        err.print(f"{name} failed: {reason}", markup=False)
    if result["failed"] or result.get("inexact"):
        raise typer.Exit(1)


def _failed(error: Exception) -> typer.Exit:
    err.print(str(error), markup=False)
    return typer.Exit(1)


def _keep(path: Path | None, result: dict[str, Any]) -> None:
    if path is not None:
        _write(path, json.dumps(result, indent=1) + "\n")


def _write(path: Path, text: str) -> None:
    try:
        replace_file(path, text.encode())
    except OSError as error:
        raise InvalidValue(f"{path} cannot be written: {error.strerror}.") from None


def _print_gpu(result: dict[str, Any]) -> None:
    rows, absent = [], set()
    for case in result["cases"]:
        for way in case["contenders"]:
            if way["ms"] is None:
                absent.add(f"{way['precision']} {way['name']}: {way['absent']}")
                continue
            rows.append(
                (
                    case["name"],
                    f"{way['precision']} {way['name']}",
                    f"{way['ms']:.4f}",
                    f"{way['macs_per_s'] / 1e12:.1f}",
                    _share(way.get("share_of_limit")),
                    _share(way.get("share_of_roofline")),
                )
            )
    columns = ("case", "kernel", "ms", "T MAC/s", "of the limit", "of the roofline")
    write_table(f"{result['device']}, CUDA graphs", columns, rows, left=2)
    out.print(result["paths"], markup=False)
    for case in result["cases"]:
        for name, ratio in case["ratios"].items():
            out.print(f"{case['name']}: {name} {ratio:.2f}", markup=False)
    for goal in result["goals"]:
        said = "not measured"
        if goal["met"] is not None:
            said = f"{goal['value']:.2f}, {'met' if goal['met'] else 'not met'}"
        out.print(f"goal: {goal['name']}, at least {goal['target']}: {said}", markup=False)
    for line in sorted(absent):
        out.print(f"absent: {line}", markup=False)
    if result["skipped"]:
        out.print(f"Not measured, the time was used up: {', '.join(result['skipped'])}.")


def _share(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.0f} %"


def _print_tuning(result: dict[str, Any]) -> None:
    rows = [
        (
            row["name"],
            row["choice"],
            f"{row['ms']:.4f}",
            f"{row['default_ms']:.4f}",
            f"{row['default_ms'] / row['ms']:.2f}",
        )
        for row in result["found"]
    ]
    columns = ("product", "fastest", "ms", "default, ms", "times faster")
    write_table(f"{result['device']}, CUDA graphs", columns, rows, left=2)
    for name, ways in result["inexact"].items():
        for way in ways:
            out.print(f"wrong result, not used: {name}: {way}", markup=False)
    for name, reasons in result["refused"].items():
        for way, reason in reasons.items():
            out.print(f"refused: {name}: {way}: {reason}", markup=False)
    if result["skipped"]:
        out.print(
            f"{len(result['skipped'])} products are left; the same command goes on with them.",
            markup=False,
        )
    out.print(f"Products are looked up in {result['used_if_at']}.", markup=False)


def _print(result: dict[str, Any]) -> None:
    from bitfront.kernels.bench import table_rows

    for run in result["runs"]:
        write_table(
            f"ms, {result['cpu']}, {result['variant']}, {run['threads']} thread(s); best of torch "
            f"and onnxruntime; popcount limit {run['limit_macs_per_s'] / 1e12:.2f} T/s",
            (
                "case",
                "fp32",
                "bf16",
                "int8",
                "1-bit, packing",
                "1-bit, packed",
                "x fp32",
                "x int8",
                "packed x fp32",
                "kernel of the limit",
                "packed of the limit",
            ),
            table_rows(run),
        )
    absent = {
        f"{row['precision']} {row['name']}: {row['absent']}"
        for run in result["runs"]
        for case in run["cases"]
        for row in case["contenders"]
        if row["ms"] is None
    }
    for line in sorted(absent):
        out.print(f"absent: {line}")
