"""Augmentation of whole batches, driven by one generator.

Random numbers are drawn apart from their use: ``draw`` gives one row per image, on the CPU, so
that a run sees the same augmentation on every device; ``apply`` turns a batch and its rows into
new images in a few tensor operations. Borders are black, which is 0 before normalisation.

=========  ==================================================================================
name       meaning
=========  ==================================================================================
N          images of one batch
C, H, W    channels, rows, columns of an image
draws_NK   uniform numbers, 0 <= u < 1, K of them per image
=========  ==================================================================================
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from math import log
from typing import Final

import torch
from torch import Generator, Tensor
from torch.nn import functional as F  # noqa: N812

from bitfront.spaces.registry import Registry


class Augmentation(ABC):
    """How training images are varied."""

    numbers: int
    """K, the random numbers per image."""

    def draw(self, count: int, generator: Generator) -> Tensor:
        """Draw the random numbers of ``count`` images, (count, K)."""
        return torch.rand(count, self.numbers, generator=generator)

    @abstractmethod
    def apply(self, images: Tensor, draws_NK: Tensor) -> Tensor:
        """Vary each image by its row.

        Args:
            images: uint8 or float, (N, C, H, W), 0 is black.
            draws_NK: What ``draw`` gave for these images, on their device.

        Returns:
            Images of the same shape; float where pixels were interpolated.
        """


augmentations: Final[Registry[Augmentation]] = Registry("augmentation")


def augment(name: str, images: Tensor, generator: Generator) -> Tensor:
    """Draw for a batch and apply.

    Args:
        name: A registered augmentation, as in a recipe.
        images: uint8 or float, (N, C, H, W), 0 is black.
        generator: On the CPU; it alone decides the outcome.

    Raises:
        InvalidValue: If the name is unknown.
    """
    augmentation = augmentations[name]
    return augmentation.apply(images, augmentation.draw(len(images), generator).to(images.device))


class _Unchanged(Augmentation):
    """Every image as it is."""

    numbers = 0

    def apply(self, images: Tensor, draws_NK: Tensor) -> Tensor:
        return images


class _Crop(Augmentation):
    """Pad with black, cut the original size at a random place, mirror half of the images."""

    def __init__(self, padding: int, *, mirror: bool) -> None:
        self.padding = padding
        self.mirror = mirror
        self.numbers = 3 if mirror else 2

    def apply(self, images: Tensor, draws_NK: Tensor) -> Tensor:
        padding = self.padding
        _, _, rows, columns = images.shape
        # a view of all crops: (N, C, 2*padding + 1, 2*padding + 1, H, W)
        crops = F.pad(images, (padding,) * 4).unfold(2, rows, 1).unfold(3, columns, 1)
        places = (draws_NK[:, :2] * (2 * padding + 1)).long()
        n = torch.arange(len(images), device=images.device)
        out = crops[n, :, places[:, 0], places[:, 1]]
        if self.mirror:
            out = torch.where(draws_NK[:, 2, None, None, None] < 0.5, out.flip(3), out)
        return out


class _ResizedCrop(Augmentation):
    """Cut a part of random area, aspect and place, stretch it to the original size, mirror half.

    The area is uniform in 0.08 to 1 of the image, the logarithm of the aspect (columns over rows,
    in pixels) uniform in log 3/4 to log 4/3; a side that would be longer than the image's is cut
    to it. Pixels are interpolated linearly.
    """

    numbers = 5
    area = (0.08, 1.0)
    log_aspect = (log(3 / 4), log(4 / 3))

    def apply(self, images: Tensor, draws_NK: Tensor) -> Tensor:
        count, channels, rows, columns = images.shape
        area = _between(draws_NK[:, 0], *self.area)
        aspect = _between(draws_NK[:, 1], *self.log_aspect).exp()
        # sides as fractions of the image's
        width = (area * aspect * (rows / columns)).sqrt().clamp(max=1.0)
        height = (area / aspect * (columns / rows)).sqrt().clamp(max=1.0)
        affine = torch.zeros(count, 2, 3, device=images.device)
        affine[:, 0, 0] = torch.where(draws_NK[:, 4] < 0.5, -width, width)
        affine[:, 1, 1] = height
        # grid coordinates are -1 to 1 from edge to edge: a centre may move by what is left over
        affine[:, 0, 2] = (2 * draws_NK[:, 2] - 1) * (1 - width)
        affine[:, 1, 2] = (2 * draws_NK[:, 3] - 1) * (1 - height)
        shape = [count, channels, rows, columns]
        grid = F.affine_grid(affine, shape, align_corners=False)
        values = images if images.is_floating_point() else images.float()
        return F.grid_sample(
            values, grid, mode="bilinear", padding_mode="border", align_corners=False
        )


def _between(u: Tensor, low: float, high: float) -> Tensor:
    return low + (high - low) * u


augmentations.register("none")(_Unchanged())
augmentations.register("shift")(_Crop(1, mirror=False))
augmentations.register("crop-flip")(_Crop(4, mirror=True))
augmentations.register("resized-crop-flip")(_ResizedCrop())
