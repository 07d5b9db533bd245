"""Annotated slices of phantoms drawn while training goes on: none comes twice, so none is learnt by heart."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

from radclear.ct import slice_stack
from radclear.phantom import DISEASE_CLASSES, LOCATION_CLASSES, Phantom, make_phantom
from radclear.phantom.cohort import study_seed
from radclear.phantom.cohort_tables import patient_name
from radclear.pretraining.annotated_views import AnnotatedViews, CohortError, finding_name, slice_weights
from radclear.pretraining.distributed import rank, world_size


class PhantomSlices(IterableDataset):
    """Views of the slices of ever new phantoms, with their labels.

    The latest phantoms are kept; after each new one, some slices of those kept are drawn with the weights of
    `radclear.pretraining.annotated_views.slice_weights`. Items are those of `AnnotatedViews.draw`.

    An epoch goes on where the last one ended: with workers, `persistent_workers=True` is needed for that.
    Of w workers, worker number k draws the phantoms k, k + w, …; the slices that they give depend on w.
    Of p processes that train together, worker k of process r draws the phantoms k·p + r, then every (w·p)th.

    Attributes:
        findings: names: sites of tumor lesions and signs of lung disease, sorted.
        n_studies: phantoms of all epochs.
    """

    findings = tuple(sorted({*LOCATION_CLASSES, *DISEASE_CLASSES}))

    def __init__(
        self,
        views: AnnotatedViews,
        *,
        seed: int,
        studies_per_epoch: int,
        samples_per_study: int = 32,
        epochs: int = 1,
        n_slices: int = 64,
        size: int = 256,
        kept_studies: int = 24,
        annotated_share: float = 0.7,
    ) -> None:
        """
        Args:
            views: cuts the views.
            seed: phantom number n is study n of the cohort `radclear phantom --seed` with this seed.
            studies_per_epoch: phantoms drawn in an epoch.
            samples_per_study: views drawn after each phantom.
            epochs: how many will be asked for; only counts `n_studies`.
            n_slices: of a phantom.
            size: rows and columns of a phantom.
            kept_studies: how many phantoms slices are drawn from at a time.
            annotated_share: of the views, how many show a slice with a box.

        Raises:
            CohortError: several processes train together, and cannot share an epoch's phantoms evenly.
        """
        self._process, self._processes = rank(), world_size()  # a loader's worker may not know
        if studies_per_epoch % self._processes:
            raise CohortError(
                f"studies_per_epoch is {studies_per_epoch}; expected a multiple of the {self._processes} "
                "processes that train together"
            )
        self.views = views
        self.seed = seed
        self.studies_per_epoch = studies_per_epoch
        self.samples_per_study = samples_per_study
        self.n_studies = epochs * studies_per_epoch
        self.n_slices = n_slices
        self.size = size
        self.annotated_share = annotated_share
        self._kept: deque[tuple[Tensor, list[np.ndarray], float, Tensor]] = deque(maxlen=kept_studies)
        self._epochs_done = 0

    @property
    def patients(self) -> tuple[str, ...]:
        """Those of all epochs, called as in a cohort of this seed."""
        return tuple(patient_name(study_seed(self.seed, number)) for number in range(self.n_studies))

    @property
    def n_findings(self) -> int:
        """Number of findings."""
        return len(self.findings)

    def __len__(self) -> int:
        """Views of an epoch in this process."""
        return self.studies_per_epoch // self._processes * self.samples_per_study

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        worker = get_worker_info()
        first, step = (worker.id, worker.num_workers) if worker else (0, 1)
        first, step = first * self._processes + self._process, step * self._processes
        start = self._epochs_done * self.studies_per_epoch
        self._epochs_done += 1
        for number in range(start + first, start + self.studies_per_epoch, step):
            phantom = make_phantom(study_seed(self.seed, number), n_slices=self.n_slices, size=self.size)
            self._kept.append(self._annotated(phantom))
            yield from self._draw()

    def _annotated(self, phantom: Phantom) -> tuple[Tensor, list[np.ndarray], float, Tensor]:
        """Windowed slices, the boxes of each in their pixels, a pixel in mm, and (slices, findings) bool."""
        stack = slice_stack(phantom, windows=self.views.windows, size=self.views.image_size)
        scale = self.views.image_size / self.size
        rows: list[list[Sequence[float]]] = [[] for _ in range(self.n_slices)]
        shown = torch.zeros(self.n_slices, self.n_findings, dtype=torch.bool)
        for box in phantom.boxes:
            finding = self.findings.index(finding_name(box.site, box.kind))
            rows[box.slice].append((box.x1 * scale, box.y1 * scale, box.x2 * scale, box.y2 * scale, finding))
            shown[box.slice, finding] = True
        tables = [np.array(own, np.float32).reshape(-1, 5) for own in rows]
        return stack, tables, phantom.spacing_mm[0] / scale, shown

    def _draw(self) -> Iterator[dict[str, Tensor]]:
        weights = slice_weights(
            torch.cat([shown for *_, shown in self._kept]), annotated_share=self.annotated_share
        )
        for row in torch.multinomial(weights, self.samples_per_study, replacement=True).tolist():
            study, z = divmod(row, self.n_slices)
            stack, boxes, pixel_mm, _ = self._kept[study]
            yield self.views.draw(stack, z, boxes[z], self.n_findings, pixel_mm)
