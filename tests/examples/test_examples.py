"""The examples run as they stand."""

from __future__ import annotations

import importlib.util
from pathlib import Path

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_custom_network(tmp_path, capsys):
    spec = importlib.util.spec_from_file_location("example", EXAMPLES / "custom_network.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    accuracy = module.main(tmp_path)
    # one epoch of ten classes: far better than chance, or training is broken
    assert accuracy > 0.2
    assert "parameters" in capsys.readouterr().out
    from bitfront.spaces import read_architecture

    text = (tmp_path / "small_melius.json").read_text()
    assert read_architecture(text) == module.small_melius()


def test_search_toml_is_a_valid_configuration():
    from bitfront.search.config import SearchConfig, read_settings

    config = SearchConfig.resolve(read_settings(EXAMPLES / "search.toml"))
    assert config.trials == 24
    assert config.name == "digits-small"
