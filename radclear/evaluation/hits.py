"""Key slices against annotated slices: hit@k, its interval, and what chance would reach."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from radclear.evaluation.errors import EvaluationError
from radclear.evaluation.estimates import Estimate, estimate
from radclear.evaluation.resampling import PatientResamples


@dataclass(frozen=True)
class HitAtK:
    """How often one of the first k key slices shows an annotated lesion.

    Attributes:
        k: how many key slices count.
        rate: share of studies that are hit, with percentile interval of a patient bootstrap.
        n_hit: studies that are hit.
        n_studies: studies with annotated slices.
        n_patients: patients of these.
        chance: share that k slices drawn at random would hit; None where the slice counts are not known.
        missed: studies that are not hit.
    """

    k: int
    rate: Estimate
    n_hit: int
    n_studies: int
    n_patients: int
    chance: float | None
    missed: tuple[str, ...]


def key_slice_hits(
    ranked_slices: Mapping[str, Sequence[int]],
    annotated_slices: Mapping[str, Collection[int]],
    *,
    ks: Sequence[int] = (1, 3, 5),
    tolerance_slices: int = 0,
    patients: Mapping[str, str] | None = None,
    n_slices: Mapping[str, int] | None = None,
    n_resamples: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> tuple[HitAtK, ...]:
    """hit@k for every k.

    Args:
        ranked_slices: study → slices, most attention first; found without the annotations. A study with fewer
            than k of them has no further chances, which is an error unless `n_slices` says it has no more.
        annotated_slices: study → slices with an annotated lesion; studies with none do not count.
        ks: how many key slices count.
        tolerance_slices: a key slice this far from an annotated one still hits.
        patients: study → patient; each study its own when omitted.
        n_slices: study → how many slices it has, for the level of chance.
        n_resamples: of the bootstrap.
        seed: of the bootstrap.
        level: coverage of the intervals.

    Raises:
        EvaluationError: annotated studies without key slices or with fewer than k, or none annotated.
    """
    if not ks or min(ks) < 1 or tolerance_slices < 0:
        raise EvaluationError(
            f"k is {list(ks)}, tolerance {tolerance_slices}; expected k from 1, tolerance from 0"
        )
    counted = [study for study, slices in annotated_slices.items() if len(slices)]
    if not counted:
        raise EvaluationError("no study has annotated slices; hit rates need some")
    if unanswered := [study for study in counted if study not in ranked_slices]:
        raise EvaluationError(
            f"{len(unanswered)} annotated studies have no key slices, the first is {unanswered[0]}; leave "
            "them out of the annotations on purpose or answer them"
        )
    for study in counted:
        needed = max(ks) if n_slices is None else min(max(ks), n_slices[study])
        if len(set(ranked_slices[study])) < needed:
            raise EvaluationError(
                f"study {study} has {len(set(ranked_slices[study]))} key slices; hit@{max(ks)} needs "
                f"{needed}: rank more slices, or leave out the larger k"
            )
    who = [study if patients is None else patients[study] for study in counted]
    resamples = PatientResamples.stratified(who, n_resamples=n_resamples, seed=seed)
    first = np.array([_first_hit(ranked_slices[s], annotated_slices[s], tolerance_slices) for s in counted])
    hit = first[:, None] < np.asarray(ks)[None, :]
    samples = np.concatenate([w @ hit / w.sum(axis=1, keepdims=True) for w in resamples.weights()])
    reason = "" if resamples.n_patients > 1 else "one patient; an interval needs two"
    return tuple(
        HitAtK(
            k=k,
            rate=estimate(hit[:, i].mean(), samples[:, i], reason=reason, level=level),
            n_hit=int(hit[:, i].sum()),
            n_studies=len(counted),
            n_patients=resamples.n_patients,
            chance=None
            if n_slices is None
            else _chance(counted, annotated_slices, n_slices, k, tolerance_slices),
            missed=tuple(study for study, found in zip(counted, hit[:, i], strict=True) if not found),
        )
        for i, k in enumerate(ks)
    )


def _first_hit(ranked: Sequence[int], annotated: Collection[int], tolerance: int) -> float:
    """Position of the first key slice that hits, infinite if none does."""
    for position, key in enumerate(dict.fromkeys(ranked)):
        if any(abs(key - index) <= tolerance for index in annotated):
            return position
    return math.inf


def _chance(
    studies: Sequence[str],
    annotated: Mapping[str, Collection[int]],
    n_slices: Mapping[str, int],
    k: int,
    tolerance: int,
) -> float:
    """Mean over studies of 1 − C(Z − m, k) / C(Z, k): k of Z slices are drawn, m of the Z would hit."""
    rates = []
    for study in studies:
        total = n_slices[study]
        near = {s for index in annotated[study] for s in range(index - tolerance, index + tolerance + 1)}
        hitting, drawn = len(near & set(range(total))), min(k, total)
        rates.append(1 - math.comb(total - hitting, drawn) / math.comb(total, drawn))
    return float(np.mean(rates))
