"""Checkpoints: tensors as safetensors, everything else as JSON, both or nothing.

::

    DIRECTORY/
      checkpoint.json                   epoch, digests, curve, and which tensor file is the current
      tensors-<sha256>.safetensors      model.*, optimizer.*, random.*

The tensor file is written first, under the name of its content; replacing ``checkpoint.json`` is
the one moment at which the new checkpoint becomes valid. Whatever a crash leaves behind, the JSON
that is there names a complete tensor file. Nothing is pickled.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from bitfront.evaluators.files import replace_file
from bitfront.evaluators.training.results import EpochResult
from bitfront.spaces.candidate import Candidate
from bitfront.spaces.errors import InvalidValue
from bitfront.spaces.value import Value, decode, encode

VERSION: Final = 1
RECORD: Final = "checkpoint.json"
MODEL: Final = "model."
OPTIMIZER: Final = "optimizer."
RANDOM: Final = "random."


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Progress(Value):
    """The part of a checkpoint that is JSON.

    Attributes:
        candidate: What is trained.
        candidate_digest: Its digest; the optimizer and the schedule follow from its recipe.
        data: Name of the data set.
        data_digest: Digest of its images, labels and splits.
        seed: Of the run.
        epoch: Epochs done.
        step: Optimizer steps done; the schedule's position.
        history: One result per epoch.
        torch: Version of torch that wrote it.
        version: Of this format.
    """

    candidate: Candidate
    candidate_digest: str
    data: str
    data_digest: str
    seed: int
    epoch: int
    step: int
    history: tuple[EpochResult, ...] = ()
    torch: str = ""
    version: int = VERSION

    def check(self) -> None:
        """The digest is the candidate's, and there is one result per epoch."""
        if self.candidate_digest != self.candidate.digest:
            raise InvalidValue(
                f"candidate_digest must be the candidate's, {self.candidate.digest[:12]}, but is "
                f"{self.candidate_digest[:12]}."
            )
        if self.epoch != len(self.history):
            raise InvalidValue(
                f"The history must have one result per epoch, but has {len(self.history)} for "
                f"{self.epoch} epochs."
            )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Checkpoint:
    """A run between two epochs.

    Attributes:
        progress: The part that is JSON.
        tensors: By name: ``model.`` as in ``state_dict``, ``optimizer.``, ``random.``; on the CPU.
    """

    progress: Progress
    tensors: Mapping[str, Tensor]

    def part(self, prefix: str) -> dict[str, Tensor]:
        """The tensors whose name starts with ``prefix``, without it."""
        return {
            name.removeprefix(prefix): tensor
            for name, tensor in self.tensors.items()
            if name.startswith(prefix)
        }


def write_checkpoint(directory: Path | str, checkpoint: Checkpoint) -> Path:
    """Write a checkpoint; an earlier one in the directory stays valid until this one is.

    Args:
        directory: It is made if need be.
        checkpoint: What to write.

    Returns:
        The JSON file.
    """
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    content = save_tensors(
        {name: tensor.detach().cpu().contiguous() for name, tensor in checkpoint.tensors.items()}
    )
    digest = hashlib.sha256(content).hexdigest()
    tensor_file = f"tensors-{digest}.safetensors"
    replace_file(directory / tensor_file, content)
    record = {"tensors": tensor_file, **encode(checkpoint.progress)}
    text = json.dumps(record, indent=1, allow_nan=False)
    replace_file(directory / RECORD, text.encode())
    for old in directory.glob("tensors-*.safetensors"):
        if old.name != tensor_file:
            old.unlink(missing_ok=True)
    return directory / RECORD


def read_checkpoint(directory: Path | str) -> Checkpoint:
    """Read a checkpoint and check that it is whole.

    Raises:
        InvalidValue: If there is none, a file is missing or damaged, or a newer bitfront wrote it.
    """
    path = Path(directory) / RECORD
    data = _record(path)
    file = _tensor_file(path, data)
    del data["tensors"]
    return Checkpoint(progress=decode(Progress, data, str(path)), tensors=_tensors(file))


def weights_file(directory: Path | str) -> Path:
    """The safetensors file of a checkpoint; the network's tensors in it start with ``MODEL``.

    Raises:
        InvalidValue: If there is no checkpoint, or a newer bitfront wrote it.
    """
    path = Path(directory) / RECORD
    return _tensor_file(path, _record(path))


def read_weights(directory: Path | str) -> dict[str, Tensor]:
    """Read a network's ``state_dict`` from a checkpoint.

    Raises:
        InvalidValue: As ``read_checkpoint``.
    """
    return read_checkpoint(directory).part(MODEL)


def _tensor_file(path: Path, data: dict[str, Any]) -> Path:
    version = data.get("version")
    if isinstance(version, int) and version > VERSION:
        raise InvalidValue(
            f"{path} must have at most version {VERSION}, but has {version}; a newer bitfront "
            "wrote it."
        )
    name = data.get("tensors")
    if not isinstance(name, str) or Path(name).name != name:
        raise InvalidValue(f"{path} must name its tensor file, but names {name!r}.")
    return path.with_name(name)


def _record(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InvalidValue(
            f"{path.parent} must hold a checkpoint, but {path} is missing."
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise InvalidValue(f"{path} must be readable JSON, but is not: {error}.") from None
    if not isinstance(data, dict):
        raise InvalidValue(f"{path} must be a JSON object, but is not.")
    return data


def _tensors(path: Path) -> dict[str, Tensor]:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InvalidValue(f"The checkpoint needs {path}, which cannot be read: {error}.") from None
    digest = hashlib.sha256(content).hexdigest()
    if path.name != f"tensors-{digest}.safetensors":
        raise InvalidValue(f"{path} is damaged: its content has the SHA-256 {digest}.")
    try:
        tensors: dict[str, Tensor] = load_tensors(content)
    except SafetensorError as error:
        raise InvalidValue(f"{path} must be a safetensors file, but is not: {error}.") from None
    return tensors
