"""Random changes of training images that leave their class alone.

Each is made by a function here and handed to ``training.fit``, which applies it to the batches of one member,
with that member's generator.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor


def random_shift(
    pixels: int, *, background: float = 0.0, flip: bool = False
) -> Callable[[Tensor, torch.Generator], Tensor]:
    """Shift each image by up to ``pixels`` in each direction; with ``flip``, mirror half of them left to right.

    The result takes images [B, C, H, W] and a CPU generator. ``background`` is what moves in at an edge. A shifted
    window is what a random crop of a larger image is, without needing the larger image.
    """

    def augment(x: Tensor, generator: torch.Generator) -> Tensor:
        batch, _, height, width = x.shape
        shifts = torch.randint(0, 2 * pixels + 1, (2, batch, 1), generator=generator)
        rows, columns = (shifts[i] + torch.arange(size) for i, size in enumerate((height, width)))
        if flip:
            mirrored = torch.rand(batch, 1, generator=generator) < 0.5
            columns = torch.where(mirrored, columns.flip(1), columns)
        padded = F.pad(x, (pixels,) * 4, value=background)
        rows, columns = rows.to(x.device), columns.to(x.device)
        # Indexing with the batch apart from the channels puts the channels last.
        moved = padded[torch.arange(batch, device=x.device)[:, None, None], :, rows[:, :, None], columns[:, None, :]]
        return moved.permute(0, 3, 1, 2)

    return augment
