"""Two prediction tables on the same studies: paired DeLong tests and paired bootstrap differences."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from radclear.evaluation.assessment import MACRO, Evaluation, class_counts
from radclear.evaluation.auroc_variance import PairedTest, delong_test
from radclear.evaluation.estimates import Estimate, estimate
from radclear.evaluation.multiplicity import holm
from radclear.evaluation.panel import decide, metric_panel
from radclear.evaluation.table import PredictionTable


@dataclass(frozen=True)
class Comparison:
    """First table minus second table, study by study.

    Attributes:
        first, second: the tables, in the same rows.
        differences: class or `"macro"` → metric → difference with the percentile interval of a bootstrap that
            draws the same patients for both.
        p_bootstrap: class or `"macro"` → metric → two-sided p-value by inversion of that interval; None where
            there is no interval.
        tests: class → paired DeLong test of its AUROC; None where the AUROC is not defined.
        p_holm: class → p-value of that test after Holm's correction over classes; None where there is none.
        reasons: class → why there is no test, empty where there is.
    """

    first: PredictionTable
    second: PredictionTable
    differences: dict[str, dict[str, Estimate]]
    p_bootstrap: dict[str, dict[str, float | None]]
    tests: dict[str, PairedTest | None]
    p_holm: dict[str, float | None]
    reasons: dict[str, str]


def compare(evaluation: Evaluation, other: PredictionTable) -> Comparison:
    """Compare an evaluated table with another one.

    Args:
        evaluation: of the first table; its resamples and settings are used.
        other: the second table; rows in any order, same studies.

    Raises:
        EvaluationError: the tables are not about the same studies, patients, labels and classes.
    """
    first = evaluation.table
    second = other.aligned_with(first)
    truth, settings = first.labels(), evaluation.settings
    decisions = [
        decide(table.probabilities, table.classes, kind=table.kind, settings=settings)
        for table in (first, second)
    ]

    def difference(weights: np.ndarray) -> dict[str, np.ndarray]:
        one, two = (
            metric_panel(table.probabilities, truth, decided, weights, kind=table.kind, settings=settings)
            for table, decided in zip((first, second), decisions, strict=True)
        )
        return {metric: one[metric] - two[metric] for metric in one}

    point = difference(np.ones((1, first.n_studies)))
    blocks = [difference(weights) for weights in evaluation.resamples.weights()]
    samples = {metric: np.concatenate([block[metric] for block in blocks]) for metric in point}
    counts = class_counts(first)
    differences: dict[str, dict[str, Estimate]] = {}
    p_bootstrap: dict[str, dict[str, float | None]] = {}
    for c, name in enumerate((*first.classes, MACRO)):
        differences[name], p_bootstrap[name] = {}, {}
        for metric, values in point.items():
            if metric == "quadratic_kappa" and name != MACRO:
                continue
            if name == MACRO:
                reason = evaluation.estimates[MACRO][metric].reason
            else:
                reason = counts[name].missing or counts[name].no_interval
            reason = "" if reason.startswith("all resamples") else reason
            entry = estimate(values[0, c], samples[metric][:, c], reason=reason, level=evaluation.level)
            differences[name][metric] = entry
            p_bootstrap[name][metric] = None if entry.interval is None else _two_sided(samples[metric][:, c])
    tests, reasons = {}, {}
    for c, name in enumerate(first.classes):
        reasons[name] = counts[name].missing or counts[name].no_interval
        tests[name] = None
        if not reasons[name]:
            tests[name] = delong_test(
                first.probabilities[:, c],
                second.probabilities[:, c],
                truth[:, c],
                patients=first.patients,
                level=evaluation.level,
            )
            reasons[name] = tests[name].reason
    tested = [name for name, test in tests.items() if test is not None and test.p_value is not None]
    adjusted = dict(zip(tested, holm([tests[name].p_value for name in tested]), strict=True))
    p_holm = {name: float(adjusted[name]) if name in adjusted else None for name in first.classes}
    return Comparison(first, second, differences, p_bootstrap, tests, p_holm, reasons)


def _two_sided(samples: np.ndarray) -> float:
    """Smallest level at which the percentile interval excludes zero; never below 2 / (B + 1)."""
    samples = samples[~np.isnan(samples)]
    tail = min((samples <= 0).sum(), (samples >= 0).sum())
    return float(min(1.0, 2 * (tail + 1) / (len(samples) + 1)))
