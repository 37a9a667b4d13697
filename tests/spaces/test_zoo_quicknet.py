"""QuickNet against what Larq Zoo prints of it."""

from math import prod

import pytest

from bitfront.evaluators.cost import count
from bitfront.spaces import Role
from bitfront.spaces.zoo import get


# larq/docs, docs/zoo/index.md, and the docstrings of larq_zoo/sota/quicknet.py
@pytest.mark.parametrize(
    ("name", "params", "size_mib"),
    [
        ("quicknet-small", 12_655_688, 4.00),
        ("quicknet", 13_234_088, 4.17),
        ("quicknet-large", 23_342_248, 5.40),
    ],
)
def test_larqs_figures_follow_with_the_fixed_kernels_of_the_blurs(name, params, size_mib):
    """Its summary counts all weights of a layer, trained or not; 2 per channel of a batch norm."""
    graph = get(name).architecture().lower()
    fixed = sum(prod(row.shape) for row in graph.parameters() if row.role is Role.BUFFER)
    # three transitions, nine taps per channel that enters them
    assert fixed == 9 * sum(get(name).architecture().stages[s].blocks[0].channels for s in range(3))
    counts = count(graph, "hpi")
    assert counts.params + fixed == params
    assert round(counts.size_mib + fixed * 32 / (8 * 2**20), 2) == size_mib
