import doctest
from importlib import import_module

import pytest

from bitfront.spaces.quantizers import quantizers

QUANTIZERS = sorted({cls.__module__ for cls in quantizers.values()})


@pytest.mark.parametrize("name", ["bitfront.spaces", *QUANTIZERS])
def test_examples_in_docstrings(name):
    result = doctest.testmod(import_module(name))
    assert result.attempted > 0
    assert result.failed == 0
