"""JSON with weights beside it: everything that bitfront knows, read back to the same network.

::

    NAME.json                     what the network is, how it was trained, on what, measurements
    NAME-<sha256>.safetensors     the state_dict, float32 with latent weights, and packed bits

``NAME.json`` names its weights and their SHA-256, and replacing it is the one moment at which a new
export becomes valid: whatever a crash leaves behind, the two belong together. Any command that
takes an architecture file takes ``NAME.json``.

A layer with one-bit weights also has ``<node>.weight.packed``, int32 [N, kh, kw, P] (or [N, P]):
its signs in the layout of ``bitfront.kernels``, for whoever runs it on packed bits. What several
layers share (ABC-Net's bases) stands there once, under the first of them.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Final

import torch
from safetensors.torch import save
from torch import Tensor

from bitfront.evaluators.binary_layers import quantized_weight, weight_owners, weight_quantizer_of
from bitfront.evaluators.measurement import Measurement
from bitfront.evaluators.training.splits import DataSet
from bitfront.export.comparison import FromPixels, compare, require_same_data
from bitfront.export.errors import ExportFailed
from bitfront.export.files import read_file, replace_file
from bitfront.export.verification import Verification
from bitfront.export.weights import PACKED, load_network, read_tensors
from bitfront.export.winner import VERSION, Provenance, TrainedOn, Winner
from bitfront.kernels import pack
from bitfront.spaces.architecture import Architecture
from bitfront.spaces.errors import InvalidValue
from bitfront.spaces.graph import Domain
from bitfront.spaces.network import Network
from bitfront.spaces.recipe import Recipe
from bitfront.spaces.value import decode

_DIGEST: Final = 12


def write(winner: Winner, directory: Path | str) -> Path:
    """Write ``NAME.json`` and its weights; the same winner gives the same bytes.

    Args:
        winner: What to export.
        directory: It is made if need be.

    Returns:
        The JSON file.

    Raises:
        ExportFailed: If the weights cannot be read or a file cannot be written.
    """
    network = load_network(winner)
    content = save({**network.state_dict(), **_packed(network)})
    sha256 = hashlib.sha256(content).hexdigest()
    path = Path(directory) / f"{winner.name}.json"
    weights = path.with_name(f"{winner.name}-{sha256[:_DIGEST]}.safetensors")
    replace_file(weights, content)
    document = {**winner.json(), "weights": {"file": weights.name, "sha256": sha256}}
    text = json.dumps(document, indent=1, sort_keys=True, allow_nan=False)
    replace_file(path, f"{text}\n".encode())
    earlier = re.compile(rf"{re.escape(winner.name)}-[0-9a-f]{{{_DIGEST}}}\.safetensors")
    for file in path.parent.iterdir():
        if earlier.fullmatch(file.name) and file != weights:
            file.unlink(missing_ok=True)
    return path


def read(path: Path | str) -> Winner:
    """Read a winner back; any format can be written from it.

    Raises:
        ExportFailed: If a file is missing or damaged, or a newer bitfront wrote it.
    """
    path = Path(path)
    try:
        document = json.loads(read_file(path))
    except (ValueError, RecursionError) as error:
        raise ExportFailed(f"{path} must be JSON, but is not: {error}.") from None
    if not isinstance(document, dict) or document.get("format") != "bitfront":
        raise ExportFailed(f"{path} must be a JSON export of bitfront, but is not.")
    version = document.get("version")
    if version != VERSION:
        raise ExportFailed(
            f"{path} must have version {VERSION}, but has {version!r}; another bitfront wrote it."
        )
    try:
        weights, sha256 = document["weights"]["file"], document["weights"]["sha256"]
        # a name with a folder in it would lead elsewhere
        file = path.with_name(Path(weights).name)
        winner = Winner(
            name=document["name"],
            architecture=Architecture.from_json(document["architecture"]),
            recipe=Recipe.from_json(document["recipe"]),
            weights=file,
            data=decode(TrainedOn, document["data"], "data"),
            measurements=tuple(
                decode(Measurement, item, f"measurements[{i}]")
                for i, item in enumerate(document["measurements"])
            ),
            provenance=decode(Provenance, document["provenance"], "provenance"),
        )
    except InvalidValue as error:
        raise ExportFailed(f"{path}: {error}") from None
    except (KeyError, TypeError) as error:
        raise ExportFailed(f"{path} lacks a field, or has one of another type: {error}.") from None
    found = hashlib.sha256(read_file(file)).hexdigest()
    if found != sha256:
        raise ExportFailed(
            f"{file} must have the SHA-256 that {path.name} names, {str(sha256)[:_DIGEST]}, but "
            f"has {found[:_DIGEST]}: one of them is damaged."
        )
    return winner


def verify(winner: Winner, path: Path | str, data: DataSet) -> Verification:
    """Compare what the files hold with the winner; the logits must be equal bit for bit.

    Raises:
        ExportFailed: If a file is missing, damaged or of another network.
        InvalidValue: If ``data`` is not what the winner was trained on.
    """
    path = Path(path)
    require_same_data(winner, data)
    written = read(path)
    if written.json() != winner.json():
        raise ExportFailed(f"{path} must be of the winner {winner.name!r}, but is of another.")
    network = load_network(written)
    loaded = FromPixels(network, written.data)
    result = compare(loaded, winner, data, format="json", path=path)
    stored = read_tensors(written.weights)
    wrong = [
        name.removesuffix(f".weight{PACKED}")
        for name, words in _packed(network).items()
        if name not in stored or not torch.equal(stored[name], words)
    ]
    inexact = (*result.inexact_layers, *(n for n in wrong if n not in result.inexact_layers))
    unexplained = result.unexplained
    if result.max_difference and not unexplained:
        unexplained = "the same program with the same weights must give the same logits"
    return replace(result, inexact_layers=inexact, unexplained=unexplained)


def _packed(network: Network) -> dict[str, Tensor]:
    """The signs of every layer with one-bit weights, channels last."""
    words = {}
    for index, owner in weight_owners(network.graph).items():
        node = network.graph.nodes[index]
        if index == owner and weight_quantizer_of(node).domain is Domain.BIPOLAR:
            weight = quantized_weight(network, node)
            words[f"{node.name}.weight{PACKED}"] = pack(weight.movedim(1, -1)).words
    return words
