"""Bootstrap resamples of patients: whole patients are drawn, each with all of their studies."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from radclear.evaluation.errors import EvaluationError

_CELLS = 4_000_000  # weights held at once


@dataclass(frozen=True)
class PatientResamples:
    """B resamples of the patients of N studies, drawn with replacement within strata.

    Attributes:
        n_resamples: B.
        seed: the same seed and the same studies give the same resamples.
        patient: (N,) index of each study's patient.
        strata: for each stratum the indices of its patients.
    """

    n_resamples: int
    seed: int
    patient: np.ndarray
    strata: tuple[np.ndarray, ...]

    @classmethod
    def stratified(
        cls,
        patients: Sequence[str],
        labels: np.ndarray | None = None,
        *,
        n_resamples: int = 2000,
        seed: int = 0,
        min_stratum: int = 5,
    ) -> PatientResamples:
        """A patient's stratum is the rarest class that any of their studies has, or none of the classes.

        So every resample has as many patients of a rare class as there are. A stratum of fewer than
        `min_stratum` patients joins the next commoner one: few patients alone would hardly vary, and the
        intervals would be too narrow.

        Args:
            patients: N, whom each study is of.
            labels: (N, C) booleans; without them there is one stratum.
            n_resamples: B.
            seed: from 0.
            min_stratum: see above.

        Raises:
            EvaluationError: no studies, or numbers out of range.
        """
        if not len(patients) or n_resamples < 1 or seed < 0:
            raise EvaluationError(
                f"{len(patients)} studies, {n_resamples} resamples, seed {seed}; expected at least one study "
                "and one resample, and a seed from 0"
            )
        names, patient = np.unique(np.asarray(patients, dtype=str), return_inverse=True)
        if labels is None:
            return cls(n_resamples, seed, patient, (np.arange(len(names)),))
        labels = np.asarray(labels, dtype=bool)
        if labels.ndim != 2 or len(labels) != len(patient):
            raise EvaluationError(
                f"labels have shape {list(labels.shape)} for {len(patient)} studies; expected (studies, "
                "classes)"
            )
        has = np.zeros((len(names), labels.shape[1]), dtype=bool)
        np.logical_or.at(has, patient, labels)
        order = np.argsort(has.sum(axis=0), kind="stable")  # from the rarest class
        has = np.column_stack([has[:, order], np.ones(len(names), dtype=bool)])
        rarest = has.argmax(axis=1)
        strata: list[np.ndarray] = []
        carried = np.empty(0, dtype=np.int64)
        for index in range(has.shape[1]):
            carried = np.concatenate([carried, np.flatnonzero(rarest == index)])
            if len(carried) >= min_stratum:
                strata.append(carried)
                carried = np.empty(0, dtype=np.int64)
        if len(carried) and strata:
            strata[-1] = np.concatenate([strata[-1], carried])
        elif len(carried):
            strata.append(carried)
        return cls(n_resamples, seed, patient, tuple(strata))

    @property
    def n_patients(self) -> int:
        return sum(len(stratum) for stratum in self.strata)

    def weights(self) -> Iterator[np.ndarray]:
        """Yields (b, N) float64, how often each study counts; all blocks together have B rows."""
        rng = np.random.default_rng(self.seed)
        block = max(1, _CELLS // len(self.patient))
        for start in range(0, self.n_resamples, block):
            rows = min(block, self.n_resamples - start)
            counts = np.empty((rows, self.n_patients))
            for stratum in self.strata:
                size = len(stratum)
                drawn = rng.integers(0, size, (rows, size)) + size * np.arange(rows)[:, None]
                counts[:, stratum] = np.bincount(drawn.ravel(), minlength=rows * size).reshape(rows, size)
            yield counts[:, self.patient]
