import pytest

from bitfront.spaces import InfeasibleArchitecture, RandomChoose, Task, spaces

SMALL = Task(input=(1, 8, 8), classes=10)


def test_searched_dimensions_of_melius():
    """Block kind, bits, shortcut bits, t_clip and learning rate all vary."""
    candidates = [spaces["melius"](RandomChoose(seed), SMALL) for seed in range(200)]
    graphs = [candidate.architecture.lower() for candidate in candidates]
    widths = {(n.facts.w_bits, n.facts.a_bits) for g in graphs for n in g.nodes if n.op.main}
    assert {(1, 1), (2, 2), (4, 4), (1, 4), (4, 1)} <= widths
    stored = {n.type.stored_bits for g in graphs for n in g.nodes if n.name.endswith("concat")}
    assert stored == {4, 8, 16, 32}
    kinds = {b.kind for c in candidates for s in c.architecture.stages for b in s.blocks}
    assert kinds == {"dense", "improvement"}
    clips = [candidate.recipe.t_clip for candidate in candidates]
    assert min(clips) < 1.0 < 1.8 < max(clips)


def test_an_image_that_is_too_small_is_refused_in_one_sentence():
    task = Task(input=(1, 2, 2), classes=10)
    for seed in range(20):
        architecture = spaces["melius"](RandomChoose(seed), task).architecture
        if len(architecture.stages) == 2:
            assert architecture.lower().output.shape == (10,)
            continue
        rule = r"^stages\.1\.transition\.pool: A window of 2 must fit the padded size 1"
        with pytest.raises(InfeasibleArchitecture, match=rule):
            architecture.lower()
