"""Augmentations: what they may give, that one generator decides, and the plain way as an oracle."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F  # noqa: N812

from bitfront.evaluators.training.augment import augment, augmentations
from bitfront.spaces.errors import InvalidValue
from bitfront.spaces.recipe import AUGMENTATIONS


def _images(count: int, channels: int = 3, rows: int = 9, columns: int = 7) -> torch.Tensor:
    generator = torch.Generator().manual_seed(count)
    shape = (count, channels, rows, columns)
    return torch.randint(1, 256, shape, generator=generator, dtype=torch.uint8)


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_every_augmentation_of_a_recipe_is_there():
    assert set(augmentations) == set(AUGMENTATIONS)
    with pytest.raises(InvalidValue, match="Did you mean 'shift'"):
        augment("shfit", _images(1), _generator())


@pytest.mark.parametrize("name", AUGMENTATIONS)
@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (5, 1, 8, 8), (3, 3, 33, 31), (2, 3, 1, 5)])
def test_shape_and_range_stay(name, shape):
    images = torch.randint(0, 256, shape, dtype=torch.uint8)
    out = augment(name, images, _generator())
    assert out.shape == images.shape
    assert 0 <= float(out.min()) <= float(out.max()) <= 255
    if name != "resized-crop-flip":
        assert out.dtype == torch.uint8


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_the_generator_alone_decides(name):
    images = _images(64)
    first, again = (augment(name, images, _generator(3)) for _ in range(2))
    torch.manual_seed(1)
    assert torch.equal(first, again)
    assert torch.equal(first, augment(name, images, _generator(3)))
    if name != "none":
        assert not torch.equal(first, augment(name, images, _generator(4)))
        # images of one batch differ in how they are varied
        same = images[:1].expand(64, -1, -1, -1)
        assert len({tuple(x.flatten().tolist()) for x in augment(name, same, _generator(3))}) > 5


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_each_image_is_varied_by_its_own_row(name):
    images = _images(10)
    augmentation = augmentations[name]
    draws = augmentation.draw(10, _generator(5))
    whole = augmentation.apply(images, draws)
    for i in range(10):
        alone = augmentation.apply(images[i : i + 1], draws[i : i + 1])
        assert torch.allclose(whole[i].float(), alone[0].float(), atol=1e-3)


def _cropped(image: torch.Tensor, padding: int, numbers: list[float]) -> torch.Tensor:
    """One image, by plain slicing."""
    _, rows, columns = image.shape
    top, left = (int(u * (2 * padding + 1)) for u in numbers[:2])
    out = F.pad(image, (padding,) * 4)[:, top : top + rows, left : left + columns]
    return out.flip(2) if len(numbers) > 2 and numbers[2] < 0.5 else out


@settings(deadline=None, max_examples=30)
@given(
    name=st.sampled_from(["shift", "crop-flip"]),
    seed=st.integers(0, 1000),
    size=st.tuples(st.integers(1, 12), st.integers(1, 12)),
)
def test_crops_equal_plain_slicing(name, seed, size):
    images = _images(6, 2, *size)
    augmentation = augmentations[name]
    draws = augmentation.draw(6, _generator(seed))
    out = augmentation.apply(images, draws)
    padding = 1 if name == "shift" else 4
    for i in range(6):
        assert torch.equal(out[i], _cropped(images[i], padding, draws[i].tolist()))


def test_shift_reaches_all_nine_places_about_equally_often():
    point = torch.zeros(9000, 1, 5, 5, dtype=torch.uint8)
    point[:, :, 2, 2] = 255
    places = augment("shift", point, _generator()).flatten(1).argmax(1)
    counts = torch.bincount(places, minlength=25).reshape(5, 5)
    assert counts.sum() == counts[1:4, 1:4].sum()
    assert counts[1:4, 1:4].min() > 850


def test_half_of_the_images_are_mirrored():
    images = torch.zeros(4000, 1, 32, 32, dtype=torch.uint8)
    images[:, :, :, :16] = 255
    for name in ("crop-flip", "resized-crop-flip"):
        out = augment(name, images, _generator(1)).float()
        left, right = out[..., 4:16].mean((1, 2, 3)), out[..., 16:28].mean((1, 2, 3))
        decided = (left - right).abs() > 30
        share = float((right > left)[decided].float().mean())
        assert 0.45 < share < 0.55


# resized-crop-flip


def _ramps(count: int, rows: int, columns: int) -> torch.Tensor:
    """Channel 0 counts columns, channel 1 rows: a crop's sides can be read off."""
    x = torch.arange(columns, dtype=torch.float32).expand(rows, columns)
    y = torch.arange(rows, dtype=torch.float32)[:, None].expand(rows, columns)
    return torch.stack([x, y]).expand(count, -1, -1, -1)


@pytest.mark.parametrize(("rows", "columns"), [(64, 64), (40, 80)])
def test_resized_crops_have_the_area_and_aspect_that_were_drawn(rows, columns):
    augmentation = augmentations["resized-crop-flip"]
    draws = augmentation.draw(500, _generator())
    out = augmentation.apply(_ramps(500, rows, columns), draws)
    # pixels per output pixel at the centre, away from the clamped border
    middle_row, middle = rows // 2, columns // 2
    step_x = out[:, 0, middle_row, middle + 1] - out[:, 0, middle_row, middle]
    step_y = out[:, 1, middle_row + 1, middle] - out[:, 1, middle_row, middle]
    area = (step_x.abs() * step_y).clamp(max=1.0)
    aspect = step_x.abs() * columns / (step_y * rows)
    whole = (step_x.abs() < 0.999) & (step_y < 0.999)
    assert int(whole.sum()) > 200
    assert torch.allclose(area[whole], 0.08 + 0.92 * draws[whole, 0], atol=1e-3)
    assert float(aspect[whole].min()) > 0.749
    assert float(aspect[whole].max()) < 1.334
    assert torch.equal(step_x < 0, draws[:, 4] < 0.5)
    # a crop never looks outside
    assert float(out.min()) >= 0
    assert float(out[:, 0].max()) <= columns - 1
    assert float(out[:, 1].max()) <= rows - 1


def test_the_whole_image_unmirrored_is_the_image():
    images = _images(2)
    # area 1, aspect 1 (log-aspect is symmetric), centred, not mirrored
    draws = torch.tensor([[1.0, 0.5, 0.5, 0.5, 0.9]]).expand(2, -1)
    square = images[:, :, :7]
    out = augmentations["resized-crop-flip"].apply(square, draws)
    assert torch.allclose(out, square.float(), atol=1e-3)
    mirrored = augmentations["resized-crop-flip"].apply(
        square, draws * torch.tensor([1, 1, 1, 1, 0.1])
    )
    assert torch.allclose(mirrored, square.float().flip(3), atol=1e-3)


def test_float_images_are_left_alone():
    images = _images(4).float()
    before = images.clone()
    for name in AUGMENTATIONS:
        augment(name, images, _generator())
    assert torch.equal(images, before)
