"""The training loop: one candidate on one data set, epoch by epoch.

A run is a function of candidate, data, seed and device: the seed feeds one named stream each for
weights, shuffling, augmentation and whatever a network draws itself; a checkpoint keeps their
states, so a run that was interrupted gives bitwise the parameters of one that was not. On a GPU
that holds as far as its kernels are deterministic.

The validation split is what an epoch reports. The test split is touched by ``evaluate("test")``
and by nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from math import ceil, isfinite
from pathlib import Path
from time import perf_counter
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from bitfront.evaluators.training.augment import augmentations
from bitfront.evaluators.training.checkpoint import (
    MODEL,
    OPTIMIZER,
    RANDOM,
    Checkpoint,
    Progress,
    read_checkpoint,
    write_checkpoint,
)
from bitfront.evaluators.training.errors import EvaluationFailed
from bitfront.evaluators.training.memory import activation_bytes, check_memory
from bitfront.evaluators.training.optimizer import (
    build_optimizer,
    learning_rate,
    optimizer_tensors,
    restore_optimizer,
)
from bitfront.evaluators.training.results import EpochResult, Evaluation
from bitfront.evaluators.training.splits import DataSet
from bitfront.evaluators.training.streams import Streams, sub_seed
from bitfront.spaces.candidate import Candidate
from bitfront.spaces.errors import InvalidValue
from bitfront.spaces.network import Network

__all__ = ["EpochResult", "Evaluation", "Trainer", "activation_bytes"]

MIN_EVALUATION_BATCH: Final = 64
CHECK_EVERY_CUDA: Final = 32
MEMORY_TEXTS: Final = (
    "out of memory",
    "out_of_memory",
    "can't allocate memory",
    "not enough memory",
    "could not create a memory object",
)


class Trainer:
    """Trains a candidate.

    Args:
        candidate: Network and recipe.
        data: Its input size and classes must be the architecture's.
        seed: Of everything that is random.
        device: "cpu", "cuda", "cuda:1", or "auto": a GPU if there is one.
        threads: CPU threads while it works; None leaves torch's setting.
        amp: Train with bfloat16 autocast on a GPU. Evaluation is never autocast: bfloat16 rounds
            integer sums above 256, which the exported network will not.
        channels_last: Memory order of the feature maps; it changes speed, not meaning.

    Attributes:
        candidate: As given.
        data: As given.
        seed: As given.
        device: Where it runs.
        network: The network, on that device.
        optimizer: The recipe's.
        history: One result per epoch done.

    Raises:
        InvalidValue: If data and architecture do not fit, or the device is not there.
        EvaluationFailed: If the memory does not suffice.
    """

    def __init__(
        self,
        candidate: Candidate,
        data: DataSet,
        *,
        seed: int,
        device: str = "auto",
        threads: int | None = None,
        amp: bool = True,
        channels_last: bool = True,
    ) -> None:
        architecture, recipe = candidate.architecture, candidate.recipe
        if (architecture.input, architecture.classes) != (data.input, data.classes):
            raise InvalidValue(
                f"The architecture must fit {data.name}, {data.input} and {data.classes} classes, "
                f"but is for {architecture.input} and {architecture.classes} classes."
            )
        self.steps_per_epoch = ceil(len(data.train) / recipe.batch_size)
        if len(data.train) < 2 * self.steps_per_epoch:
            raise InvalidValue(
                "Each step needs at least 2 images, because batch norms take a variance, but "
                f"batch_size {recipe.batch_size} cuts {len(data.train)} images into "
                f"{self.steps_per_epoch} steps."
            )
        if threads is not None and threads < 1:
            raise InvalidValue(f"threads must be at least 1, but is {threads}.")
        self.candidate = candidate
        self.data = data
        self.seed = seed
        self.device = _device(device)
        self.history: tuple[EpochResult, ...] = ()
        self._threads = threads
        self._format = torch.channels_last if channels_last else torch.contiguous_format
        on_gpu = self.device.type == "cuda"
        self._autocast = amp and on_gpu
        # reading a loss waits for the GPU, so there it is read in bundles
        self._check_every = CHECK_EVERY_CUDA if on_gpu else 1
        self._augmentation = augmentations[recipe.augmentation]
        self._streams = Streams(seed, self.device)
        self._splits: dict[str, tuple[Tensor, Tensor]] = {}
        self._graph = architecture.lower()
        largest_step = ceil(len(data.train) / self.steps_per_epoch)
        check_memory(self._graph, largest_step, self.device)
        with self._memory():
            network = Network(
                self._graph,
                t_clip=recipe.t_clip,
                seed=sub_seed(seed, "weights"),
                estimator=recipe.estimator,
                weight_estimator=recipe.weight_estimator,
            )
            self.network: Network = network.to(self.device, memory_format=self._format)  # type: ignore[call-overload]
            factor, offset = data.affine()
            self._factor = torch.tensor(factor, device=self.device)
            self._offset = torch.tensor(offset, device=self.device)
        self.optimizer = build_optimizer(self.network, recipe)

    @property
    def epoch(self) -> int:
        """Epochs done."""
        return len(self.history)

    @property
    def epoch_seconds(self) -> tuple[float, ...]:
        """Wall time of each epoch done, validation included."""
        return tuple(result.seconds for result in self.history)

    def run_epoch(self) -> EpochResult:
        """Train on every training image once, then validate.

        Raises:
            InvalidValue: If the recipe's epochs are done.
            EvaluationFailed: If a loss is not finite, or the memory does not suffice.
        """
        epochs = self.candidate.recipe.epochs
        if self.epoch >= epochs:
            raise InvalidValue(f"The recipe has {epochs} epochs, and all of them are done.")
        started = perf_counter()
        with self._streams.active(self._threads), self._memory():
            train_loss = self._train()
            validation = self._evaluate("validation")
        result = EpochResult(
            epoch=self.epoch + 1,
            train_loss=train_loss,
            validation_loss=validation.loss,
            validation_accuracy=validation.accuracy,
            seconds=perf_counter() - started,
            learning_rate=self._rate((self.epoch + 1) * self.steps_per_epoch - 1),
        )
        self.history = (*self.history, result)
        return result

    def evaluate(self, split_name: str) -> Evaluation:
        """Classify the images of a split, never autocast; the training state stays.

        Args:
            split_name: "train", "validation" or "test".

        Raises:
            InvalidValue: If the split is another one.
            EvaluationFailed: If the loss is not finite, or the memory does not suffice.
        """
        with self._streams.active(self._threads), self._memory():
            return self._evaluate(split_name)

    def save(self, directory: Path | str) -> Path:
        """Write a checkpoint; see ``write_checkpoint``."""
        tensors = {MODEL + name: value for name, value in self.network.state_dict().items()}
        for name, value in optimizer_tensors(self.optimizer).items():
            tensors[OPTIMIZER + name] = value
        for name, value in self._streams.tensors().items():
            tensors[RANDOM + name] = value
        progress = Progress(
            candidate=self.candidate,
            candidate_digest=self.candidate.digest,
            data=self.data.name,
            data_digest=self.data.digest,
            seed=self.seed,
            epoch=self.epoch,
            step=self.epoch * self.steps_per_epoch,
            history=self.history,
            torch=torch.__version__,
        )
        return write_checkpoint(directory, Checkpoint(progress=progress, tensors=tensors))

    def load(self, directory: Path | str) -> None:
        """Go on from a checkpoint.

        Raises:
            InvalidValue: If it is damaged, or of another candidate, data set or seed; the trainer
                is then of no further use.
        """
        checkpoint = read_checkpoint(directory)
        progress = checkpoint.progress
        for what, mine, its in (
            ("candidate", self.candidate.digest, progress.candidate_digest),
            (f"data set ({self.data.name})", self.data.digest, progress.data_digest),
            ("seed", str(self.seed), str(progress.seed)),
        ):
            if mine != its:
                raise InvalidValue(
                    f"The checkpoint in {directory} must be of this {what}, {mine[:12]}, but is of "
                    f"{its[:12]}."
                )
        model = checkpoint.part(MODEL)
        shapes = {name: value.shape for name, value in self.network.state_dict().items()}
        if {name: value.shape for name, value in model.items()} != shapes:
            raise InvalidValue(f"The tensors in {directory} do not fit this candidate's network.")
        restore_optimizer(self.optimizer, checkpoint.part(OPTIMIZER))
        self.network.load_state_dict(model)
        self._streams.restore(checkpoint.part(RANDOM))
        self.history = progress.history

    def _train(self) -> float:
        """One epoch of steps; returns the mean loss."""
        recipe = self.candidate.recipe
        images, labels = self._on_device("train")
        count, steps = len(labels), self.steps_per_epoch
        # every image once, in steps whose sizes differ by at most one
        order = torch.randperm(count, generator=self._streams.shuffle).to(self.device)
        draws = self._augmentation.draw(count, self._streams.augmentation).to(self.device)
        losses = torch.zeros(steps, device=self.device)
        sizes = []
        self.network.train()
        self.network.start_epoch(self.epoch, recipe.epochs)
        for step, (rows, numbers) in enumerate(
            zip(order.tensor_split(steps), draws.tensor_split(steps), strict=True)
        ):
            x = self._prepared(self._augmentation.apply(images.index_select(0, rows), numbers))
            y = labels.index_select(0, rows)
            rate = self._rate(self.epoch * steps + step)
            for group in self.optimizer.param_groups:
                group["lr"] = rate
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self._autocast):
                logits = self.network(x)
            loss = F.cross_entropy(logits.float(), y, label_smoothing=recipe.label_smoothing)
            losses[step] = loss.detach()
            sizes.append(len(rows))
            if (step + 1) % self._check_every == 0 or step + 1 == steps:
                self._check(losses[: step + 1])
            self.optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            self.optimizer.step()
        weights = torch.tensor(sizes, dtype=torch.float64)
        return float(losses.cpu().double() @ weights) / count

    def _check(self, losses: Tensor) -> None:
        finite = losses.isfinite()
        if finite.all():
            return
        step = int(finite.logical_not().nonzero()[0])
        rate = self._rate(self.epoch * self.steps_per_epoch + step)
        raise EvaluationFailed(
            f"The training loss must be finite, but is {float(losses[step])} in epoch "
            f"{self.epoch + 1}, step {step + 1} of {self.steps_per_epoch}, at learning rate "
            f"{rate:.3g}: the training diverged."
        )

    @torch.inference_mode()
    def _evaluate(self, name: str) -> Evaluation:
        images, labels = self._on_device(name)
        batch = max(self.candidate.recipe.batch_size, MIN_EVALUATION_BATCH)
        predictions = []
        total = torch.zeros((), dtype=torch.float64, device=self.device)
        self.network.eval()
        for x, y in zip(torch.split(images, batch), torch.split(labels, batch), strict=True):
            logits = self.network(self._prepared(x))
            total += F.cross_entropy(logits, y, reduction="sum")
            predictions.append(logits.argmax(1))
        loss = float(total) / len(labels)
        if not isfinite(loss):
            raise EvaluationFailed(
                f"The {name} loss must be finite, but is {loss} after {self.epoch} whole epochs: "
                "the training diverged."
            )
        predicted = torch.cat(predictions)
        correct = int((predicted == labels).sum())
        return Evaluation(
            accuracy=correct / len(labels), loss=loss, predictions=predicted.cpu().numpy()
        )

    def _prepared(self, images: Tensor) -> Tensor:
        """Pixels to what the network reads, as ``DataSet.normalized``."""
        x = images * self._factor + self._offset
        return x.contiguous(memory_format=self._format)

    def _rate(self, step: int) -> float:
        return learning_rate(self.candidate.recipe, step, self.steps_per_epoch)

    def _on_device(self, name: str) -> tuple[Tensor, Tensor]:
        """A split as two tensors that stay on the device; only who asks for it moves it there."""
        if name not in self._splits:
            split = self.data.split(name)
            # an evaluation may ask first, but training must be able to use them too
            with torch.inference_mode(mode=False):
                self._splits[name] = (
                    torch.tensor(split.images, device=self.device),
                    torch.tensor(split.labels, device=self.device),
                )
        return self._splits[name]

    @contextmanager
    def _memory(self) -> Iterator[None]:
        """Turn an allocation that fails into ``EvaluationFailed``."""
        try:
            yield
        except (MemoryError, RuntimeError) as error:
            text = str(error).lower()
            if not isinstance(error, MemoryError) and not any(t in text for t in MEMORY_TEXTS):
                raise
            batch = self.candidate.recipe.batch_size
            mib = activation_bytes(self._graph, batch) / 2**20
            raise EvaluationFailed(
                f"The memory of {self.device} does not suffice for batch_size {batch}: the feature "
                f"maps of one training step take about {mib:.0f} MiB. A smaller batch_size or "
                "network needs less."
            ) from None


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise InvalidValue(f"device must be auto, cpu, cuda or cuda:N, but is {name!r}.")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise InvalidValue(
            f"device {name!r} is not there: torch sees {torch.cuda.device_count()} CUDA devices."
        )
    return device
