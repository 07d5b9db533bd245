"""Two views of a slice: of a lesion and its whole slice, or two random crops; HU in, grey levels out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from radclear.ct import DEFAULT_WINDOWS, Window
from radclear.ct.windows import fitted_shape
from radclear.pretraining.crops import MIN_AREA, Box, Crop, lesion_crop, random_crop, whole
from radclear.pretraining.errors import PretrainingDataError
from radclear.pretraining.photometric import (
    UNCHANGED,
    Photometric,
    change_grey,
    change_hu,
    jitter_window,
    to_grey,
)

#: An image without HU is taken as it is: grey levels 0 to 255, which are changed as if they were 400 HU wide.
GREY = Window("grey", 127.5, 255)
_GREY_PER_HU = 255 / 400


def draw_generator(seed: int, epoch: int, position: int) -> torch.Generator:
    """The generator of one draw: the same in whatever process, worker or resumed run it is made."""
    state = np.random.SeedSequence([seed, epoch, position]).generate_state(2, np.uint32)
    return torch.Generator().manual_seed(int(state[0]) << 32 | int(state[1]))


@dataclass(frozen=True)
class SliceViews:
    """Makes the two views of a slice.

    Attributes:
        image_size: side of a view in pixels.
        windows: one is drawn per slice.
        first, second: photometric changes of the two views.
        min_area: smallest crop as a share of the slice.
        window_per_view: draw a window for each view, so that the network learns to ignore the window; by
            default both views of a slice have the same.
        lesion_centred: cut lesion slices around their lesion; without, they are cut as all others.
    """

    image_size: int = 224
    windows: Sequence[Window] = DEFAULT_WINDOWS
    first: Photometric = field(default_factory=lambda: Photometric(blur_probability=1.0))
    second: Photometric = field(default_factory=lambda: Photometric(blur_probability=0.1))
    min_area: float = MIN_AREA
    window_per_view: bool = False
    lesion_centred: bool = True

    def __call__(
        self,
        hu: Tensor,
        boxes: Sequence[Box],
        generator: torch.Generator,
        *,
        spacing_mm: tuple[float, float] = (1.0, 1.0),
        has_hu: bool = True,
    ) -> tuple[Tensor, Tensor]:
        """The two views of one slice.

        Args:
            hu: (rows, columns) int16; grey levels 0 to 255 where the source has no HU.
            boxes: lesions; with several, one is drawn.
            generator: of all draws.
            spacing_mm: between rows and between columns; a whole slice keeps its shape in millimetres.
            has_hu: whether windows apply.

        Returns:
            Two (1, S, S) uint8 views. With a box, the first is around the lesion and the second the whole
            slice.

        Raises:
            PretrainingDataError: a box outside the slice.
        """
        size = (hu.shape[0], hu.shape[1])
        crops: tuple[Crop | None, Crop | None]
        if boxes and self.lesion_centred:
            box = boxes[whole(generator, 0, len(boxes) - 1)]
            try:
                crops = (lesion_crop(size, box, generator, min_area=self.min_area), None)
            except ValueError as error:
                raise PretrainingDataError(f"{error}; correct the box table") from error
        else:
            area = (self.min_area, 1.0)
            crops = (random_crop(size, generator, area=area), random_crop(size, generator, area=area))
        drawn = [whole(generator, 0, len(self.windows) - 1) for _ in range(2)]
        views = []
        for number, (crop, change) in enumerate(zip(crops, (self.first, self.second), strict=True)):
            window = self.windows[drawn[number if self.window_per_view else 0]] if has_hu else GREY
            views.append(self._view(hu, crop, window, change, generator, spacing_mm, has_hu))
        return views[0], views[1]

    def whole(
        self,
        hu: Tensor,
        *,
        spacing_mm: tuple[float, float] = (1.0, 1.0),
        has_hu: bool = True,
        window: int = 0,
    ) -> Tensor:
        """(1, S, S) uint8: the whole slice under one of the windows, unchanged."""
        chosen = self.windows[window] if has_hu else GREY
        no_draws = torch.Generator()
        return self._view(hu, None, chosen, UNCHANGED, no_draws, spacing_mm, has_hu)

    def _view(
        self,
        hu: Tensor,
        crop: Crop | None,
        window: Window,
        change: Photometric,
        generator: torch.Generator,
        spacing_mm: tuple[float, float],
        has_hu: bool,
    ) -> Tensor:
        if crop is not None:
            hu = hu[crop.top : crop.top + crop.height, crop.left : crop.left + crop.width]
        scale = 1.0 if has_hu else _GREY_PER_HU
        window = jitter_window(window, change, generator)
        grey = to_grey(scale * change_hu(hu.float() / scale, change, generator), window)
        if crop is None:
            grey = fit_whole(grey, self.image_size, spacing_mm)
        else:
            grey = resize(grey, (self.image_size, self.image_size))
        grey = change_grey(grey, change, generator)
        return (grey * 255 + 0.5).to(torch.uint8)[None]


def resize(grey: Tensor, shape: tuple[int, int]) -> Tensor:
    """Antialiased bilinear, as for the embeddings; (rows, columns) float in [0, 1]."""
    if tuple(grey.shape) == shape:
        return grey
    return F.interpolate(grey[None, None], shape, mode="bilinear", antialias=True)[0, 0].clamp(0, 1)


def fit_whole(grey: Tensor, size: int, spacing_mm: tuple[float, float] = (1.0, 1.0)) -> Tensor:
    """A whole slice in a square, its shape in millimetres kept, the rest 0; as `radclear.ct.slice_stack`."""
    rows, columns = grey.shape
    height, width = fitted_shape(rows * spacing_mm[0], columns * spacing_mm[1], size)
    top, left = (size - height) // 2, (size - width) // 2
    return F.pad(
        resize(grey, (height, width)), (left, size - width - left, top, size - height - top), value=0.0
    )
