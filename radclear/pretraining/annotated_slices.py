"""Slices of a cohort, or crops, with what is annotated on each: the data of the supervised warm-up."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import Dataset, WeightedRandomSampler

from radclear.ct import DEFAULT_WINDOWS, Window, find_studies
from radclear.pretraining.annotated_studies import GreyStudy, read_studies
from radclear.pretraining.annotated_views import AnnotatedViews, CohortError, finding_name, slice_weights

logger = logging.getLogger(__name__)


class AnnotatedSlices(Dataset):
    """Every slice of a cohort under every window, and which findings it shows where and how large.

    The cohort is a folder as `radclear phantom` writes it: `studies/` and `boxes.csv` with one row per box
    (study, slice counted from 0 at the foot end, x1, y1, x2, y2 in pixels, site, kind). A finding is the site
    of a tumor lesion, whatever its kind, or the kind of a sign of lung disease.

    Items are those of `radclear.pretraining.annotated_views.AnnotatedViews.draw`; with `twins`, lists of two:
    the view, and the same place of the patient's other study, which MONAI's DataLoader makes one batch of.

    Attributes:
        findings: names, sorted.
        shown: (slices, findings) bool.
        n_studies: studies read.
        pixel_mm: of each study, side of a pixel of its resized slices in millimetres.
        patients: whose they are; None where a `labels.csv` does not tell of all.
        views_per_item: 2 with twins, 1 without.
    """

    def __init__(
        self,
        folder: str | Path | Sequence[str | Path],
        *,
        split: str | None = "train",
        windows: Sequence[Window] = DEFAULT_WINDOWS,
        window_shares: Sequence[float] | None = None,
        image_size: int = 224,
        view_size: int | None = None,
        strides: Sequence[int] = (32, 16),
        transform: Callable[[dict], dict] | None = None,
        twins: bool = False,
        workers: int = 1,
    ) -> None:
        """
        Args:
            folder: the cohort, or several.
            split: only studies with this value in the `split` column of the cohort's `labels.csv` are read;
                all where None.
            windows, window_shares, image_size, view_size, strides, transform: see `AnnotatedViews`.
            twins: show each view twice, as the patient's two studies show the place (written by
                `radclear phantom --twins`).
            workers: processes that read the cohort.

        Raises:
            CohortError: a table is missing or has no row for this split, a box names an absent slice, slices
                or pixels are not square, sizes do not fit, studies are not twins where they should be, or a
                process that reads was ended.
            CTInputError: a study cannot be read.
        """
        self.views = AnnotatedViews(
            windows=windows,
            window_shares=window_shares,
            image_size=image_size,
            view_size=view_size,
            strides=strides,
            transform=transform,
        )
        folders = [Path(name) for name in ([folder] if isinstance(folder, str | Path) else folder)]
        tables = [_boxes(path, split) for path in folders]
        self.findings = tuple(sorted({name for _, boxes in tables for name in boxes["finding"]}))
        self.patients = _patients([studies for studies, _ in tables])
        self.stacks: list[Tensor] = []
        self.pixel_mm: list[float] = []
        self.boxes: list[np.ndarray] = []
        self._where: list[tuple[int, int]] = []
        self._first: list[int] = []  # index of the first slice of each study
        self._twin: list[int] = []  # of each study, where twins are asked for
        self.views_per_item = 2 if twins else 1
        for path, (studies, boxes) in zip(folders, tables, strict=True):
            boxes = boxes.assign(finding=boxes["finding"].map(self.findings.index))
            names = self._read(path, set(studies["study"]), boxes, workers)
            if twins:
                self._pair(path / "labels.csv", studies, names)
        self.shown = torch.zeros(len(self._where), len(self.findings), dtype=torch.bool)
        for index, table in enumerate(self.boxes):
            self.shown[index, table[:, 4].astype(int)] = True
        logger.info(
            "%d studies, %d slices, %d of them annotated",
            self.n_studies,
            len(self),
            int(self.shown.any(dim=1).sum()),
        )

    @property
    def n_findings(self) -> int:
        """Number of findings."""
        return len(self.findings)

    @property
    def n_studies(self) -> int:
        """How many studies were read."""
        return len(self.stacks)

    def _read(self, folder: Path, studies: set[str], boxes: pd.DataFrame, workers: int) -> list[str]:
        """The names of the studies, in the order in which they were read."""
        names = []
        by_study = dict(tuple(boxes.groupby("study")))
        n_before = self.n_studies
        sources = [source for source in find_studies(folder / "studies") if source.name in studies]
        views = self.views
        found = read_studies(sources, windows=views.windows, image_size=views.image_size, workers=workers)
        with closing(found):  # whoever refuses a study does not wait for the others
            for study in found:
                self._keep(study, by_study.get(study.name, boxes.iloc[:0]))
                names.append(study.name)
        if self.n_studies - n_before != len(studies):
            raise CohortError(
                f"{folder / 'labels.csv'} names {len(studies)} studies, of which {folder / 'studies'} holds "
                f"{self.n_studies - n_before}"
            )
        return names

    def _keep(self, study: GreyStudy, boxes: pd.DataFrame) -> None:
        n_slices = study.stack.shape[1]
        if len(boxes) and not 0 <= boxes["slice"].min() <= boxes["slice"].max() < n_slices:
            wrong = boxes.loc[(boxes["slice"] < 0) | (boxes["slice"] >= n_slices), "slice"].iloc[0]
            raise CohortError(f"boxes.csv names slice {wrong} of {study.name}, which has {n_slices}")
        table = boxes[["x1", "y1", "x2", "y2", "finding"]].to_numpy(np.float32)
        table[:, :4] *= study.scale
        self.boxes += [table[(boxes["slice"] == z).to_numpy()] for z in range(n_slices)]
        self._first.append(len(self._where))
        self._where += [(self.n_studies, z) for z in range(n_slices)]
        self.stacks.append(study.stack)
        self.pixel_mm.append(study.pixel_mm)

    def __len__(self) -> int:
        return len(self._where)

    def __getitem__(self, index: int) -> dict[str, Tensor] | list[dict[str, Tensor]]:
        """A view of slice `index`, drawn by torch's generator, with its label; then that of its twin."""
        place = self.views.place(self.boxes[index])
        if self.views_per_item == 1:
            return self._view(index, place)
        study, z = self._where[index]
        return [self._view(index, place), self._view(self._first[self._twin[study]] + z, place)]

    def _view(self, index: int, place: tuple[int, int, int]) -> dict[str, Tensor]:
        study, z = self._where[index]
        return self.views.cut(
            self.stacks[study], z, self.boxes[index], self.n_findings, self.pixel_mm[study], place
        )

    def _pair(self, table: Path, studies: pd.DataFrame, names: list[str]) -> None:
        """Note the twin of each study of the cohort that was read last."""
        if "patient" not in studies:
            raise CohortError(f"{table} has no column patient, which tells who are twins")
        patient = dict(zip(studies["study"], studies["patient"], strict=True))
        pairs: dict[str, list[int]] = {}
        for number, name in enumerate(names, self.n_studies - len(names)):
            pairs.setdefault(patient[name], []).append(number)
        self._twin += [-1] * len(names)
        for of, pair in pairs.items():
            if len(pair) != 2 or self.stacks[pair[0]].shape != self.stacks[pair[1]].shape:
                slices = ", ".join(str(self.stacks[number].shape[1]) for number in pair)
                raise CohortError(
                    f"{table}: patient {of} is no pair of twins (slices of the studies: {slices}); expected "
                    "two studies of as many slices, as radclear phantom --twins writes them"
                )
            self._twin[pair[0]], self._twin[pair[1]] = pair[1], pair[0]


def _boxes(folder: Path, split: str | None) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The studies of a split, and their boxes with the name of the finding."""
    studies = read_table(folder / "labels.csv", ("study", "split"))
    studies = studies if split is None else studies[studies["split"] == split]
    boxes = read_table(folder / "boxes.csv", ("study", "slice", "x1", "y1", "x2", "y2", "site", "kind"))
    boxes = boxes[boxes["study"].isin(set(studies["study"]))]
    if boxes.empty:
        raise CohortError(f"{folder} has no box in split {split!r}; the warm-up needs annotated slices")
    named = [finding_name(site, kind) for site, kind in zip(boxes["site"], boxes["kind"], strict=True)]
    return studies, boxes.assign(finding=named)


def _patients(tables: Sequence[pd.DataFrame]) -> tuple[str, ...] | None:
    if not all("patient" in table and table["patient"].notna().all() for table in tables):
        return None
    return tuple(sorted(set(pd.concat([table["patient"] for table in tables]))))


def read_table(path: Path, columns: Sequence[str]) -> pd.DataFrame:
    """A table of a cohort.

    Raises:
        CohortError: no such file, or a column is missing.
    """
    if not path.is_file():
        raise CohortError(
            f"{path} does not exist; write a cohort with: radclear phantom --output {path.parent}"
        )
    table = pd.read_csv(path, dtype={"study": str, "patient": str})
    missing = [column for column in columns if column not in table]
    if missing:
        raise CohortError(f"{path} has no column {', '.join(missing)}; expected {', '.join(columns)}")
    return table


def balanced_sampler(
    dataset: AnnotatedSlices, *, n_samples: int, annotated_share: float = 0.7
) -> WeightedRandomSampler:
    """Draws slices with the weights of `radclear.pretraining.annotated_views.slice_weights`.

    Args:
        dataset: what to draw from.
        n_samples: slices per epoch.
        annotated_share: the rest are slices without any box.
    """
    weights = slice_weights(dataset.shown, annotated_share=annotated_share)
    return WeightedRandomSampler(weights.tolist(), n_samples)
