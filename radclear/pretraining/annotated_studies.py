"""Studies of a cohort as windowed grey levels, read by several processes at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from radclear.ct import StudySource, Window, read_study, slice_stack
from radclear.pretraining.annotated_views import CohortError
from radclear.processes import worker_pool


@dataclass(frozen=True)
class GreyStudy:
    """What the warm-up keeps of a study.

    Attributes:
        name: of its source.
        stack: (windows, slices, S, S) uint8.
        scale: pixels of the stack for one of the study.
        pixel_mm: side of a pixel of the stack in millimetres.
    """

    name: str
    stack: Tensor
    scale: float
    pixel_mm: float


def read_studies(
    sources: Sequence[StudySource], *, windows: Sequence[Window], image_size: int, workers: int = 1
) -> Iterator[GreyStudy]:
    """The studies in their order.

    Args:
        sources: where they are.
        windows: the windows to see them under.
        image_size: S.
        workers: processes that read; 0 and 1 read in this one.

    Raises:
        CohortError: slices or pixels of a study are not square, workers are fewer than 0, or one of them was
            ended from outside.
        CTInputError: a study cannot be read.
    """
    if workers < 0:
        raise CohortError(f"num_workers is {workers}; expected 0 or more")
    read = partial(_read, windows=tuple(windows), image_size=image_size)
    with ExitStack() as stack:
        if workers > 1 and len(sources) > 1:
            each = stack.enter_context(worker_pool(min(workers, len(sources)))).map(read, sources)
        else:
            each = map(read, sources)
        try:
            for name, grey, scale, pixel_mm in each:
                yield GreyStudy(name, torch.from_numpy(grey), scale, pixel_mm)
        except BrokenProcessPool as error:
            raise CohortError(
                f"one of {workers} processes that read the cohort was ended, perhaps for want of memory; try "
                "fewer with --num_workers"
            ) from error


def _read(
    source: StudySource, *, windows: Sequence[Window], image_size: int
) -> tuple[str, np.ndarray, float, float]:
    study = read_study(source.path)
    rows, columns = study.hu.shape[1:]
    x_mm, y_mm, _ = study.spacing_mm
    if rows != columns or abs(x_mm - y_mm) > 0.01 * x_mm:
        raise CohortError(
            f"{source.name} has slices of {rows} x {columns} pixels of {y_mm:.3f} x {x_mm:.3f} mm; expected "
            "square ones"
        )
    grey = slice_stack(study, windows=windows, size=image_size).numpy()
    scale = image_size / columns
    return source.name, grey, scale, x_mm / scale
