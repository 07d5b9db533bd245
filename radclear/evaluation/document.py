"""An evaluation as plain data: the JSON document and the rows of its table."""

from __future__ import annotations

import csv
import io
from typing import Any

from radclear import __version__
from radclear.evaluation.annotations import KeySliceHits
from radclear.evaluation.assessment import MACRO, ClassCounts, Evaluation
from radclear.evaluation.comparison import Comparison
from radclear.evaluation.estimates import Estimate
from radclear.evaluation.panel import sensitivity_name

DOCUMENT_VERSION = "1.0"


def build_document(
    evaluation: Evaluation, comparison: Comparison | None = None, key_slices: KeySliceHits | None = None
) -> dict[str, Any]:
    """Everything that was found, without names of studies or patients, ready for JSON."""
    table, resamples = evaluation.table, evaluation.resamples
    document = {
        "document_version": DOCUMENT_VERSION,
        "radclear_version": __version__,
        "predictions": _about(evaluation.table),
        "n_studies": table.n_studies,
        "n_patients": table.n_patients,
        "n_excluded": len(table.excluded),
        "method": {
            "interval": "percentile interval of a patient bootstrap",
            "level": evaluation.level,
            "n_resamples": resamples.n_resamples,
            "seed": resamples.seed,
            "strata_patients": [len(stratum) for stratum in resamples.strata],
            "definitions": definitions(evaluation),
        },
        "classes": {
            name: {
                **_counts(evaluation.counts[name]),
                "metrics": {m: e.as_dict() for m, e in evaluation.estimates[name].items()},
                "ece_by_chance": evaluation.ece_by_chance[name],
                "auroc_delong_interval": _listed(evaluation.delong_intervals[name]),
            }
            for name in table.classes
        },
        "macro": {m: e.as_dict() for m, e in evaluation.estimates[MACRO].items()},
        "undefined_classes": list(evaluation.undefined),
        "auroc_by_fold": evaluation.by_fold,
        "warnings": list(evaluation.warnings),
    }
    if comparison is not None:
        document["comparison"] = _comparison(comparison)
    if key_slices is not None:
        document["key_slices"] = {
            "kinds": list(key_slices.kinds) or None,
            "n_studies": key_slices.n_studies,
            "n_studies_annotated": key_slices.hits[0].n_studies,
            "n_patients_annotated": key_slices.hits[0].n_patients,
            "hits": {
                f"hit@{hit.k}": {**hit.rate.as_dict(), "n_hit": hit.n_hit, "chance": hit.chance}
                for hit in key_slices.hits
            },
            "warnings": list(key_slices.warnings),
        }
    return document


def definitions(evaluation: Evaluation) -> dict[str, str]:
    """Metric → what exactly was computed."""
    table, settings = evaluation.table, evaluation.settings
    if table.kind == "multilabel":
        chosen = ", ".join(f"{name} {value:g}" for name, value in settings.thresholds)
        called = f"from threshold {settings.default_threshold:g}" + (f" ({chosen})" if chosen else "")
        balanced = "mean of sensitivity and specificity; macro: mean over classes"
    else:
        called = "where the class is the most probable one"
        balanced = (
            "per class: mean of sensitivity and specificity, the class against the rest; macro: mean "
            "sensitivity over classes"
        )
    texts = {
        "auroc": "area under the ROC curve of the probabilities, one class against the rest; ties count half",
        "auprc": "average precision: precision at every distinct probability, weighted by the gain in recall",
        **{
            sensitivity_name(
                value
            ): f"highest sensitivity among thresholds with a specificity of at least {value:g}; each "
            "resample chooses its own threshold"
            for value in settings.specificities
        },
        "brier": "mean squared difference between probability and label",
        "ece": f"expected calibration error over {settings.n_bins} bins of equal width",
        "sensitivity": f"share of studies with the class that are called, {called}",
        "specificity": f"share of studies without the class that are not called, {called}",
        "balanced_accuracy": balanced,
        "quadratic_kappa": "Cohen's kappa of the most probable class with quadratic weights",
        "ece_by_chance": "mean expected calibration error where labels are drawn from the probabilities: "
        "what a calibrated model would have on so many studies",
        MACRO: "mean over the classes that have both positive and negative studies",
        "auroc_delong_interval": "DeLong variance with patients as clusters (Obuchowski), on the logit scale",
    }
    wanted = {*settings.names(table.kind), MACRO, "ece_by_chance", "auroc_delong_interval"}
    return {name: text for name, text in texts.items() if name in wanted}


def metric_rows(evaluation: Evaluation) -> str:
    """The long table of all values as CSV text: a row per class and metric."""
    table = evaluation.table
    rows = []
    for name in (*table.classes, MACRO):
        counts = evaluation.counts.get(name)
        for metric, entry in evaluation.estimates[name].items():
            rows.append(
                {
                    "class": name,
                    "metric": metric,
                    **_flat(entry),
                    "n_studies": table.n_studies,
                    "n_patients": table.n_patients,
                    "n_positive_studies": counts.n_positive if counts else "",
                    "n_positive_patients": counts.n_positive_patients if counts else "",
                    "prevalence": f"{counts.prevalence:.9g}" if counts else "",
                    "reason": entry.reason,
                }
            )
    return _csv(rows)


def comparison_rows(comparison: Comparison) -> str:
    """The differences as CSV text: a row per class and metric."""
    n_studies, n_patients = comparison.first.n_studies, comparison.first.n_patients
    truth = comparison.first.labels()
    rows = []
    for name, metrics in comparison.differences.items():
        positives = "" if name == MACRO else int(truth[:, comparison.first.classes.index(name)].sum())
        for metric, entry in metrics.items():
            test = comparison.tests.get(name) if metric == "auroc" else None
            rows.append(
                {
                    "class": name,
                    "metric": metric,
                    **{("difference" if key == "value" else key): v for key, v in _flat(entry).items()},
                    "p_bootstrap": _number(comparison.p_bootstrap[name][metric]),
                    "z_delong": _number(test.z if test else None),
                    "p_delong": _number(test.p_value if test else None),
                    "p_delong_holm": _number(comparison.p_holm.get(name) if metric == "auroc" else None),
                    "n_studies": n_studies,
                    "n_patients": n_patients,
                    "n_positive_studies": positives,
                    "prevalence": "" if positives == "" else f"{positives / n_studies:.9g}",
                    "reason": entry.reason or (test.reason if test else ""),
                }
            )
    return _csv(rows)


def _about(table) -> dict[str, Any]:
    return {
        "name": table.name,
        "sha256": table.sha256,
        "kind": table.kind,
        "classes": list(table.classes),
        "split": table.split or None,
    }


def _counts(counts: ClassCounts) -> dict[str, Any]:
    return {
        "n_studies": counts.n_studies,
        "n_patients": counts.n_patients,
        "n_positive_studies": counts.n_positive,
        "n_positive_patients": counts.n_positive_patients,
        "prevalence": counts.prevalence,
    }


def _comparison(comparison: Comparison) -> dict[str, Any]:
    tests = {}
    for name, test in comparison.tests.items():
        tests[name] = {
            "difference": test.difference if test else None,
            "interval": _listed(test.interval) if test else None,
            "z": test.z if test else None,
            "p_value": test.p_value if test else None,
            "p_holm": comparison.p_holm[name],
            "reason": comparison.reasons[name] or None,
        }
    return {
        "other": _about(comparison.second),
        "n_studies": comparison.first.n_studies,
        "n_patients": comparison.first.n_patients,
        "direction": "first minus other",
        "differences": {
            name: {
                m: {**e.as_dict(), "p_bootstrap": comparison.p_bootstrap[name][m]} for m, e in metrics.items()
            }
            for name, metrics in comparison.differences.items()
        },
        "delong": tests,
        "holm_over": sum(p is not None for p in comparison.p_holm.values()),
    }


def _flat(entry: Estimate) -> dict[str, Any]:
    low, high = entry.interval or (None, None)
    return {
        "value": _number(entry.value),
        "interval_low": _number(low),
        "interval_high": _number(high),
        "n_resamples": entry.n_resamples,
    }


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.9g}"


def _listed(interval: tuple[float, float] | None) -> list[float] | None:
    return None if interval is None else list(interval)


def _csv(rows: list[dict[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
