"""Slices of a cohort, or crops, with what is annotated on each: the data of the supervised warm-up."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import Dataset, WeightedRandomSampler

from radclear.ct import DEFAULT_WINDOWS, Window, find_studies, read_study, slice_stack
from radclear.errors import RadclearError
from radclear.phantom.labels import LESION_KINDS
from radclear.pretraining.region_labels import region_labels

logger = logging.getLogger(__name__)


class CohortError(RadclearError):
    """A cohort folder does not hold what the warm-up needs."""


class AnnotatedSlices(Dataset):
    """Every slice of a cohort under every window, and which findings it shows where and how large.

    The cohort is a folder as `radclear phantom` writes it: `studies/` and `boxes.csv` with one row per box
    (study, slice counted from 0 at the foot end, x1, y1, x2, y2 in pixels, site, kind). A finding is the site
    of a tumor lesion, whatever its kind, or the kind of a sign of lung disease.

    Items are dicts: `image` (1, V, V) float in [0, 1] under a window drawn at random, `label` of
    `radclear.pretraining.region_labels`. The view is the whole slice, or, where `view_size` is
    smaller than `image_size`, a crop: around one box of the slice, drawn with equal chance for each finding
    and off the centre by up to 0.4 of the crop, or around the middle where the slice has none.

    Attributes:
        findings: names, sorted.
        shown: (slices, findings) bool.
        n_studies: studies read.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        split: str | None = "train",
        windows: Sequence[Window] = DEFAULT_WINDOWS,
        window_shares: Sequence[float] | None = None,
        image_size: int = 224,
        view_size: int | None = None,
        strides: Sequence[int] = (32, 16),
        transform: Callable[[dict], dict] | None = None,
    ) -> None:
        """
        Args:
            folder: the cohort.
            split: only studies with this value in the `split` column of the cohort's `labels.csv` are read;
                all where None.
            windows: as for the embeddings.
            window_shares: how often each window is drawn; equally often by default.
            image_size: side in pixels to which a slice is resized before a view is cut.
            view_size: side of a view in pixels; the whole slice by default.
            strides: sides in pixels of the cells that labels are given for, as the maps of the backbone have
                them.
            transform: MONAI transform of `{"image": …, "label": …}`.

        Raises:
            CohortError: a table is missing or has no row for this split, a box names an absent slice, slices
                are not square, or sizes do not fit.
        """
        folder = Path(folder)
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
        studies = read_table(folder / "labels.csv", ("study", "split"))
        studies = set(studies["study"] if split is None else studies.loc[studies["split"] == split, "study"])
        boxes = read_table(folder / "boxes.csv", ("study", "slice", "x1", "y1", "x2", "y2", "site", "kind"))
        boxes = boxes[boxes["study"].isin(studies)]
        if boxes.empty:
            raise CohortError(f"{folder} has no box in split {split!r}; the warm-up needs annotated slices")
        named = [
            site if kind in LESION_KINDS else kind
            for site, kind in zip(boxes["site"], boxes["kind"], strict=True)
        ]
        self.findings = tuple(sorted(set(named)))
        boxes = boxes.assign(finding=[self.findings.index(name) for name in named])
        by_study = dict(tuple(boxes.groupby("study")))
        self.stacks: list[Tensor] = []
        self.boxes: list[np.ndarray] = []
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
            own = by_study.get(source.name, boxes.iloc[:0])
            if len(own) and not 0 <= own["slice"].min() <= own["slice"].max() < stack.shape[1]:
                wrong = own.loc[(own["slice"] < 0) | (own["slice"] >= stack.shape[1]), "slice"].iloc[0]
                raise CohortError(
                    f"boxes.csv names slice {wrong} of {source.name}, which has {stack.shape[1]}"
                )
            table = own[["x1", "y1", "x2", "y2", "finding"]].to_numpy(np.float32)
            table[:, :4] *= image_size / study.hu.shape[1]
            self.boxes += [table[(own["slice"] == z).to_numpy()] for z in range(stack.shape[1])]
            self._where += [(len(self.stacks), z) for z in range(stack.shape[1])]
            self.stacks.append(stack)
        if len(self.stacks) != len(studies):
            raise CohortError(
                f"split {split!r} of labels.csv has {len(studies)} studies, {len(self.stacks)} of them in "
                f"{folder / 'studies'}"
            )
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

    def __len__(self) -> int:
        return len(self._where)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """A view of slice `index`, drawn by torch's generator, with its label."""
        study, z = self._where[index]
        window = int(torch.multinomial(self.window_shares, 1))
        x, y = self._corner(index)
        side = self.view_size
        view = self.stacks[study][window, z, y : y + side, x : x + side]
        boxes = self.boxes[index] - np.array([x, y, x, y, 0], np.float32)
        label = region_labels(boxes, view_size=side, strides=self.strides, n_findings=self.n_findings)
        item = {"image": view[None].float() / 255, "label": torch.from_numpy(label)}
        return self.transform(item) if self.transform else item

    def _corner(self, index: int) -> tuple[int, int]:
        """(x, y) of the first pixel of a view."""
        side, room = self.view_size, self.stacks[0].shape[-1] - self.view_size
        if room == 0:
            return 0, 0
        boxes = self.boxes[index]
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
    """Draws annotated slices with `annotated_share`, those of rare findings more often.

    The weight of an annotated slice is 1 / frequency of its rarest finding, so that each finding that is
    the rarest of its slices is drawn about equally often.

    Args:
        dataset: what to draw from.
        n_samples: slices per epoch.
        annotated_share: the rest are slices without any box.
    """
    frequency = dataset.shown.float().mean(dim=0).clamp(min=1 / len(dataset))
    annotated = dataset.shown.any(dim=1)
    rarest = torch.where(dataset.shown, frequency, torch.inf).min(dim=1).values
    weights = torch.where(annotated, 1 / rarest, torch.zeros(())).double()
    weights = weights * (annotated_share / weights.sum())
    weights[~annotated] = (1 - annotated_share) / max(1, int((~annotated).sum()))
    return WeightedRandomSampler(weights.tolist(), n_samples)
