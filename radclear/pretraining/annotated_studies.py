"""Studies of a cohort as windowed grey levels, read by several processes at a time."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from radclear.ct import StudySource, Window, read_study, slice_stack
from radclear.pretraining.annotated_views import CohortError


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
        workers: processes that read; 1 reads in this one.

    Raises:
        CohortError: slices of a study are not square.
        CTInputError: a study cannot be read.
    """
    read = partial(_read, windows=tuple(windows), image_size=image_size)
    with ExitStack() as stack:
        if workers > 1 and len(sources) > 1:
            # a fork of a process that uses threads can hang, and a GPU does not survive it
            context = multiprocessing.get_context("spawn")
            pool = stack.enter_context(ProcessPoolExecutor(min(workers, len(sources)), mp_context=context))
            found = pool.map(read, sources)
        else:
            found = map(read, sources)
        for name, grey, scale, pixel_mm in found:
            yield GreyStudy(name, torch.from_numpy(grey), scale, pixel_mm)


def _read(
    source: StudySource, *, windows: Sequence[Window], image_size: int
) -> tuple[str, np.ndarray, float, float]:
    study = read_study(source.path)
    rows, columns = study.hu.shape[1:]
    if rows != columns:
        raise CohortError(f"{source.name} has slices of {(rows, columns)} pixels; expected square ones")
    grey = slice_stack(study, windows=windows, size=image_size).numpy()
    scale = image_size / columns
    return source.name, grey, scale, study.spacing_mm[0] / scale
