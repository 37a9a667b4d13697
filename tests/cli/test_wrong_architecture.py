"""A wrong architecture file is one sentence and exit status 2, in little memory and time."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from bitfront.cli.target import resolve
from bitfront.spaces import InvalidValue, zoo

MIB = 2**20
COST_LIMIT = 256 * MIB
"""Costing a network of the zoo takes 50 MiB of address space."""

BUILD_LIMIT = 3072 * MIB
"""Loading torch and building a small network takes 650 MiB of it."""


def limited(limit: int, *arguments: str, cwd) -> subprocess.CompletedProcess[str]:
    """Run Python in a process that may not have more than ``limit`` bytes of memory."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env={**os.environ, "OMP_NUM_THREADS": "1", "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)),
    )


def changed(change, name: str = "meliusnet22") -> str:
    data = zoo.get(name).architecture().json()
    change(data)
    return json.dumps(data)


def block(**fields) -> str:
    return changed(lambda d: d["stages"][0]["blocks"][0].update(fields))


def transition(**fields) -> str:
    return changed(lambda d: d["stages"][0]["transition"].update(fields))


def precision(**fields) -> str:
    return block(precision={"weights": 1, "activations": 1, **fields})


def nested(depth: int, inner: str = "1") -> str:
    return "[" * depth + inner + "]" * depth


WRONG = {
    "empty": ("", ["must be JSON"]),
    "blank": (" \n", ["must be JSON"]),
    "cut off": (changed(lambda d: None)[:5000], ["must be JSON"]),
    "binary": (bytes(range(256)) * 40, ["must be UTF-8 text"]),
    "utf-16": (changed(lambda d: None).encode("utf-16"), ["must be UTF-8 text"]),
    "null": ("null", ["must be an object", "null"]),
    "number": ("12", ["must be an object", "12"]),
    "text": ('"meliusnet22"', ["must be an object", "meliusnet22"]),
    "no fields": ("{}", ["lacks the field"]),
    "newer": (changed(lambda d: d.update(version=7, spirals=1)), ["version", "1", "7", "newer"]),
    "older": (changed(lambda d: d.update(version=0)), ["version", "0"]),
    "version as text": (changed(lambda d: d.update(version="1")), ["version", "whole number"]),
    "version not whole": (changed(lambda d: d.update(version=1.5)), ["version", "1.5"]),
    "groups do not divide": (transition(groups=3), ["Groups", "3", "320"]),
    "more groups than channels": (transition(groups=10**6), ["groups", "1000000"]),
    "shuffle does not divide": (transition(groups=2, shuffle=7), ["7", "320"]),
    "map too small": (changed(lambda d: d.update(input=[3, 8, 8])), ["window", "fit"]),
    "no rows": (changed(lambda d: d.update(input=[3, 0, 224])), ["input", "0"]),
    "two sizes": (changed(lambda d: d.update(input=[3, 224])), ["input", "3", "2"]),
    "huge input": (changed(lambda d: d.update(input=[3, 10**6, 10**6])), ["4096", "1000000"]),
    "negative input": (changed(lambda d: d.update(input=[3, -1, 224])), ["input", "-1"]),
    "odd pixel bits": (changed(lambda d: d.update(input_bits=7)), ["input_bits", "8", "7"]),
    "unknown block": (block(kind="denze"), ["denze", "Did you mean 'dense'"]),
    "no kind": (changed(lambda d: d["stem"].pop("kind")), ["stem", "kind"]),
    "kind is a list": (block(kind=["dense"]), ["blocks[0]", "kind"]),
    "endless kind": (block(kind="x" * 10**6), ["xxx...", "dense"]),
    "unknown quantizer": (precision(weight_quantizer={"kind": "majority"}), ["majority", "sign"]),
    "unknown field of a quantizer": (
        precision(weight_quantizer={"kind": "sign", "colour": 1}),
        ["weight_quantizer", "colour"],
    ),
    "quantizer for inputs only": (
        precision(weight_quantizer={"kind": "multi_sign", "k": 4}),
        ["multi_sign", "weights"],
    ),
    "unknown field": (block(colour="red"), ["blocks[0]", "colour", "growth"]),
    "endless field": (block(**{"x" * 10**6: 1}), ["blocks[0]", "xxx"]),
    "missing field": (changed(lambda d: d.pop("head")), ["head"]),
    "negative channels": (block(growth=-64), ["growth", "-64"]),
    "no channels": (block(growth=0), ["growth", "0"]),
    "huge channels": (block(growth=10**9), ["growth", "16384", "1000000000"]),
    "huge classes": (changed(lambda d: d["head"].update(classes=10**12)), ["classes", "10000"]),
    "huge kernel": (block(kernel_size=9999), ["kernel_size", "9999"]),
    "even kernel": (block(kernel_size=2), ["kernel_size", "2"]),
    "huge dilation": (block(dilation=10**6), ["dilation", "1000000"]),
    "no dilation": (block(dilation=0), ["dilation", "0"]),
    "unknown bits": (precision(weights=9), ["weights", "9"]),
    "odd storage": (block(shortcut_bits=5), ["shortcut_bits", "5"]),
    "text for a number": (block(growth="64"), ["growth", "whole number", "64"]),
    "true for a number": (block(growth=True), ["growth", "whole number", "true"]),
    "a fraction for a number": (block(growth=64.5), ["growth", "whole number", "64.5"]),
    "null for a number": (block(growth=None), ["growth", "whole number", "null"]),
    "a number for true": (transition(pool=1), ["pool", "true or false", "1"]),
    "NaN": (block(growth=float("nan")), ["growth", "nan"]),
    "Infinity": (block(growth=float("inf")), ["growth", "inf"]),
    "beyond floats": (block(growth="N").replace('"N"', "1e999"), ["growth", "inf"]),
    "a number of 30 digits": (block(growth="N").replace('"N"', "9" * 30), ["20 digits"]),
    "a number of 9000 digits": (block(growth="N").replace('"N"', "9" * 9000), ["20 digits"]),
    "no stage": (changed(lambda d: d.update(stages=[])), ["at least one stage"]),
    "stages are an object": (changed(lambda d: d.update(stages={})), ["stages", "list"]),
    "no block": (changed(lambda d: d["stages"][0].update(blocks=[])), ["at least one block"]),
    "too many blocks": (
        changed(lambda d: d["stages"][0].update(blocks=[{"kind": "dense"}] * 20_000)),
        ["1024 blocks", "20026"],
    ),
    "too many stages": (
        changed(lambda d: d.update(stages=[{"blocks": [{}]}] * 200_000)),
        ["1024 blocks", "200000"],
    ),
    "too many operations": (
        changed(
            lambda d: d["stages"][0].update(blocks=d["stages"][0]["blocks"][:1] * 1000),
            "abcnet-resnet18",
        ),
        ["50,000 operations", "stages.0.blocks."],
    ),
    "a stem in the body": (
        changed(lambda d: d["stages"][0]["blocks"].append(d["stem"])),
        ["is a stem"],
    ),
    "nested lists": (nested(100_000), ["nested too deeply"]),
    "nested in a field": (block(growth="N").replace('"N"', nested(700)), ["growth"]),
    "nested quantizers": (
        block(precision="N").replace(
            '"N"',
            '{"weights":1,"activations":1,"weight_quantizer":'
            + '{"kind":"scaled","codes":' * 300
            + '{"kind":"sign"}'
            + "}" * 300
            + "}",
        ),
        ["weight_quantizer"],
    ),
    "a lone surrogate": (block(kind="N").replace('"N"', '"\\ud800"'), ["ud800"]),
    "larger than a file may be": (b"[" + b" " * (5 * MIB) + b"]", ["4194304", "5242882"]),
}


def write(folder: Path, content: str | bytes) -> str:
    (folder / "wrong.json").write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(folder / "wrong.json")


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_file_is_one_sentence(tmp_path, what):
    content, parts = WRONG[what]
    with pytest.raises(InvalidValue) as caught:
        resolve(write(tmp_path, content), "sqlite://").architecture.lower()
    text = str(caught.value)
    assert caught.value.exit_status == 2
    assert text.endswith((".", ".."))
    assert len(text) < 2000
    for part in parts:
        assert part in text


@pytest.mark.parametrize(
    "what",
    [
        "binary",
        "map too small",
        "endless kind",
        "too many blocks",
        "too many stages",
        "too many operations",
    ]
    + ["nested lists", "nested quantizers", "a lone surrogate", "larger than a file may be"],
)
def test_the_command_line_needs_little_memory_to_refuse_it(tmp_path, what):
    content, parts = WRONG[what]
    write(tmp_path, content)
    one_sentence(limited(COST_LIMIT, "-m", "bitfront", "cost", "wrong.json", cwd=tmp_path), *parts)


def one_sentence(ran: subprocess.CompletedProcess[str], *parts: str) -> None:
    assert ran.returncode == 2, ran.stderr[-2000:]
    assert ran.stdout == ""
    assert "Traceback" not in ran.stderr
    assert len(ran.stderr.splitlines()) == 1
    assert ran.stderr.rstrip().endswith((".", ".."))
    assert len(ran.stderr) < 2000
    for part in parts:
        assert part in ran.stderr


def test_a_file_of_a_hundred_megabytes_is_not_read(tmp_path):
    with (tmp_path / "wrong.json").open("wb") as file:
        file.truncate(100 * MIB)
    ran = limited(COST_LIMIT, "-m", "bitfront", "cost", "wrong.json", cwd=tmp_path)
    one_sentence(ran, "4194304", str(100 * MIB))


def test_a_folder_or_a_pipe_is_no_file(tmp_path):
    (tmp_path / "wrong.json").mkdir()
    os.mkfifo(tmp_path / "pipe.json")
    for name in ("wrong.json", "pipe.json"):
        ran = limited(COST_LIMIT, "-m", "bitfront", "cost", name, cwd=tmp_path)
        one_sentence(ran, name)


def huge(channels: int, side: int) -> str:
    """Legal in every part, but too large for any machine."""
    return changed(
        lambda d: (
            d.update(input=[3, side, side]),
            d["stem"].update(channels=channels),
            [b.update(growth=channels) for stage in d["stages"] for b in stage["blocks"]],
        )
    )


def test_the_largest_legal_networks_are_costed_in_little_memory(tmp_path):
    (tmp_path / "huge.json").write_text(huge(16384, 4096))
    arguments = ("cost", "huge.json", "--hardware", "horowitz45", "--json")
    ran = limited(COST_LIMIT, "-m", "bitfront", *arguments, cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout)["params"] > 10**11


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "parts"),
    [
        (huge(16384, 224), ["weights", "16 GiB", "parameters"]),
        (huge(512, 4096), ["one image", "16 GiB", "stages.0."]),
    ],
)
def test_a_network_that_no_memory_holds_is_refused_before_it_is_built(tmp_path, text, parts):
    (tmp_path / "huge.json").write_text(text)
    code = (
        "import sys\n"
        "from bitfront.spaces import InvalidValue, build, read_architecture\n"
        "try:\n"
        "    build(read_architecture(open('huge.json').read()))\n"
        "except InvalidValue as error:\n"
        "    sys.exit(f'refused: {error}')\n"
    )
    ran = limited(BUILD_LIMIT, "-c", code, cwd=tmp_path)
    assert ran.returncode == 1
    assert ran.stderr.startswith("refused: ")
    for part in parts:
        assert part in ran.stderr


@pytest.mark.slow
def test_a_training_that_cannot_fit_is_refused_before_it_starts(tmp_path):
    thumbnail = {"kind": "stem_thumbnail", "channels": 16384}
    wide = changed(lambda d: d.update(stem=thumbnail, stages=d["stages"][:1]))
    (tmp_path / "wide.json").write_text(wide.replace('"growth": 64', '"growth": 8192'))
    ran = limited(
        BUILD_LIMIT,
        *("-m", "bitfront", "train", "wide.json", "--dataset", "digits", "--fit"),
        cwd=tmp_path,
    )
    assert ran.returncode == 1, ran.stderr
    assert len(ran.stderr.splitlines()) == 1
    for part in ("memory of cpu", "3 GiB", "batch_size", "A smaller"):
        assert part in ran.stderr
