"""Slices of a cohort with what is annotated on each: the data of the supervised warm-up."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import Dataset, WeightedRandomSampler

from radclear.ct import DEFAULT_WINDOWS, Window, find_studies, read_study, slice_stack
from radclear.errors import RadclearError

logger = logging.getLogger(__name__)


class CohortError(RadclearError):
    """A cohort folder does not hold what the warm-up needs."""


class AnnotatedSlices(Dataset):
    """Every slice of a cohort under every window, and which kinds of annotation it shows.

    The cohort is a folder as `radclear phantom` writes it: `studies/` and `boxes.csv` with one row per box
    (study, slice counted from 0 at the foot end, site, kind). A class is a pair of site and kind, such as
    `liver metastasis`; the last class, `annotated`, says that the slice has any box at all.

    A label has 1 + grid² rows: the first says which classes the slice shows, the others which have a box in
    each cell of a square grid over the slice, row by row.

    Attributes:
        classes: names, sorted; `annotated` last.
        labels: (slices, classes) float32 of 0 and 1.
        n_studies: studies read.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        split: str = "train",
        windows: Sequence[Window] = DEFAULT_WINDOWS,
        image_size: int = 224,
        grid: int = 7,
        transform: Callable[[dict], dict] | None = None,
    ) -> None:
        """
        Args:
            folder: the cohort.
            split: only studies with this value in the `split` column of the cohort's `labels.csv` are read.
            windows: as for the embeddings.
            image_size: side of the slices in pixels.
            grid: cells along each side, as many as the backbone has tokens.
            transform: MONAI transform of `{"image": (1, S, S) float [0, 1], "label": (1 + grid², classes)}`.

        Raises:
            CohortError: a table is missing or has no row for this split, or a box names an absent slice.
        """
        folder = Path(folder)
        studies = read_table(folder / "labels.csv", ("study", "split"))
        studies = set(studies.loc[studies["split"] == split, "study"])
        boxes = read_table(folder / "boxes.csv", ("study", "slice", "x1", "y1", "x2", "y2", "site", "kind"))
        boxes = boxes[boxes["study"].isin(studies)]
        if boxes.empty:
            raise CohortError(f"{folder} has no box in split {split!r}; the warm-up needs annotated slices")
        names = sorted({f"{site} {kind}" for site, kind in zip(boxes["site"], boxes["kind"], strict=True)})
        self.classes = (*names, "annotated")
        self.transform = transform
        by_study = dict(tuple(boxes.groupby("study")))
        self.stacks: list[Tensor] = []
        labels: list[Tensor] = []
        self._where: list[tuple[int, int]] = []
        for source in find_studies(folder / "studies"):
            if source.name not in studies:
                continue
            study = read_study(source.path)
            if study.hu.shape[1] != study.hu.shape[2]:
                raise CohortError(
                    f"{source.name} has slices of {study.hu.shape[1:]} pixels; expected square ones"
                )
            stack = slice_stack(study, windows=windows, size=image_size)
            label = torch.zeros(stack.shape[1], 1 + grid**2, len(self.classes))
            for row in by_study.get(source.name, boxes.iloc[:0]).itertuples():
                if not 0 <= row.slice < len(label):
                    raise CohortError(
                        f"boxes.csv names slice {row.slice} of {source.name}, which has {len(label)}"
                    )
                cells = label[row.slice, 1:].view(grid, grid, -1)
                box = (
                    int(v * grid / study.hu.shape[1]) for v in (row.x1, row.y1, row.x2 - 0.5, row.y2 - 0.5)
                )
                x1, y1, x2, y2 = (min(v, grid - 1) for v in box)
                for index in (self.classes.index(f"{row.site} {row.kind}"), -1):
                    label[row.slice, 0, index] = 1
                    cells[y1 : y2 + 1, x1 : x2 + 1, index] = 1
            self._where += [(len(self.stacks), z) for z in range(len(label))]
            self.stacks.append(stack)
            labels.append(label)
        if len(self.stacks) != len(studies):
            raise CohortError(
                f"split {split!r} of labels.csv has {len(studies)} studies, {len(self.stacks)} of them in "
                f"{folder / 'studies'}"
            )
        self.grids = torch.cat(labels).bool()
        self.labels = self.grids[:, 0].float()
        logger.info(
            "%d studies, %d slices, %d of them annotated",
            len(self.stacks),
            len(self),
            self.labels[:, -1].sum(),
        )

    @property
    def n_classes(self) -> int:
        """Number of classes, `annotated` included."""
        return len(self.classes)

    @property
    def n_studies(self) -> int:
        """How many studies were read."""
        return len(self.stacks)

    def __len__(self) -> int:
        return len(self._where)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """Slice `index` under a window drawn by torch's generator, with its label."""
        study, z = self._where[index]
        window = int(torch.randint(self.stacks[study].shape[0], ()))
        item = {
            "image": self.stacks[study][window, z][None].float() / 255,
            "label": self.grids[index].float(),
        }
        return self.transform(item) if self.transform else item


def read_table(path: Path, columns: Sequence[str]) -> pd.DataFrame:
    """A table of a cohort.

    Raises:
        CohortError: no such file, or a column is missing.
    """
    if not path.is_file():
        raise CohortError(
            f"{path} does not exist; write a cohort with: radclear phantom --output {path.parent}"
        )
    table = pd.read_csv(path, dtype={"study": str})
    missing = [column for column in columns if column not in table]
    if missing:
        raise CohortError(f"{path} has no column {', '.join(missing)}; expected {', '.join(columns)}")
    return table


def balanced_sampler(
    dataset: AnnotatedSlices, *, n_samples: int, annotated_share: float = 0.7
) -> WeightedRandomSampler:
    """Draws annotated slices with `annotated_share`, those of rare classes more often.

    The weight of an annotated slice is 1/√(frequency of its rarest class).

    Args:
        dataset: what to draw from.
        n_samples: slices per epoch.
        annotated_share: the rest are slices without any box.
    """
    frequency = dataset.labels.mean(dim=0).clamp(min=1 / len(dataset))
    annotated = dataset.labels[:, -1] > 0
    rarest = torch.where(dataset.labels > 0, frequency, torch.inf).min(dim=1).values
    weights = torch.where(annotated, rarest.rsqrt(), torch.zeros(()))
    weights = weights * (annotated_share / weights.sum())
    weights[~annotated] = (1 - annotated_share) / max(1, int((~annotated).sum()))
    return WeightedRandomSampler(weights.double().tolist(), n_samples)
