"""The deletion test: does an answer depend on the slices that show the lesion, and not on others?"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from radclear.evaluation.errors import EvaluationError, NothingToTestError
from radclear.evaluation.estimates import Estimate, estimate
from radclear.evaluation.resampling import PatientResamples

_SAME = 1e-6


@dataclass(frozen=True)
class StudyDrops:
    """How the probability of one study falls when slices are taken out.

    Attributes:
        study: name.
        probability: of the whole bag.
        lesion: fall without the lesion's slices.
        other: mean fall without as many other slices, over the draws.
        n_removed: slices taken out.
        n_slices: of the study.
    """

    study: str
    probability: float
    lesion: float
    other: float
    n_removed: int
    n_slices: int


@dataclass(frozen=True)
class DeletionResult:
    """Paired falls of the probability.

    Attributes:
        lesion: mean fall without the lesion's slices.
        other: mean fall without as many random other slices.
        difference: mean of lesion minus other, study by study.
        studies: all studies of the test.
        excluded: (study, reason) of those left out.
        n_patients: behind the intervals.
        harmless: largest fall that still counts as none.
    """

    lesion: Estimate
    other: Estimate
    difference: Estimate
    studies: tuple[StudyDrops, ...]
    excluded: tuple[tuple[str, str], ...]
    n_patients: int
    harmless: float

    @property
    def undecided(self) -> bool:
        """Whether all studies are of one patient, from whom no interval can tell."""
        return self.n_patients < 2

    @property
    def lesion_lowers(self) -> bool:
        """Whether taking out the lesion lowers the probability: its interval lies above zero."""
        return _limits(self.lesion)[0] > 0

    @property
    def other_does_not(self) -> bool:
        """Whether taking out other slices does not: its interval lies below `harmless`."""
        return _limits(self.other)[1] < self.harmless

    @property
    def passed(self) -> bool:
        """Both, and the lesion matters more than other slices."""
        return self.lesion_lowers and self.other_does_not and _limits(self.difference)[0] > 0


def _limits(fall: Estimate) -> tuple[float, float]:
    """Interval; the value where all patients have the same fall; everything where there is one patient."""
    if fall.interval is not None:
        return fall.interval
    return (fall.value, fall.value) if fall.n_resamples else (-np.inf, np.inf)


def deletion_test(
    probability: Callable[[Any], float],
    bags: Mapping[str, Any],
    lesion_slices: Mapping[str, Collection[int]],
    *,
    n_windows: int = 1,
    margin_slices: int = 0,
    n_draws: int = 10,
    patients: Mapping[str, str] | None = None,
    harmless: float = 0.02,
    n_resamples: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> DeletionResult:
    """Take the lesion's slices out of each bag, then as many random other slices, and compare the answers.

    Annotations decide only what is taken out: the network sees whole bags without them.

    Args:
        probability: bag → probability of the lesion's class, the same for the same bag.
        bags: study → (Z·W, d) embeddings, windows of a slice beside each other; tensors or arrays.
        lesion_slices: study → slices that show the lesion; studies with none are left out.
        n_windows: W.
        margin_slices: slices this close to an annotated one belong to the lesion too: they are taken out with
            it and are never among the random ones.
        n_draws: random draws per study, averaged.
        patients: study → patient; each study its own when omitted.
        harmless: largest mean fall without other slices that still counts as none.
        n_resamples: of the patient bootstrap.
        seed: of draws and bootstrap.
        level: coverage of the percentile intervals.

    Raises:
        EvaluationError: an annotated study without a bag, slices outside of it, or answers that are no
            probabilities or differ for the same bag.
        NothingToTestError: no usable study.
    """
    if min(n_windows, n_draws) < 1 or margin_slices < 0:
        raise EvaluationError(
            f"{n_windows} windows, {n_draws} draws, margin {margin_slices}; expected 1 or more, margin from 0"
        )
    rng = np.random.default_rng(seed)
    drops: list[StudyDrops] = []
    excluded: list[tuple[str, str]] = []
    for study, annotated in lesion_slices.items():
        if study not in bags:
            raise EvaluationError(f"annotated study {study} has no bag; embed it or leave it out on purpose")
        bag = bags[study]
        n_slices = _slice_count(study, bag, n_windows)
        if not annotated:
            excluded.append((study, "no annotated slice"))
            continue
        lesion = _lesion(study, annotated, n_slices, margin_slices)
        n_others = n_slices - int(lesion.sum())
        if n_others <= lesion.sum():
            excluded.append(
                (study, f"{int(lesion.sum())} of {n_slices} slices show the lesion; too few others")
            )
            continue
        whole = _answer(probability, bag, study)
        if abs(_answer(probability, bag, study) - whole) > _SAME:
            raise EvaluationError(
                f"two answers for the same bag of study {study} differ; put the network in eval mode, "
                "without dropout and without sampling of the bag"
            )
        others = np.flatnonzero(~lesion)
        without = whole - _answer(probability, _keep(bag, ~lesion, n_windows), study)
        random = []
        for _ in range(n_draws):
            keep = np.ones(n_slices, dtype=bool)
            keep[rng.choice(others, size=int(lesion.sum()), replace=False)] = False
            random.append(whole - _answer(probability, _keep(bag, keep, n_windows), study))
        drops.append(StudyDrops(study, whole, without, float(np.mean(random)), int(lesion.sum()), n_slices))
    if not drops:
        raise NothingToTestError(
            f"none of {len(lesion_slices)} annotated studies can be tested"
            + (f": {excluded[0][1]}" if excluded else "; give studies with annotated slices"),
            excluded=tuple(excluded),
        )
    who = [study.study if patients is None else patients[study.study] for study in drops]
    resamples = PatientResamples.stratified(who, n_resamples=n_resamples, seed=seed)
    falls = np.array([[d.lesion, d.other, d.lesion - d.other] for d in drops])
    samples = np.concatenate([w @ falls / w.sum(axis=1, keepdims=True) for w in resamples.weights()])
    reason = "" if resamples.n_patients > 1 else "one patient; an interval needs two"
    lesion_fall, other_fall, difference = (
        estimate(falls[:, i].mean(), samples[:, i], reason=reason, level=level) for i in range(3)
    )
    return DeletionResult(
        lesion_fall, other_fall, difference, tuple(drops), tuple(excluded), resamples.n_patients, harmless
    )


def _slice_count(study: str, bag: Any, n_windows: int) -> int:
    if len(bag) == 0 or len(bag) % n_windows:
        raise EvaluationError(
            f"the bag of study {study} has {len(bag)} instances; expected a multiple of {n_windows} windows"
        )
    return len(bag) // n_windows


def _lesion(study: str, annotated: Collection[int], n_slices: int, margin: int) -> np.ndarray:
    """(Z,) booleans."""
    lesion = np.zeros(n_slices, dtype=bool)
    for index in annotated:
        if not 0 <= index < n_slices:
            raise EvaluationError(
                f"slice {index} of study {study} is annotated, but the bag has slices 0 to {n_slices - 1}; "
                "annotations and embeddings must count slices alike"
            )
        lesion[max(0, index - margin) : index + margin + 1] = True
    return lesion


def _keep(bag: Any, keep: np.ndarray, n_windows: int) -> Any:
    return bag[np.flatnonzero(np.repeat(keep, n_windows))]


def _answer(probability: Callable[[Any], float], bag: Any, study: str) -> float:
    answer = probability(bag)
    value = float(answer.detach() if hasattr(answer, "detach") else answer)
    if not 0 <= value <= 1:
        raise EvaluationError(
            f"the answer for study {study} is {value}; expected one probability, after the sigmoid or softmax"
        )
    return value
