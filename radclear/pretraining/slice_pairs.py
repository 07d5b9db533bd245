"""What the training reads: for each draw the two views of one slice, and what is known of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Dataset

from radclear.cohort.patients import patient_key
from radclear.pretraining.decoded_series import DecodedSeries
from radclear.pretraining.images import read_image
from radclear.pretraining.slice_rows import SliceRow
from radclear.pretraining.views import SliceViews, draw_generator


class Draw(NamedTuple):
    """Which slice is drawn at which place of which epoch: all that its views depend on, beside the seed."""

    epoch: int
    position: int
    index: int


class SlicePairs(Dataset):
    """Two views of each slice.

    Attributes:
        rows: the slices.
        patients: names behind the patient codes of the items.
        lesion_classes: names behind the class codes.
    """

    def __init__(
        self, rows: Sequence[SliceRow], *, series: DecodedSeries, views: SliceViews, seed: int = 0
    ) -> None:
        """
        Args:
            rows: of one split.
            series: that decoded the rows' series.
            views: makes the views.
            seed: of all draws.
        """
        self.rows = list(rows)
        self.series = series
        self.views = views
        self.seed = seed
        self.patients = tuple(sorted({patient_key(row.patient) for row in self.rows}))
        self.lesion_classes = tuple(sorted({row.lesion_class for row in self.rows} - {""}))
        self._patient_code = {name: code for code, name in enumerate(self.patients)}
        self._class_code = {name: code for code, name in enumerate(self.lesion_classes)}

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def lesion_mask(self) -> Tensor:
        """(slices,) bool: which have a lesion box."""
        return torch.tensor([row.is_lesion for row in self.rows], dtype=torch.bool)

    @property
    def n_studies(self) -> int:
        """How many studies the slices are of."""
        return len({row.study for row in self.rows})

    def pixels(self, index: int) -> tuple[Tensor, tuple[float, float]]:
        """(rows, columns) int16 of a slice (HU, or grey levels), and its spacing in mm."""
        row = self.rows[index]
        if row.is_series:
            hu, spacing = self.series.slice(row.path, row.slice_index)
            return torch.from_numpy(hu), spacing
        return torch.from_numpy(read_image(row.path, hu_offset=row.hu_offset)), (1.0, 1.0)

    def __getitem__(self, draw: Draw | int) -> dict[str, Tensor]:
        """The item of a draw; a plain number stands for its first draw in epoch 1.

        Returns:
            `view_1`, `view_2` (1, S, S) uint8; `lesion` bool; `patient` and `lesion_class` codes, −1 for an
            unknown class.
        """
        if isinstance(draw, int):
            draw = Draw(1, draw, draw)
        row = self.rows[draw.index]
        pixels, spacing = self.pixels(draw.index)
        first, second = self.views(
            pixels,
            row.boxes,
            draw_generator(self.seed, draw.epoch, draw.position),
            spacing_mm=spacing,
            has_hu=row.has_hu,
        )
        return {
            "view_1": first,
            "view_2": second,
            "lesion": torch.tensor(row.is_lesion),
            "patient": torch.tensor(self._patient_code[patient_key(row.patient)]),
            "lesion_class": torch.tensor(self._class_code.get(row.lesion_class, -1)),
        }

    def whole_views(self, index: int) -> Tensor:
        """(W, 1, S, S) uint8: the whole slice under each window, unchanged; for the probe.

        An image without HU looks the same under all of them.
        """
        pixels, spacing = self.pixels(index)
        has_hu = self.rows[index].has_hu
        return torch.stack(
            [
                self.views.whole(pixels, spacing_mm=spacing, has_hu=has_hu, window=window)
                for window in range(len(self.views.windows))
            ]
        )
