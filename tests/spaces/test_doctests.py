import doctest
from importlib import import_module

import pytest


@pytest.mark.parametrize("name", ["bitfront.spaces", "bitfront.spaces.quantizers.sign"])
def test_examples_in_docstrings(name):
    result = doctest.testmod(import_module(name))
    assert result.attempted > 0
    assert result.failed == 0
