"""The four orders in which the scan walks an image, as row numbers, and the shapes that every tier shares.

Legend: B batch, H height, W width, L = H * W pixels, C channels, N states, 4 orders, S = CHUNK steps. Order 0
walks row by row, order 1 column by column, orders 2 and 3 are the same two walked backwards.

A tensor of four images (4, B, L, C), flattened to (4BL, C), has one row for each order, image and pixel. A
*sequence* tensor (L, 4, B, C) has the same rows in the order of the walk: a step of all orders is one block.
"""

from __future__ import annotations

import torch
from torch import Tensor

CHUNK = 32  # steps between two saved states; the same number stands in ss2d_scan.cpp


def n_chunks(height: int, width: int, chunk: int = CHUNK) -> int:
    """Number of chunks that cover the image (CHUNK as a default, since TorchScript reads no globals)."""
    return (height * width + chunk - 1) // chunk


def sequence_rows(batch: int, height: int, width: int, device: torch.device) -> Tensor:
    """Row in a flattened (4, B, L, C) tensor of each step, order and image: (L, 4, B), each row once."""
    length = height * width
    by_rows = torch.arange(length, device=device)
    by_columns = by_rows.view(height, width).t().reshape(length)
    pixel = torch.stack([by_rows, by_columns, by_rows.flip(0), by_columns.flip(0)], dim=1)  # (L, 4)
    image = torch.arange(4 * batch, device=device).view(4, batch)
    return image * length + pixel.unsqueeze(2)


def to_sequences(images: Tensor, height: int, width: int) -> Tensor:
    """Lay four images (4, B, L, C), any strides, out in their orders: (L, 4, B, C), contiguous."""
    _, batch, length, channels = images.shape
    rows = sequence_rows(batch, height, width, images.device).flatten()
    return images.reshape(-1, channels).index_select(0, rows).view(length, 4, batch, channels)


def to_images(sequences: Tensor, height: int, width: int) -> Tensor:
    """Undo :func:`to_sequences`: (L, 4, B, C), any strides, to (4, B, L, C), contiguous."""
    length, _, batch, channels = sequences.shape
    rows = sequence_rows(batch, height, width, sequences.device).flatten()
    images = sequences.new_empty(4 * batch * length, channels)
    return images.index_copy_(0, rows, sequences.reshape(-1, channels)).view(4, batch, length, channels)
