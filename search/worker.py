"""What a worker process does: train one candidate, report its epochs, keep a checkpoint.

A worker writes nothing but the checkpoint folder that its job names. The folder holds one valid
checkpoint at any moment, so a worker that starts in one that is not empty, because the former one
died, goes on from there.
"""

from __future__ import annotations

import json
import os
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final

from bitfront.search.store.leases import host_id
from bitfront.spaces.candidate import Candidate
from bitfront.spaces.errors import BitfrontError, InvalidValue

if TYPE_CHECKING:
    from bitfront.evaluators.training import DataSet, Trainer

# a checkpoint may take this share of the time; the last epoch always has one
CHECKPOINT_SHARE: Final = 0.1
# shorter epochs than this are reported together
REPORT_S: Final = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One training, as a worker needs it.

    Attributes:
        key: Unique among the jobs of a run.
        name: Of its folders: the key and the attempt.
        candidate: JSON text.
        epochs: Of the whole training.
        seed: Of everything random in it.
        dataset: As ``load_dataset`` takes it.
        data_dir: Likewise.
        data_digest: Of the data set that the driver saw.
        device: "auto" or "cpu".
        threads: CPU threads.
        directory: Where its checkpoint lies.
        resume_from: Checkpoint of a former attempt; None for a new training.
        known_epochs: Epochs whose results the store has.
        is_tested: Whether to classify the test split at the end.
    """

    key: str
    name: str
    candidate: str
    epochs: int
    seed: int
    dataset: str
    data_dir: str
    data_digest: str
    device: str
    threads: int
    directory: str
    resume_from: str | None = None
    known_epochs: int = 0
    is_tested: bool = False

    def config(self) -> dict[str, str]:
        """The job as Ray Tune hands it to a worker."""
        return {"job": json.dumps(asdict(self))}

    @classmethod
    def from_config(cls, config: Mapping[str, str]) -> Job:
        """The job that ``config`` gave."""
        return cls(**json.loads(config["job"]))


def train(config: dict[str, str]) -> None:
    """Run a job and report to Ray Tune; the trainable of every trial.

    A job that fails reports ``{"failure": reason}``: Ray retries what is raised, but a network that
    diverges once diverges again. What ends the process itself (a lost machine, too little memory)
    is what retries are for.
    """
    from ray import tune

    try:
        for report in results(Job.from_config(config)):
            tune.report(report)
    except Exception as error:
        tune.report({"failure": reason_of(error)})


def results(job: Job) -> Iterator[dict[str, Any]]:
    """Train, and yield what the driver shall know.

    Yields:
        First who trains (``pid``, ``host``, ``gpus``, ``device``, ``torch``); then, at least once
        per epoch that is not very short, ``points`` (one mapping per epoch) and ``checkpoint`` (the
        folder of a newer checkpoint, or None); at the end ``validation_accuracy`` and
        ``test_accuracy``, if asked for.

    Raises:
        EvaluationFailed: If the training diverges or does not fit the memory.
        InvalidValue: If data set or checkpoint are not what the job says.
    """
    # one thread per training: without this every worker starts one per processor
    os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(job.threads)))
    import torch

    data = _load(job.dataset, job.data_dir)
    if data.digest != job.data_digest:
        raise InvalidValue(
            f"The data set {job.dataset!r} must be {job.data_digest[:12]} as on the driver, but is "
            f"{data.digest[:12]} on this worker."
        )
    trainer = _resumed(job, data)
    yield {
        "epoch": trainer.epoch,
        "pid": os.getpid(),
        "host": host_id(),
        "gpus": _gpus(trainer),
        "device": _device_name(trainer),
        "torch": torch.__version__,
    }
    yield from _epochs(trainer, job)
    if job.is_tested:
        yield {
            "epoch": trainer.epoch,
            "validation_accuracy": trainer.history[-1].validation_accuracy,
            "test_accuracy": trainer.evaluate("test").accuracy,
        }
    if trainer.device.type == "cuda":
        del trainer
        torch.cuda.empty_cache()


def _epochs(trainer: Trainer, job: Job) -> Iterator[dict[str, Any]]:
    # what a former worker did without the driver hearing of it
    points = [_point(result) for result in trainer.history[job.known_epochs :]]
    checkpoint = job.directory if trainer.epoch else None
    reported_at = saved_at = perf_counter()
    save_s = 0.0
    while trainer.epoch < job.epochs:
        points.append(_point(trainer.run_epoch()))
        is_last = trainer.epoch == job.epochs
        now = perf_counter()
        if is_last or (now - saved_at) * CHECKPOINT_SHARE >= save_s:
            trainer.save(job.directory)
            saved_at = perf_counter()
            save_s = saved_at - now
            checkpoint = job.directory
        if is_last or perf_counter() - reported_at >= REPORT_S:
            yield {"epoch": trainer.epoch, "points": points, "checkpoint": checkpoint}
            points, checkpoint, reported_at = [], None, perf_counter()
    if points:
        yield {"epoch": trainer.epoch, "points": points, "checkpoint": checkpoint}


def _resumed(job: Job, data: DataSet) -> Trainer:
    """Build the trainer, with the newest checkpoint; one that is damaged only costs its epochs."""
    from bitfront.evaluators.training import Trainer

    def build() -> Trainer:
        return Trainer(
            Candidate.from_json(json.loads(job.candidate)),
            data,
            seed=job.seed,
            device=job.device,
            threads=job.threads,
        )

    for directory in (job.directory, job.resume_from):
        if directory is None or not (Path(directory) / "checkpoint.json").is_file():
            continue
        trainer = build()
        try:
            trainer.load(directory)
        except InvalidValue:
            continue
        if directory != job.directory:
            trainer.save(job.directory)
        return trainer
    return build()


def _point(result: Any) -> dict[str, float]:
    names = ("epoch", "train_loss", "validation_loss", "validation_accuracy", "seconds")
    return {name: getattr(result, name) for name in names}


@lru_cache(maxsize=1)
def _load(dataset: str, data_dir: str) -> DataSet:
    """The data set, once per process: workers are used again."""
    from bitfront.evaluators.training import load_dataset

    return load_dataset(dataset, data_dir=data_dir)


def _device_name(trainer: Trainer) -> str:
    import torch

    if trainer.device.type == "cuda":
        return str(torch.cuda.get_device_name(trainer.device))
    return "cpu"


def _gpus(trainer: Trainer) -> list[str]:
    """UUIDs of the GPUs that the training uses."""
    import torch

    if trainer.device.type != "cuda":
        return []
    uuid = str(torch.cuda.get_device_properties(trainer.device).uuid)
    return [uuid if uuid.startswith("GPU-") else f"GPU-{uuid}"]


def reason_of(error: Exception) -> str:
    """One line on why a job failed: the sentence of our own errors, else type, text and place."""
    if isinstance(error, BitfrontError):
        return str(error)
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {' '.join(str(error).split())}{place}"
