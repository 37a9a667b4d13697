"""``bitfront zoo``: printed and counted side by side, and what is not reproduced said plainly."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios

import pytest

from bitfront.cli.zoo import _natural
from bitfront.spaces import zoo


def on_a_terminal(columns: int, *arguments: str) -> list[str]:
    """The lines that a user sees on a terminal of that width, without colours."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    environment = {**os.environ, "TERM": "xterm", "NO_COLOR": "1"}
    for name in ("COLUMNS", "LINES"):
        environment.pop(name, None)
    child = subprocess.Popen(
        [sys.executable, "-m", "bitfront", *arguments],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=environment,
    )
    os.close(theirs)
    seen = b""
    while True:
        try:
            chunk = os.read(ours, 65536)
        except OSError:  # the terminal is closed when its last user ends
            break
        if not chunk:
            break
        seen += chunk
    os.close(ours)
    assert child.wait() == 0
    return re.sub(r"\x1b\[[0-9;]*m", "", seen.decode()).splitlines()


def test_json_holds_printed_and_counted_unrounded(bitfront):
    (row,) = bitfront("zoo", "meliusnet22", "--json").json["networks"]
    assert row["name"] == "meliusnet22"
    assert row["family"] == "MeliusNet"
    assert row["dataset"] == "imagenet"
    assert row["convention"] == row["counted"]["convention"] == "hpi"
    assert row["published"]["top1"] == 63.6
    assert row["counted"] == row["counted_by"]["hpi"]
    assert row["counted"]["params"] == 6944584
    assert row["counted_by"]["larq"]["ops"] is None
    figures = {figure["figure"]: figure for figure in row["figures"]}
    ops = figures["ops_1e8"]
    assert ops["published"] == 2.08
    assert ops["counted"] == row["counted"]["ops"] / 1e8 == 2.08130048
    assert ops["difference"] == ops["counted"] - 2.08
    assert ops["reproduced"] is True
    assert ops["mismatch"] == ""
    assert {(e["profile"], e["scope"]) for e in row["energy"]} >= {
        (profile, scope) for profile in ("boolnet65", "horowitz45") for scope in ("network", "body")
    }
    assert row["recipe"]["batch_size"] == 256


def test_json_and_table_list_every_network(bitfront):
    assert {row["name"] for row in bitfront("zoo", "--json").json["networks"]} == set(zoo.zoo)
    table = bitfront("zoo").out
    assert all(f" {name} " in table for name in zoo.zoo)


@pytest.mark.parametrize("columns", [80, 200])
def test_a_row_stays_on_one_line(columns):
    lines = on_a_terminal(columns, "zoo")
    assert max(map(len, lines)) <= columns
    rows = {line.split()[0]: line.split() for line in lines if line.split()}
    family = ["MeliusNet", "6,944,584"] if columns == 200 else []
    assert rows["meliusnet22"] == [
        *("meliusnet22", *family, "63.6"),
        *("2.08", "2.081", "+0.1", "3.88", "3.877", "-0.1"),
    ]
    # in decimal megabytes, as its source prints it
    assert rows["resnet18-fp"][-4:] == ["46.8", "MB", "46.76", "-0.1"]
    assert set(zoo.zoo) <= set(rows)


def test_networks_are_sorted_by_family_and_number(bitfront):
    names = [row["name"] for row in bitfront("zoo", "melius*", "--json").json["networks"]]
    numbers = [int(n.removeprefix("meliusnet")) for n in names if re.fullmatch(r"[a-z]+\d+", n)]
    assert numbers == sorted(numbers)
    assert {22, 29, 42, 59} <= set(numbers)
    # 18 comes before 101, and before what has more to its name
    assert _natural("net9") < _natural("net18") < _natural("net18-a") < _natural("net101")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["quick*"], {"quicknet", "quicknet-small", "quicknet-large"}),
        (["QuickNet-*"], {"quicknet-small", "quicknet-large"}),
        (["--family", "quicknet"], {"quicknet", "quicknet-small", "quicknet-large"}),
        (["*-small", "--family", "QuickNet"], {"quicknet-small"}),
        (["quicknet"], {"quicknet"}),
    ],
)
def test_networks_are_chosen_by_name_pattern_and_family(bitfront, arguments, expected):
    rows = bitfront("zoo", *arguments, "--json").json["networks"]
    assert {row["name"] for row in rows} == expected


def test_what_is_not_reproduced_is_marked_and_explained(bitfront):
    text = " ".join(bitfront("zoo", "birealnet*").out.split())
    assert "5.1 5.23 +2.5*" in text
    assert "* birealnet34, size: Its parameters take 5.23 MiB" in text
    assert "birealnet18, size" not in text


def test_energy_stands_beside_the_published_one(bitfront):
    text = " ".join(bitfront("zoo", "--family", "BoolNet").out.split())
    assert "boolnet-k4 0.84 0.832 -0.9" in text


def test_a_name_alone_shows_the_whole_card(bitfront):
    text = " ".join(bitfront("zoo", "boolnet-k4").out.split())
    entry = zoo.get("boolnet-k4")
    assert "boolnet-k4, BoolNet, imagenet" in text
    for convention in ("hpi", "reactnet", "larq", "full"):
        assert f" {convention} 14,444,520 " in text
    assert "boolnet65 " in text
    assert "horowitz45 " in text
    assert f"source {entry.published['source']}" in text
    assert f"not reproduced OPs: {entry.mismatches[0].why}" in text
    assert "optimizer radam" in text
    assert f"notes {entry.notes}" in text


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["melius22"], ["melius22", "Did you mean", "meliusnet22"]),
        (["lenet*"], ["lenet*", "meliusnet22"]),
        (["--family", "LeNet"], ["family", "LeNet", "MeliusNet", "BoolNet"]),
        (["quicknet", "--family", "MeliusNet"], ["quicknet", "MeliusNet", "meliusnet22"]),
        (["["], ["'['"]),
        ([""], ["''"]),
    ],
)
def test_a_wrong_name_is_one_sentence(bitfront, arguments, parts):
    ran = bitfront("zoo", *arguments)
    assert ran.status == 2
    assert ran.out == ""
    assert len(ran.err.splitlines()) == 1
    for part in parts:
        assert part in ran.err
