"""The space ``melius``: MeliusNet-style networks of dense and improvement blocks."""

from __future__ import annotations

from bitfront.spaces.architecture import Architecture, Stage
from bitfront.spaces.blocks import (
    Block,
    Classifier,
    Dense,
    Improvement,
    StemGrouped,
    StemThumbnail,
    Transition,
)
from bitfront.spaces.candidate import Candidate
from bitfront.spaces.choose import Choose
from bitfront.spaces.precision import BINARY, Precision
from bitfront.spaces.recipe import Recipe
from bitfront.spaces.space import Task, spaces

# a unit of a stage, repeated: D appends channels, I improves the last ones
PATTERNS = ("DI", "DD", "DII")
MIN_BINARY = 6
SMALL = 64


@spaces.register("melius")
def melius(choose: Choose, task: Task) -> Candidate:
    """Dense and improvement blocks, bits, shortcut bits, t_clip and learning rate.

    Images of at least 64 pixels get the grouped stem, four stages and MeliusNet's widths;
    smaller ones a thumbnail stem and two or three narrow stages. ``bits`` is "binary" for a 1-bit
    body; "mixed" asks for bits per stage, except where a stage is needed to reach six binary
    convolutions: the stages with most convolutions stay binary until there are that many.

    References:
        Bethge et al. 2020, MeliusNet (arXiv:2001.05936).
    """
    small = min(task.input[1:]) < SMALL
    counts = choose.ordered("stages", (2, 3) if small else (3, 4))
    width = choose.ordered("stem.channels", (16, 32) if small else (32, 64, 96))
    shortcut_bits = choose.ordered("shortcut_bits", (4, 8, 16, 32))
    units = [
        choose.ordered(f"stage{s}.units", (2, 3) if small else (2, 3, 4, 5, 6))
        if s == 0
        else choose.ordered(f"stage{s}.units", (1, 2, 3) if small else (2, 3, 4, 5, 6))
        for s in range(counts)
    ]
    patterns = [choose.option(f"stage{s}.pattern", PATTERNS) for s in range(counts)]
    binary = set(range(counts))
    if choose.option("bits", ("binary", "mixed")) == "mixed":
        binary = _anchors([u * len(p) for u, p in zip(units, patterns, strict=True)])
    stages = []
    channels = width
    for s in range(counts):
        growth = choose.ordered(f"stage{s}.growth", (8, 16, 24) if small else (32, 64, 96))
        kernel_size = choose.ordered(f"stage{s}.kernel_size", (1, 3) if small else (1, 3, 5))
        precision = BINARY
        if s not in binary:
            precision = Precision(
                weights=choose.ordered(f"stage{s}.weight_bits", (1, 2, 4)),
                activations=choose.ordered(f"stage{s}.activation_bits", (1, 2, 4)),
            )
        kinds = {"D": Dense, "I": Improvement}
        blocks: tuple[Block, ...] = tuple(
            kinds[letter](
                growth=growth,
                kernel_size=kernel_size,
                precision=precision,
                shortcut_bits=shortcut_bits,
            )
            for letter in patterns[s] * units[s]
        )
        channels += growth * units[s] * patterns[s].count("D")
        transition = None
        if s < counts - 1:
            reduction = choose.ordered(f"stage{s}.reduction", (1.5, 2.0, 2.5, 3.0))
            step = 8 if small else 32
            channels = max(step, round(channels / reduction / step) * step)
            transition = Transition(channels=channels, out_bits=shortcut_bits)
        stages.append(Stage(blocks=blocks, transition=transition))
    stem: Block = (
        StemThumbnail(channels=width, out_bits=shortcut_bits)
        if small
        else StemGrouped(channels=width, out_bits=shortcut_bits)
    )
    architecture = Architecture(
        input=task.input, stem=stem, stages=tuple(stages), head=Classifier(classes=task.classes)
    )
    recipe = Recipe(
        # RAdam's rectification holds back the first few hundred steps, which is all there are here
        optimizer="adamw" if small else "radam",
        learning_rate=choose.number(
            "learning_rate", 5e-3 if small else 5e-4, 4e-2 if small else 1e-2, log=True
        ),
        t_clip=choose.number("t_clip", 0.8, 2.0),
        epochs=task.epochs,
        batch_size=32 if small else 256,
        augmentation=_augmentation(task),
    )
    return Candidate(architecture=architecture, recipe=recipe)


def _augmentation(task: Task) -> str:
    """Crops and mirrors; tiny images are shifted by a pixel, if there are epochs to profit from it.

    On 8x8 digits, 12 epochs without shifts reach about two points more than with them.
    """
    if max(task.input[1:]) > 16:
        return "crop-flip"
    return "shift" if task.epochs >= 40 else "none"


def _anchors(convolutions: list[int]) -> set[int]:
    """The fewest stages, largest first, that hold ``MIN_BINARY`` convolutions together."""
    anchors: set[int] = set()
    total = 0
    for s in sorted(range(len(convolutions)), key=lambda s: -convolutions[s]):
        if total >= MIN_BINARY:
            break
        anchors.add(s)
        total += convolutions[s]
    return anchors
