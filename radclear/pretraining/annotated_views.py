"""Views of an annotated slice with their labels, and how often slices are drawn."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from radclear.ct import Window
from radclear.errors import RadclearError
from radclear.phantom.labels import LESION_KINDS
from radclear.pretraining.region_labels import region_labels


class CohortError(RadclearError):
    """A cohort folder does not hold what the warm-up needs."""


class AnnotatedViews:
    """Cuts views and gives them labels.

    A view is the whole slice, or, where `view_size` is smaller than `image_size`, a crop: around one box of
    the slice, drawn with equal chance for each finding and off the centre by up to 0.4 of the crop, or around
    the middle where the slice has none. It shows one window, drawn at random.
    """

    def __init__(
        self,
        *,
        windows: Sequence[Window],
        window_shares: Sequence[float] | None = None,
        image_size: int = 224,
        view_size: int | None = None,
        strides: Sequence[int] = (32, 16),
        transform: Callable[[dict], dict] | None = None,
    ) -> None:
        """
        Args:
            windows: as for the embeddings.
            window_shares: how often each window is drawn; equally often by default.
            image_size: side in pixels to which a slice is resized before a view is cut.
            view_size: side of a view in pixels; the whole slice by default.
            strides: sides in pixels of the cells that labels are given for, as the maps of the backbone have
                them.
            transform: MONAI transform of `{"image": …, "label": …}`.

        Raises:
            CohortError: sizes or shares do not fit.
        """
        self.windows = tuple(windows)
        self.image_size = image_size
        self.view_size = view_size or image_size
        self.strides = tuple(strides)
        self.transform = transform
        self.window_shares = torch.tensor(list(window_shares or [1] * len(windows)), dtype=torch.float32)
        if not 1 <= self.view_size <= image_size or any(self.view_size % stride for stride in self.strides):
            raise CohortError(
                f"views of {self.view_size} pixels of slices of {image_size} with cells of {self.strides}; "
                "expected views no larger than the slice whose side every cell divides"
            )
        if len(self.window_shares) != len(windows) or not float(self.window_shares.min()) >= 0:
            raise CohortError(f"window_shares is {window_shares}; expected one share for each window")

    def draw(
        self, stack: Tensor, z: int, boxes: np.ndarray, n_findings: int, pixel_mm: float
    ) -> dict[str, Tensor]:
        """A view of slice `z`, drawn by torch's generator.

        Args:
            stack: (windows, slices, S, S) uint8 of a study.
            z: the slice.
            boxes: (k, 5) x1, y1, x2, y2 in pixels of the resized slice, and the finding.
            n_findings: F.
            pixel_mm: side of a pixel of the resized slice in millimetres.

        Returns:
            `image` (1, V, V) float in [0, 1] and `label` of `radclear.pretraining.region_labels`.
        """
        return self.cut(stack, z, boxes, n_findings, pixel_mm, self.place(boxes))

    def place(self, boxes: np.ndarray) -> tuple[int, int, int]:
        """(window, x, y of the first pixel) of a view of a slice with these boxes, drawn at random."""
        return int(torch.multinomial(self.window_shares, 1)), *self._corner(boxes)

    def cut(
        self,
        stack: Tensor,
        z: int,
        boxes: np.ndarray,
        n_findings: int,
        pixel_mm: float,
        place: tuple[int, int, int],
    ) -> dict[str, Tensor]:
        """The view of `draw` at a given place."""
        window, x, y = place
        side = self.view_size
        view = stack[window, z, y : y + side, x : x + side]
        shifted = boxes - np.array([x, y, x, y, 0], np.float32)
        label = region_labels(
            shifted, view_size=side, strides=self.strides, n_findings=n_findings, pixel_mm=pixel_mm
        )
        item = {"image": view[None].float() / 255, "label": torch.from_numpy(label)}
        return self.transform(item) if self.transform else item

    def _corner(self, boxes: np.ndarray) -> tuple[int, int]:
        """(x, y) of the first pixel of a view."""
        side, room = self.view_size, self.image_size - self.view_size
        if room == 0:
            return 0, 0
        if len(boxes):
            findings = np.unique(boxes[:, 4])
            finding = findings[int(torch.randint(len(findings), ()))]
            boxes = boxes[boxes[:, 4] == finding]
            x1, y1, x2, y2 = boxes[int(torch.randint(len(boxes), ())), :4]
            shift = (torch.rand(2) - 0.5) * 0.8 * side
            x, y = (x1 + x2 - side) / 2 + float(shift[0]), (y1 + y2 - side) / 2 + float(shift[1])
        else:
            x, y = ((torch.randn(2) * 0.3 + 1) * room / 2).tolist()
        return int(min(max(x, 0), room)), int(min(max(y, 0), room))


def finding_name(site: str, kind: str) -> str:
    """The finding of a box: the site of a tumor lesion, whatever its kind, or the sign of lung disease."""
    return site if kind in LESION_KINDS else kind


def slice_weights(shown: Tensor, *, annotated_share: float) -> Tensor:
    """How often each slice is drawn: annotated ones with `annotated_share`, rare findings more often.

    The weight of an annotated slice is 1 / frequency of its rarest finding, so that each finding that is
    the rarest of its slices is drawn about equally often.

    Args:
        shown: (slices, findings) bool.
        annotated_share: the rest are slices without any box.

    Returns:
        (slices,) float64, summing to 1 where there are slices of both kinds.
    """
    frequency = shown.float().mean(dim=0).clamp(min=1 / len(shown))
    annotated = shown.any(dim=1)
    rarest = torch.where(shown, frequency, torch.inf).min(dim=1).values
    weights = torch.where(annotated, 1 / rarest, torch.zeros(())).double()
    weights = weights * (annotated_share / weights.sum())
    weights[~annotated] = (1 - annotated_share) / max(1, int((~annotated).sum()))
    return weights
