"""Shifted images against images shifted one at a time."""

import torch
import torch.nn.functional as F

from lessons_lib.augmentation import random_shift


def test_every_image_is_a_window_of_itself_padded_and_all_shifts_occur():
    x = torch.randn(400, 3, 5, 6)
    out = random_shift(1, background=-7.0)(x, torch.Generator().manual_seed(0))
    seen = set()
    for image, moved in zip(F.pad(x, (1, 1, 1, 1), value=-7.0), out, strict=True):
        windows = {(i, j): image[:, i : i + 5, j : j + 6] for i in range(3) for j in range(3)}
        seen |= {place for place, window in windows.items() if torch.equal(window, moved)}
    assert seen == {(i, j) for i in range(3) for j in range(3)}


def test_flip_mirrors_about_half_and_nothing_else():
    x = torch.randn(400, 1, 4, 4)
    out = random_shift(0, flip=True)(x, torch.Generator().manual_seed(0))
    mirrored = (out == x.flip(3)).flatten(1).all(1)
    assert torch.equal(out[~mirrored], x[~mirrored])
    assert 160 < mirrored.sum() < 240


def test_generator_decides():
    x = torch.randn(20, 1, 8, 8)
    one, same, other = (random_shift(2)(x, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1))
    assert torch.equal(one, same) and not torch.equal(one, other)
