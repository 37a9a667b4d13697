"""The random streams of a run, and torch's global settings while it works.

One seed feeds one named stream per purpose, so that drawing more numbers for one purpose changes
nothing for the others.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Generator, Tensor
from torch.utils import deterministic

from bitfront.spaces.errors import InvalidValue


def sub_seed(seed: int, name: str) -> int:
    """The seed of one named random stream of a run, 0 <= seed < 2^63."""
    digest = hashlib.sha256(f"{seed}:{name}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


class Streams:
    """The random streams of one run.

    Args:
        seed: Of the run.
        device: Where it trains.

    Attributes:
        shuffle: Decides the order of the training images; on the CPU.
        augmentation: Decides how they are varied; on the CPU.
    """

    def __init__(self, seed: int, device: torch.device) -> None:
        self.shuffle = Generator().manual_seed(sub_seed(seed, "shuffle"))
        self.augmentation = Generator().manual_seed(sub_seed(seed, "augmentation"))
        self._gpu = device if device.type == "cuda" else None
        # states of torch's global streams, for what a network draws itself
        start = sub_seed(seed, "network")
        self._cpu_state = Generator().manual_seed(start).get_state()
        self._gpu_state: Tensor | None = None
        if self._gpu is not None:
            # cuBLAS repeats itself only with a fixed workspace
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
            self._gpu_state = Generator(device).manual_seed(start).get_state()

    def tensors(self) -> dict[str, Tensor]:
        """The states by name, uint8."""
        states = {
            "shuffle": self.shuffle.get_state(),
            "augmentation": self.augmentation.get_state(),
            "cpu": self._cpu_state,
        }
        if self._gpu_state is not None:
            states["gpu"] = self._gpu_state
        return states

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on from what ``tensors`` gave.

        A run that moves from a CPU to a GPU starts the GPU's own stream afresh.

        Raises:
            InvalidValue: If a state is missing or not one of this version of torch.
        """
        try:
            self.shuffle.set_state(tensors["shuffle"])
            self.augmentation.set_state(tensors["augmentation"])
            Generator().set_state(tensors["cpu"])
        except (KeyError, RuntimeError, TypeError) as error:
            raise InvalidValue(
                f"Random states must be those that this torch writes, but are not: {error}."
            ) from None
        self._cpu_state = tensors["cpu"]
        if self._gpu_state is not None:
            self._gpu_state = tensors.get("gpu", self._gpu_state)

    @contextmanager
    def active(self, threads: int | None) -> Iterator[None]:
        """Torch's global state is the run's inside, and the caller's again outside.

        Args:
            threads: CPU threads inside; None leaves torch's setting.
        """
        settings: Any = deterministic
        outside = (
            torch.get_num_threads(),
            torch.get_deterministic_debug_mode(),
            settings.fill_uninitialized_memory,
        )
        with torch.random.fork_rng([] if self._gpu is None else [self._gpu]):
            try:
                if threads is not None:
                    torch.set_num_threads(threads)
                # deterministic kernels, and a warning where the device has none
                torch.set_deterministic_debug_mode("warn")
                # nothing reads memory before it is written: filling it only costs time
                settings.fill_uninitialized_memory = False
                torch.set_rng_state(self._cpu_state)
                if self._gpu is not None and self._gpu_state is not None:
                    torch.cuda.set_rng_state(self._gpu_state, self._gpu)
                yield
                self._cpu_state = torch.get_rng_state()
                if self._gpu is not None:
                    self._gpu_state = torch.cuda.get_rng_state(self._gpu)
            finally:
                torch.set_num_threads(outside[0])
                torch.set_deterministic_debug_mode(outside[1])
                settings.fill_uninitialized_memory = outside[2]
