"""The pixels of a slice from an image file: 16-bit with an offset to HU, or 8-bit without HU."""

from __future__ import annotations

from pathlib import Path

import imagecodecs
import numpy as np

from radclear.pretraining.errors import PretrainingDataError

_PNG, _DEPTH_AT = b"\x89PNG\r\n\x1a\n", 24


def check_depth(path: Path) -> None:
    """Refuse a 16-bit PNG that has no `hu_offset`, by its header alone, so that training does not stop at it.

    Raises:
        PretrainingDataError: it is one, or it cannot be read.
    """
    try:
        with path.open("rb") as file:
            header = file.read(_DEPTH_AT + 1)
    except OSError as error:
        raise PretrainingDataError(f"{path} cannot be read: {error.strerror}") from error
    if header.startswith(_PNG) and header[_DEPTH_AT:] == b"\x10":
        raise _without_offset(path, "16-bit")


def read_image(path: Path, *, hu_offset: int | None) -> np.ndarray:
    """One grey image.

    Args:
        path: PNG, JPEG or whatever else imagecodecs reads.
        hu_offset: HU = value + offset for 16-bit images; None for 8-bit images.

    Returns:
        (rows, columns) int16: HU, or grey levels 0 to 255.

    Raises:
        PretrainingDataError: not readable, coloured, or not of the depth that `hu_offset` says.
    """
    try:
        pixels = imagecodecs.imread(path)
    except Exception as error:  # the codecs raise errors of their own
        raise PretrainingDataError(f"{path} cannot be read as an image: {error}") from error
    if pixels.ndim == 3:
        colours = pixels[..., :3] if pixels.shape[2] >= 3 else pixels[..., :1]
        if (colours != colours[..., :1]).any():
            raise PretrainingDataError(f"{path} is a colour image; expected grey")
        pixels = colours[..., 0]
    if hu_offset is None:
        if pixels.dtype != np.uint8:
            raise _without_offset(path, str(pixels.dtype))
        return pixels.astype(np.int16)
    if pixels.dtype == np.uint8:
        raise PretrainingDataError(f"{path} is an 8-bit image, which has no HU; leave its hu_offset empty")
    hu = pixels.astype(np.int32) + hu_offset
    return np.clip(hu, -32768, 32767).astype(np.int16)


def _without_offset(path: Path, depth: str) -> PretrainingDataError:
    return PretrainingDataError(
        f"{path} has {depth} values; say how they become HU with a column hu_offset (HU = value + offset; "
        "DeepLesion has -32768), or store 8-bit grey levels"
    )
