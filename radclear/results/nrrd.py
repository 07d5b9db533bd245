"""Write a volume as NRRD (format 4, after teem.sourceforge.net/nrrd/format.html), without a library."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np

from radclear.ct.source_grid import SourceGrid
from radclear.results.write import write_atomically

_TYPES = ("uint8", "int16")


def write_nrrd(path: str | Path, values: np.ndarray, grid: SourceGrid) -> Path:
    """Write values on a study's source grid, gzip-compressed.

    Args:
        path: ending in `.nrrd`. The file appears under this name only when it is whole.
        values: (z, y, x) on the canonical grid, uint8 or int16; they are stored in the grid's order.
        grid: of the source.

    Returns:
        The path.

    Raises:
        ValueError: another type, or values of another grid.
    """
    path = Path(path)
    if values.dtype.name not in _TYPES:
        raise ValueError(f"values are {values.dtype}; expected {' or '.join(_TYPES)}")
    stored = grid.from_canonical(values)
    directions = " ".join(_vector(grid.steps[:, axis]) for axis in range(3))
    header = "\n".join(
        (
            "NRRD0004",
            f"type: {values.dtype.name}",
            "dimension: 3",
            "space: left-posterior-superior",
            f"sizes: {' '.join(map(str, stored.shape))}",
            f"space directions: {directions}",
            "kinds: domain domain domain",
            "endian: little",
            "encoding: gzip",
            f"space origin: {_vector(grid.origin)}",
            "",
            "",
        )
    )
    content = np.asarray(stored, values.dtype.newbyteorder("<")).tobytes(order="F")
    write_atomically(path, header.encode() + gzip.compress(content, compresslevel=4, mtime=0))
    return path


def _vector(values: np.ndarray) -> str:
    return "(" + ",".join(repr(float(value)) for value in values) + ")"
