"""The folder of a study's run files: checkpoints, weights of the front, a log.

::

    bitfront-runs/STORE-ID/
      trials/00012-1/       checkpoint of trial 12, first attempt
      retrained/00012-7/    weights of trial 12, trained again with seed 7
      search.log

While a trial runs its last checkpoint is here; once it is finished, only if it is on the front.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from bitfront.search.config import SearchConfig
from bitfront.search.record import StudyRecord
from bitfront.search.store.location import locate
from bitfront.spaces.errors import InvalidValue


class RunFolder:
    """The run files of one study.

    Args:
        root: The folder; made if need be.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._trials = root / "trials"
        self._retrained = root / "retrained"

    @property
    def scratch(self) -> Path:
        """For files that nobody needs after a run."""
        return self.root / "tune"

    def trial(self, number: int, attempt: int) -> Path:
        """Where an attempt of a trial keeps its checkpoint."""
        return self._trials / f"{number:05d}-{attempt}"

    def retraining(self, number: int, seed: int) -> Path:
        """Where a retraining keeps its checkpoint."""
        return self._retrained / f"{number:05d}-{seed}"

    def require(self, path: str) -> None:
        """Check that a checkpoint that a worker has written is seen here too.

        Raises:
            InvalidValue: If the worker's machine does not share the folder.
        """
        if not Path(path).is_dir():
            raise InvalidValue(
                f"A worker wrote the checkpoint {path}, but it is not there on this machine: with "
                "workers on several machines run_dir must be a folder that all of them share."
            )

    def collect(self, path: str | Path | None) -> None:
        """Remove a checkpoint; one that lies elsewhere is not ours and stays."""
        if path is not None and self._owns(Path(path)):
            shutil.rmtree(path, ignore_errors=True)

    def sweep(self, kept: Iterable[str]) -> None:
        """Remove all checkpoints of trials but those that are kept: what a crash left behind."""
        names = {Path(path).absolute() for path in kept}
        if self._trials.is_dir():
            for folder in self._trials.iterdir():
                if folder.absolute() not in names:
                    shutil.rmtree(folder, ignore_errors=True)

    def remove(self) -> None:
        """Remove everything: the study was deleted."""
        shutil.rmtree(self.root, ignore_errors=True)

    def _owns(self, path: Path) -> bool:
        return path.absolute().parent in (self._trials.absolute(), self._retrained.absolute())

    @contextmanager
    def logged(self) -> Iterator[None]:
        """Write what bitfront logs to ``search.log`` as well."""
        self.root.mkdir(parents=True, exist_ok=True)
        handler = logging.FileHandler(self.root / "search.log", encoding="utf-8")
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        logger = logging.getLogger("bitfront")
        level = logger.level
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
        try:
            yield
        finally:
            logger.removeHandler(handler)
            logger.setLevel(level)
            handler.close()


def run_folder(config: SearchConfig, study: StudyRecord) -> RunFolder:
    """The folder of a study: ``run_dir`` of its configuration, or beside its store.

    A store on a server has no place, so its run files go below the working directory.
    """
    location = locate(config.store)
    if location.path is not None:
        name, base = location.path.stem, location.path.parent
    else:
        name, base = (location.url.database if location.url else None) or "store", Path.cwd()
    above = Path(config.run_dir) if config.run_dir else base / "bitfront-runs"
    return RunFolder(above / f"{name}-{study.id}")
