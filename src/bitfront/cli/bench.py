"""``bitfront bench``: measurements on this machine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from bitfront.cli.app import Json, app
from bitfront.cli.output import err, out, write_json, write_table
from bitfront.evaluators.files import replace_file
from bitfront.spaces.errors import InvalidValue

bench = typer.Typer(help="Measure this machine.", no_args_is_help=True)
app.add_typer(bench, name="bench")


@bench.command("kernels")
def bench_kernels(
    threads: Annotated[
        list[int] | None,
        typer.Option(help="Threads of every contender; repeat it for several. 1 if none.", min=1),
    ] = None,
    rounds: Annotated[int, typer.Option(help="Rounds of at least 10 ms each.", min=2)] = 15,
    variant: Annotated[
        str | None,
        typer.Option(help="Instruction set of our kernels: portable, neon, avx2 or avx512."),
    ] = None,
    to: Annotated[
        Path | None, typer.Option(help="Write the measurements to this file as JSON.")
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="Write a plot to this file as SVG.")] = None,
    as_json: Json = False,
) -> None:
    """CPU kernels beside torch and ONNX Runtime: exactness first, then speed."""
    from bitfront.kernels.bench import InexactKernel, draw, run

    for path in (to, plot):
        # before minutes of measuring, not after
        if path is not None and not path.absolute().parent.is_dir():
            raise InvalidValue(f"The folder of {path} must exist, but does not.")
    try:
        result = run(
            threads=threads or [1],
            rounds=rounds,
            variant=variant,
            progress=lambda name: err.print(f"{name} ..."),
        )
    except ValueError as error:
        raise InvalidValue(str(error)) from None
    except InexactKernel as error:
        err.print(str(error))
        raise typer.Exit(1) from None
    for path, text in ((to, json.dumps(result, indent=1) + "\n"), (plot, draw(result))):
        if path is not None:
            try:
                replace_file(path, text.encode())
            except OSError as error:
                raise InvalidValue(f"{path} cannot be written: {error.strerror}.") from None
    if as_json:
        write_json(result)
    else:
        _print(result)


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
