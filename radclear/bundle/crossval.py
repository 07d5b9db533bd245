"""Cross-validate a head: folds by patient, one new network for each, predictions of studies none has seen."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from radclear.bundle.configs import config_parser, own_error, read_config
from radclear.bundle.crossval_files import write_manifest, write_out_of_fold
from radclear.bundle.crossval_settings import CrossvalError, TrainingChoices, cohort_sha256, keep_settings
from radclear.bundle.fold_training import FoldResult, load_fold, save_fold, train_fold
from radclear.bundle.head_weights import backbone_entry
from radclear.bundle.location import find_backbone
from radclear.bundle.network import check_windows
from radclear.bundle.seen_patients import check_unseen
from radclear.bundle.training_inputs import expected_embeddings
from radclear.bundle.weights import DEFAULT_FILE
from radclear.cohort import BagDataset, EmbeddingStore, FoldPlan, LabelTable
from radclear.errors import RadclearError

logger = logging.getLogger(__name__)

HELD_OUT = ("test",)  # by default


@dataclass
class CrossValidation:
    """A cross-validation in its folder; made by `run_crossval`.

    Attributes:
        folder: with `folds.json`, `fold_<k>/`, and when all folds are done `predictions.csv`,
            `calibration.json`; and `manifest.json`.
        bundle_root, backbone: folders of the head bundle and of the backbone bundle.
        overrides: of the head's `train.json`, for each fold.
        settings, settings_sha256: what the folds depend on.
        table: studies that take part, and those that do not with the reason.
        plan: which fold each study is in.
        store: the embeddings.
        results: the folds that are done, by number.
        trained, skipped: folds done in this run, and done before.
        failed: (fold, reason).
        notes: sentences about what limits the result.
        calibration: `temperature` or `isotonic` (`method`), `operating_points`; fitted out of fold.
    """

    folder: Path
    bundle_root: Path
    backbone: Path
    overrides: dict[str, Any]
    settings: dict[str, Any]
    settings_sha256: str
    table: LabelTable
    plan: FoldPlan
    store: EmbeddingStore
    results: dict[int, FoldResult] = field(default_factory=dict)
    trained: list[int] = field(default_factory=list)
    skipped: list[int] = field(default_factory=list)
    failed: list[tuple[int, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    calibration: dict[str, Any] | None = None
    method: str = "temperature"

    @property
    def complete(self) -> bool:
        """Whether every fold is done."""
        return len(self.results) == self.plan.n_folds

    @property
    def kind(self) -> str:
        """Of the task, one of `radclear.aggregation.KINDS`."""
        return self.table.kind

    @property
    def predictions(self) -> Path:
        """The out-of-fold prediction table."""
        return self.folder / "predictions.csv"

    def fold_folder(self, fold: int) -> Path:
        """Where a fold's weights and record are."""
        return self.folder / f"fold_{fold}"


def run_crossval(
    bundle_root: str | Path,
    output: str | Path,
    *,
    embeddings: str | Path,
    labels: str | Path,
    choices: TrainingChoices | None = None,
    backbone_bundle: str | Path | None = None,
    held_out: Sequence[str] | None = None,
    group: str = "patient",
    device: str | torch.device = "cpu",
    seen_patients: str = "refuse",
    progress: Callable[[int, int], None] | None = None,
    before_training: Callable[[CrossValidation], object] | None = None,
) -> CrossValidation:
    """Train every fold that is not done yet, and write what the folds together say.

    Args:
        bundle_root: the head bundle, whose `train.json` describes the training.
        output: folder of the cross-validation; the same command goes on where it was stopped.
        embeddings, labels: the store and the label table; see `radclear.cohort.LabelTable.read`.
        choices: what differs from `train.json`.
        backbone_bundle: whose embeddings these are, else as the config says.
        held_out: splits of the table that take no part, so that they can test the ensemble; `test`, if there
            is one, where omitted.
        group: column of the table whose studies stay in one fold.
        device: where training runs.
        seen_patients: `refuse` or `report` patients whom the encoder was trained on.
        progress: called with folds done and all folds.
        before_training: called once everything is known but nothing trained; what it raises ends the run.

    Raises:
        RadclearError: inputs of which no cross-validation can be made; nothing was trained then.
    """
    run = _prepare(
        Path(bundle_root), Path(output), Path(embeddings), Path(labels), choices or TrainingChoices(),
        backbone_bundle, held_out, group, str(device), seen_patients,
    )  # fmt: skip
    if before_training:
        before_training(run)
    for fold in range(run.plan.n_folds):
        if progress:
            progress(fold, run.plan.n_folds)
        result = load_fold(run.fold_folder(fold), settings_sha256=run.settings_sha256)
        if result is not None:
            run.skipped.append(fold)
        else:
            try:
                result = train_fold(run.bundle_root, run.overrides, fold)
            except RadclearError as error:  # a loss that is not finite, say: the other folds go on
                logger.warning("fold %d: %s", fold, error)
                run.failed.append((fold, str(error)))
                continue
            save_fold(run.fold_folder(fold), result, settings_sha256=run.settings_sha256)
            run.trained.append(fold)
        run.results[fold] = result
    if progress:
        progress(run.plan.n_folds, run.plan.n_folds)
    if run.complete:
        write_out_of_fold(run)
    write_manifest(run)
    return run


def _prepare(
    bundle_root: Path,
    output: Path,
    embeddings: Path,
    labels: Path,
    choices: TrainingChoices,
    backbone_bundle: str | Path | None,
    held_out: Sequence[str] | None,
    group: str,
    device: str,
    seen_patients: str,
) -> CrossValidation:
    for option, path in (("embeddings", embeddings), ("labels", labels)):
        if not path.exists():
            raise CrossvalError(f"{option} {path} does not exist; name it with --{option}")
    method = choices.calibration_method(bundle_root)
    overrides = choices.overrides(bundle_root) | {
        "embeddings": str(embeddings),
        "labels": str(labels),
        "held_out": list(HELD_OUT if held_out is None else held_out),
        "group": group,
        "device": device,
        "table": {**read_config(bundle_root, name="train")["table"], "warn": False},  # said once, here
    }
    if backbone_bundle is not None:
        overrides["backbone_bundle"] = str(find_backbone(bundle_root, backbone_bundle))
    parser = config_parser(bundle_root, overrides, name="train")
    backbone = find_backbone(bundle_root, parser["backbone_bundle"])
    store = EmbeddingStore(embeddings)
    try:
        windows, classes = parser.get_parsed_content("windows"), parser.get_parsed_content("table#classes")
        column = parser.get_parsed_content("table#column")
        check_windows(parser.get_parsed_content("aggregator"), len(windows))
    except Exception as error:
        raise own_error(error) or error from None
    table = LabelTable.read(
        labels,
        classes=classes,
        kind=parser.get_parsed_content("kind"),
        column=column,
        store=store,
        needs_split=False,
        group=group,
        held_out=overrides["held_out"],
        warn=False,
    )
    notes = _check_held_out(table, held_out)
    check_learnable(table)
    expected = expected_embeddings(backbone, windows=windows, image_size=parser["image_size"])
    everything = replace(table, studies=tuple(replace(s, split="all") for s in table.studies))
    BagDataset(store, everything, "all", expected=expected)
    seen = check_unseen(
        backbone / "models" / DEFAULT_FILE, {s.patient: s.key for s in table.studies}, choice=seen_patients
    )
    if seen.patients:
        notes.append(f"the encoder was trained on {len(seen.patients)} of these patients, or on namesakes")
    settings = choices.effective(bundle_root) | {
        "backbone": backbone_entry(backbone),
        "held_out": overrides["held_out"],
        "group": group,
        "cohort_sha256": cohort_sha256(table, store),
    }
    folds = output / "folds.json"
    plan = FoldPlan.open(folds, table, n_folds=choices.n_folds, seed=choices.seed)
    sha256 = keep_settings(output / "settings.json", settings)
    overrides["folds"] = str(folds)
    run = CrossValidation(
        output, bundle_root, backbone, overrides, settings, sha256, table, plan, store,
        notes=notes, method=method,
    )  # fmt: skip
    for fold in range(plan.n_folds):
        labels = plan.apply(table, fold).labels("train")
        for name, count in zip(table.classes, labels.sum(axis=0), strict=True):
            if count in (0, len(labels)):
                run.notes.append(
                    f"fold {fold}: class {name} has no {'negative' if count else 'positive'} study in the "
                    "training part, so that this fold's network cannot know it"
                )
    return run


def _check_held_out(table: LabelTable, held_out: Sequence[str] | None) -> list[str]:
    """Refuse a split to hold out that no study has; say what takes part where none was named."""
    reasons = {reason for _, reason in table.excluded}
    splits = sorted({s.split for s in table.studies} - {""})
    absent = [name for name in held_out or () if f"held out: split {name}" not in reasons]
    if absent:
        raise CrossvalError(
            f"{table.path}: no study is in split {', '.join(absent)}, which is to be held out; splits found: "
            f"{', '.join(splits) or 'none'}"
        )
    if held_out is None and splits and not any(reason.startswith("held out") for reason in reasons):
        return [f"no split is held out: {', '.join(splits)} all take part (--held-out SPLIT leaves one out)"]
    return []


def check_learnable(table: LabelTable) -> None:
    """Refuse a table in which a class is true of no study, or in a multilabel table of all.

    Raises:
        CrossvalError: names the classes.
    """
    positives, total = table.one_hot(table.studies).sum(axis=0), len(table.studies)
    for lacking, what in ((positives == 0, "positive"), (positives == total, "negative")):
        names = [name for name, absent in zip(table.classes, lacking, strict=True) if absent]
        if names and (what == "positive" or table.kind == "multilabel"):
            raise CrossvalError(
                f"{table.path}: none of {total} usable studies is {what} for {', '.join(names)}, so that "
                "this cannot be learned; add such studies, or train a head without the class (classes in the "
                "bundle's configs)"
            )
