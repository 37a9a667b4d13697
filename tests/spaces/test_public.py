"""What ``bitfront.spaces`` hands out."""

import subprocess
import sys

import pytest

import bitfront.spaces
from bitfront.spaces.registry import Registry


@pytest.mark.parametrize("name", bitfront.spaces.__all__)
def test_every_public_name_is_there(name):
    assert getattr(bitfront.spaces, name) is not None
    assert name in dir(bitfront.spaces)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'Netwrok'"):
        bitfront.spaces.Netwrok  # noqa: B018


LIGHT = """
import sys
import bitfront.spaces
from bitfront.spaces import Task, RandomChoose, spaces, zoo
assert "melius" in spaces
spaces["melius"](RandomChoose(0), Task(input=(1, 8, 8), classes=10)).architecture.lower()
zoo.get("meliusnet22").architecture().lower()
heavy = [name for name in ("torch", "numpy", "optuna") if name in sys.modules]
assert not heavy, heavy
"""

FULL = """
from bitfront.spaces.{module} import {registry}
assert len({registry}) > {least}
"""


def run(code: str) -> None:
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_graphs_need_no_torch():
    run(LIGHT)


@pytest.mark.parametrize(
    ("module", "registry", "least"),
    [
        ("space", "spaces", 0),
        ("ops", "ops", 20),
        ("blocks", "blocks", 14),
        ("blocks.block", "blocks", 14),
        ("quantizers", "quantizers", 7),
        ("zoo", "zoo", 25),
        ("zoo.entry", "zoo", 25),
    ],
)
def test_importing_a_registry_fills_it(module, registry, least):
    run(FULL.format(module=module, registry=registry, least=least))


def test_a_registry_takes_a_name_once_and_suggests_the_nearest():
    registry: Registry[int] = Registry("number")
    registry.register("one")(1)
    with pytest.raises(ValueError, match="A number name must be unique, but 'one' is taken"):
        registry.register("one")(2)
    with pytest.raises(bitfront.spaces.InvalidValue) as caught:
        registry["onw"]
    assert str(caught.value) == "Unknown number 'onw'. Did you mean 'one'? Known: one."
    assert "two" not in registry
    assert registry.get("two") is None
