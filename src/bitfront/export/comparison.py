"""Comparing a written file, loaded again, with the network that it was written from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from math import isfinite
from pathlib import Path
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from bitfront.evaluators.binary_layers import binary_layers, binary_nodes, unequal_layers
from bitfront.evaluators.training.splits import DataSet
from bitfront.export.errors import ExportFailed
from bitfront.export.flips import deviates, trace_flips
from bitfront.export.verification import Flip, Verification
from bitfront.export.weights import load_network
from bitfront.export.winner import TrainedOn, Winner
from bitfront.spaces.errors import InvalidValue
from bitfront.spaces.graph import Graph
from bitfront.spaces.network import Network
from bitfront.spaces.ops import Quantize

Pixels = npt.NDArray[np.uint8]
"""Images as they are stored: uint8, (B, C, H, W)."""

BATCH: Final = 16
"""Images at once. Programs may round differently in batches of another size, so an image is traced
in the batch in which its logits were computed."""

LAYER_IMAGES: Final = BATCH
"""Images on which each binary layer is compared: the integer reference is not fast."""


class Loaded(Protocol):
    """A written file, loaded again."""

    def logits(self, pixels: Pixels) -> Tensor:
        """Logits (B, classes), computed as for any user of the file."""

    def trace(self, pixels: Pixels) -> Mapping[int, Tensor]:
        """Values by node of the graph: at least those of ``traced_nodes``."""


class FromPixels:
    """A network that is fed with stored images: what every file is compared with.

    Args:
        network: In evaluation mode, on the CPU.
        data: How pixels are normalised.
    """

    def __init__(self, network: Network, data: TrainedOn) -> None:
        self._network = network
        self._factor, self._offset = map(torch.from_numpy, data.affine())

    def logits(self, pixels: Pixels) -> Tensor:
        """Logits, (B, classes)."""
        value: Tensor = self._network(self._normalised(pixels))
        return value

    def trace(self, pixels: Pixels) -> Mapping[int, Tensor]:
        """Every node's value."""
        return dict(enumerate(self._network.trace(self._normalised(pixels))))

    def _normalised(self, pixels: Pixels) -> Tensor:
        return torch.tensor(pixels) * self._factor + self._offset


def traced_nodes(graph: Graph) -> tuple[int, ...]:
    """Nodes that a comparison reads: quantizers, binary layers, their inputs, the logits."""
    nodes = {len(graph.nodes) - 1}
    quantizers = tuple(node for node in graph.nodes if isinstance(node.op, Quantize))
    for node in binary_nodes(graph) + quantizers:
        nodes.update((node.index, *node.inputs))
    return tuple(sorted(nodes))


def require_same_data(winner: Winner, data: DataSet) -> None:
    """Check that a data set is the one that the winner was trained on.

    Raises:
        InvalidValue: If it is another.
    """
    if data.digest != winner.data.digest:
        raise InvalidValue(
            "A file must be verified on the data that its network was trained on, "
            f"{winner.data.name} with digest {winner.data.digest[:12]}, but got {data.name} with "
            f"{data.digest[:12]}."
        )


def require_same_architecture(winner: Winner, path: Path, digest: str | None) -> None:
    """Check that a written file says it is of the winner's architecture.

    Args:
        winner: That it should be of.
        path: Of the file.
        digest: That the file names; None if it names none.

    Raises:
        ExportFailed: If it names another.
    """
    if digest != winner.architecture.digest:
        found = "an unknown one" if digest is None else digest[:12]
        raise ExportFailed(
            f"{path} must be of the architecture {winner.architecture.digest[:12]}, but is of "
            f"{found}."
        )


@torch.inference_mode()
def compare(
    loaded: Loaded, winner: Winner, data: DataSet, *, format: str, path: Path
) -> Verification:
    """Compare a loaded file with the winner's network on the test split.

    Args:
        loaded: The file.
        winner: What it was written from.
        data: The data set that the winner was trained on.
        format: Of the file.
        path: Of the file.

    Raises:
        InvalidValue: If the data set is another one.
        ExportFailed: If the winner's weights cannot be read, or the file gives other shapes.
    """
    require_same_data(winner, data)
    network = load_network(winner)
    reference = FromPixels(network, winner.data)
    images, labels = data.test.images, torch.tensor(data.test.labels)
    mine, theirs = _all_logits(reference, images), _all_logits(loaded, images)
    if theirs.shape != mine.shape:
        raise ExportFailed(
            f"{path} must give logits of shape {tuple(mine.shape)}, but gives "
            f"{tuple(theirs.shape)}."
        )
    layers = binary_layers(network)
    sample = images[:LAYER_IMAGES]
    inexact = unequal_layers(layers, loaded.trace(sample))
    rows = torch.nonzero(deviates(mine, theirs)).flatten().tolist()
    flips, unexplained = _explain(network, reference, loaded, images, theirs, rows)
    difference = float((mine - theirs).abs().max())
    predictions = theirs.argmax(1)
    return Verification(
        format=format,
        path=str(path),
        data=data.name,
        images=len(images),
        layers=len(layers),
        layer_images=len(sample),
        inexact_layers=inexact,
        accuracy=float((predictions == labels).double().mean()),
        equal_predictions=int((predictions == mine.argmax(1)).sum()),
        deviating=len(rows),
        flips=flips,
        unexplained=unexplained,
        max_difference=difference if isfinite(difference) else None,
    )


def _all_logits(loaded: Loaded, images: Pixels) -> Tensor:
    starts = range(0, len(images), BATCH)
    return torch.cat([loaded.logits(images[start : start + BATCH]) for start in starts])


def _explain(
    network: Network,
    reference: Loaded,
    loaded: Loaded,
    images: Pixels,
    logits: Tensor,
    deviating: Sequence[int],
) -> tuple[tuple[Flip, ...], str]:
    """Trace deviating images, up to the first that nothing explains.

    Args:
        network: Whose values are explained.
        reference: It, fed with pixels.
        loaded: The file.
        images: All of them.
        logits: What the file gives for them.
        deviating: Numbers of the images to trace, ascending.

    Returns:
        The flips, and why that image is not explained ("" if all are).
    """
    flips: list[Flip] = []
    for start, rows in groupby(deviating, key=lambda image: image - image % BATCH):
        batch = images[start : start + BATCH]
        mine, theirs = reference.trace(batch), loaded.trace(batch)
        # a trace that does not lead to the file's own logits explains nothing
        strayed = deviates(logits[start : start + BATCH], theirs[len(network.graph.nodes) - 1])
        for image in rows:
            b = image - start
            found, wrong = trace_flips(network, _one(mine, b), _one(theirs, b), image)
            if not wrong and (bool(strayed[b]) or not found):
                wrong = "its logits differ, but no value that leads to them does"
            if wrong:
                return tuple(flips), f"image {image}: {wrong}"
            flips += found
    return tuple(flips), ""


def _one(values: Mapping[int, Tensor], b: int) -> dict[int, Tensor]:
    return {index: value[b : b + 1] for index, value in values.items()}
