"""Changes of grey that a scanner or a reader could have made: noise and blur in HU, then another window.

All of it happens before the window cuts the values off, at the resolution of the source.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from radclear.ct import Window
from radclear.pretraining.crops import uniform
from radclear.pretraining.errors import PretrainingError


@dataclass(frozen=True)
class Photometric:
    """How strongly one view is changed, and how often.

    Attributes:
        window_probability: of another window.
        level_jitter: the level moves by up to this share of the window's width.
        width_jitter: the width changes by a factor between 1 / (1 + this) and 1 + this, log-uniform.
        noise_probability, noise_hu: of noise, and its largest standard deviation.
        blur_probability, blur_pixels: of Gaussian blur, and its largest standard deviation in pixels of the
            source. Small, as reconstruction kernels differ: a blur of several pixels removes small lesions.
        solarize_probability: of inverting the upper half of the grey levels.
        flip_probability: of swapping left and right; off, because sides mean something in a body.
    """

    window_probability: float = 0.8
    level_jitter: float = 0.2
    width_jitter: float = 0.4
    noise_probability: float = 0.5
    noise_hu: float = 20.0
    blur_probability: float = 0.5
    blur_pixels: float = 1.0
    solarize_probability: float = 0.0
    flip_probability: float = 0.0

    def __post_init__(self) -> None:
        for name in ("window", "noise", "blur", "solarize", "flip"):
            if not 0 <= getattr(self, f"{name}_probability") <= 1:
                raise PretrainingError(
                    f"{name}_probability is {getattr(self, f'{name}_probability')}; expected 0 to 1"
                )
        for name in ("level_jitter", "width_jitter", "noise_hu", "blur_pixels"):
            if getattr(self, name) < 0:
                raise PretrainingError(f"{name} is {getattr(self, name)}; expected 0 or more")


UNCHANGED = Photometric(
    window_probability=0, noise_probability=0, blur_probability=0, solarize_probability=0, flip_probability=0
)


def _happens(probability: float, generator: torch.Generator) -> bool:
    # Drawn even where it is 0 or 1, so that changing one probability leaves the other draws as they are.
    return uniform(generator, 0, 1) < probability


def jitter_window(window: Window, change: Photometric, generator: torch.Generator) -> Window:
    """The window, or one of another level and width."""
    shift, spread = uniform(generator, -1, 1), uniform(generator, -1, 1)
    if not _happens(change.window_probability, generator):
        return window
    level = window.level_hu + shift * change.level_jitter * window.width_hu
    return Window(window.name, level, window.width_hu * (1 + change.width_jitter) ** spread)


def change_hu(hu: Tensor, change: Photometric, generator: torch.Generator) -> Tensor:
    """Noise, then blur.

    Args:
        hu: (rows, columns) float32.
        change: how much.
        generator: of the draws.

    Returns:
        The same shape; `hu` itself is left as it is.
    """
    deviation = change.noise_hu * uniform(generator, 0, 1)
    if _happens(change.noise_probability, generator):
        hu = hu + deviation * torch.randn(hu.shape, generator=generator)
    sigma = change.blur_pixels * uniform(generator, 0.1, 1)
    if _happens(change.blur_probability, generator) and sigma > 0:
        hu = gaussian_blur(hu, sigma)
    return hu


def gaussian_blur(x: Tensor, sigma: float) -> Tensor:
    """(rows, columns) smoothed with a Gaussian cut at three standard deviations; edges are repeated."""
    radius = max(1, math.ceil(3 * sigma))
    offset = torch.arange(-radius, radius + 1, dtype=x.dtype)
    kernel = torch.exp(-0.5 * (offset / sigma) ** 2)
    kernel = kernel / kernel.sum()
    padded = F.pad(x[None, None], (radius,) * 4, mode="replicate")
    return F.conv2d(F.conv2d(padded, kernel.view(1, 1, 1, -1)), kernel.view(1, 1, -1, 1))[0, 0]


def to_grey(hu: Tensor, window: Window) -> Tensor:
    """HU through a window, as float32 grey in [0, 1]."""
    return ((hu - window.floor_hu) / window.width_hu).clamp(0, 1)


def change_grey(grey: Tensor, change: Photometric, generator: torch.Generator) -> Tensor:
    """Solarization and flip of a finished view, (S, S) in [0, 1]."""
    if _happens(change.solarize_probability, generator):
        grey = torch.where(grey >= 0.5, 1 - grey, grey)
    if _happens(change.flip_probability, generator):
        grey = grey.flip(-1)
    return grey
