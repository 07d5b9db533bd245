"""Evaluate a prediction table: every metric with its interval, per class and over classes."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from radclear.evaluation.auroc_variance import delong
from radclear.evaluation.chance import ece_by_chance
from radclear.evaluation.estimates import Estimate, estimate
from radclear.evaluation.panel import MetricSettings, decide, metric_panel
from radclear.evaluation.resampling import PatientResamples
from radclear.evaluation.table import PredictionTable

MACRO = "macro"
_ENOUGH_RESAMPLES = 2000  # from which the ends of a 95 % interval hardly depend on the seed
_FEW = 10  # positives or negatives, below which a class's figures are marked as unsure


@dataclass(frozen=True)
class ClassCounts:
    """How many studies and patients a class's figures rest on.

    Attributes:
        n_studies, n_patients: evaluated.
        n_positive, n_positive_patients: with the class; a patient is positive if any of their studies is.
        n_negative, n_negative_patients: without; a patient counts here if any of their studies is without.
    """

    n_studies: int
    n_patients: int
    n_positive: int
    n_positive_patients: int
    n_negative: int
    n_negative_patients: int

    @property
    def prevalence(self) -> float:
        """Share of studies with the class."""
        return self.n_positive / self.n_studies

    @property
    def missing(self) -> str:
        """Why there are no figures, empty if there are."""
        if not self.n_positive:
            return "no positive study"
        return "" if self.n_negative else "no negative study"

    @property
    def no_interval(self) -> str:
        """Why there are no intervals, empty if there are."""
        for n, what in ((self.n_positive_patients, "positive"), (self.n_negative_patients, "negative")):
            if n < 2:
                return f"only {n} patient with {what} studies; an interval needs two"
        return ""


@dataclass(frozen=True)
class Evaluation:
    """What was found.

    Attributes:
        table: the studies behind it.
        settings: of the metrics.
        resamples: of the patients.
        level: coverage of the intervals.
        counts: class → what its figures rest on.
        estimates: class or `"macro"` → metric → value with percentile interval.
        ece_by_chance: class → calibration error that a calibrated model would have on so many studies, None
            where there are no figures.
        delong_intervals: class → interval of its AUROC after DeLong, None where there is none.
        by_fold: fold → class or `"macro"` → AUROC, None where it is not defined.
        undefined: classes that have no figures and are left out of the mean.
        warnings: sentences that a reader must know.
    """

    table: PredictionTable
    settings: MetricSettings
    resamples: PatientResamples
    level: float
    counts: dict[str, ClassCounts]
    estimates: dict[str, dict[str, Estimate]]
    ece_by_chance: dict[str, float | None]
    delong_intervals: dict[str, tuple[float, float] | None]
    by_fold: dict[str, dict[str, float | None]] = field(default_factory=dict)
    undefined: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def evaluate(
    table: PredictionTable,
    *,
    settings: MetricSettings | None = None,
    n_resamples: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> Evaluation:
    """All metrics with percentile intervals of a patient bootstrap.

    Args:
        table: studies with labels.
        settings: of the metrics.
        n_resamples: of the bootstrap.
        seed: of the bootstrap.
        level: coverage of the intervals.

    Returns:
        A class without positives or without negatives has no values, but a reason.

    Raises:
        EvaluationError: the table has no labels, or a setting does not fit it.
    """
    settings = settings or MetricSettings()
    truth = table.labels()
    resamples = PatientResamples.stratified(table.patients, truth, n_resamples=n_resamples, seed=seed)
    decided = decide(table.probabilities, table.classes, kind=table.kind, settings=settings)

    def panel(weights: np.ndarray) -> dict[str, np.ndarray]:
        return metric_panel(table.probabilities, truth, decided, weights, kind=table.kind, settings=settings)

    point = panel(np.ones((1, table.n_studies)))
    blocks = [panel(weights) for weights in resamples.weights()]
    samples = {metric: np.concatenate([block[metric] for block in blocks]) for metric in point}
    counts = class_counts(table)
    undefined = tuple(name for name, count in counts.items() if count.missing)
    estimates = {
        name: {
            metric: estimate(
                values[0, c],
                samples[metric][:, c],
                reason=counts[name].missing or counts[name].no_interval,
                level=level,
            )
            for metric, values in point.items()
            if metric != "quadratic_kappa"
        }
        for c, name in enumerate(table.classes)
    }
    estimates[MACRO] = {
        metric: estimate(
            values[0, -1],
            samples[metric][:, -1],
            reason=_macro_reason(table, metric, values[0, -1], undefined),
            level=level,
        )
        for metric, values in point.items()
    }
    return Evaluation(
        table=table,
        settings=settings,
        resamples=resamples,
        level=level,
        counts=counts,
        estimates=estimates,
        ece_by_chance={
            name: None
            if counts[name].missing
            else ece_by_chance(table.probabilities[:, c], n_bins=settings.n_bins, seed=seed)
            for c, name in enumerate(table.classes)
        },
        delong_intervals={
            name: _delong_interval(table, c, counts[name], level) for c, name in enumerate(table.classes)
        },
        by_fold=_by_fold(table, settings),
        undefined=undefined,
        warnings=(*table.warnings, *_warnings(table, counts, undefined, n_resamples)),
    )


def class_counts(table: PredictionTable) -> dict[str, ClassCounts]:
    """Class → how many studies and patients it has."""
    patients = np.asarray(table.patients, dtype=str)
    return {
        name: ClassCounts(
            n_studies=table.n_studies,
            n_patients=table.n_patients,
            n_positive=int(positive.sum()),
            n_positive_patients=len(set(patients[positive])),
            n_negative=int((~positive).sum()),
            n_negative_patients=len(set(patients[~positive])),
        )
        for name, positive in zip(table.classes, table.labels().T, strict=True)
    }


def _macro_reason(table: PredictionTable, metric: str, value: float, undefined: tuple[str, ...]) -> str:
    if not math.isnan(value):
        return "" if table.n_patients > 1 else "one patient; an interval needs two"
    if metric == "quadratic_kappa":
        return "all studies are of one class and are called so; agreement has no chance to compare with"
    if len(undefined) == len(table.classes):
        return "no class has both positive and negative studies"
    return ""


def _delong_interval(
    table: PredictionTable, c: int, counts: ClassCounts, level: float
) -> tuple[float, float] | None:
    if counts.missing or counts.no_interval:
        return None
    result = delong(table.probabilities[:, c], table.labels()[:, c], patients=table.patients)
    return result.interval(level=level)


def _by_fold(table: PredictionTable, settings: MetricSettings) -> dict[str, dict[str, float | None]]:
    """AUROC of each fold by itself: pooled AUROC also compares scores of different models."""
    if table.folds is None or len(set(table.folds)) < 2:
        return {}
    folds = np.asarray(table.folds, dtype=str)
    decided = decide(table.probabilities, table.classes, kind=table.kind, settings=settings)
    result = {}
    for name in sorted(set(table.folds), key=lambda fold: (len(fold), fold)):
        rows = folds == name
        areas = metric_panel(
            table.probabilities[rows],
            table.labels()[rows],
            decided[rows],
            np.ones((1, int(rows.sum()))),
            kind=table.kind,
            settings=settings,
        )["auroc"][0]
        values = [None if math.isnan(area) else float(area) for area in areas]
        result[name] = dict(zip((*table.classes, MACRO), values, strict=True))
    return result


def _warnings(
    table: PredictionTable, counts: dict[str, ClassCounts], undefined: tuple[str, ...], n_resamples: int
) -> list[str]:
    warnings = [f"{name} has no figures: {counts[name].missing}." for name in undefined]
    if undefined and len(undefined) < len(table.classes):
        warnings.append(f"The mean over classes leaves out {', '.join(undefined)}.")
    if n_resamples < _ENOUGH_RESAMPLES:
        warnings.append(
            f"Intervals are from {n_resamples} bootstrap resamples; {_ENOUGH_RESAMPLES} or more are usual, "
            "since with fewer they depend on the seed."
        )
    few = [
        name
        for name, count in counts.items()
        if name not in undefined and min(count.n_positive_patients, count.n_negative_patients) < _FEW
    ]
    if few:
        warnings.append(
            f"Fewer than {_FEW} patients are positive, or negative, for {', '.join(few)}: bootstrap "
            "intervals are unsure there."
        )
    if table.folds is not None and len(set(table.folds)) > 1:
        warnings.append(
            f"The predictions are from {len(set(table.folds))} folds, that is from as many models; pooled "
            "figures compare scores across models, figures per fold do not."
        )
    return warnings
