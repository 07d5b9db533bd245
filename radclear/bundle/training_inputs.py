"""What training and evaluation of a head start from: labels, and embeddings that are of its backbone."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from radclear.bundle.boxes import read_boxes
from radclear.bundle.calibration import check_method
from radclear.bundle.command_options import check_options
from radclear.bundle.copying import check_config_values
from radclear.bundle.deletion_run import check_deletion
from radclear.bundle.head_weights import weights_for_backbone
from radclear.bundle.location import METADATA, BundleError, find_backbone, read_metadata
from radclear.bundle.seen_patients import check_unseen
from radclear.bundle.weights import DEFAULT_FILE, verify_weights
from radclear.cohort import BagDataset, EmbeddingStore, LabelTable, auxiliary_labels
from radclear.cohort.patients import TRAINING_SPLITS
from radclear.errors import RadclearError


def expected_embeddings(
    backbone_path: str | Path, *, windows: Sequence[Any], image_size: int
) -> dict[str, Any]:
    """Attributes that embeddings must have for this backbone; see `radclear.cohort.BagDataset`."""
    return {
        "weight_sha256": verify_weights(backbone_path),
        "windows": tuple(windows),
        "image_size": image_size,
    }


def check_numbers(values: Mapping[str, Any]) -> None:
    """Refuse what no training can work with, under the name of its option.

    Args:
        values: key of the config → value; `seed` from 0, `learning_rate` above 0, `average_decay` from 0 to
            below 1, `attention_weight` from 0, `auxiliary_weight` above 0, `max_instances` also None, all
            others whole numbers from 1.

    Raises:
        BundleError: says which, and what was expected.
    """
    for name, value in values.items():
        whole = isinstance(value, int) and not isinstance(value, bool)
        number = whole or (isinstance(value, float) and math.isfinite(value))
        good, expected = {
            "seed": (whole and value >= 0, "a whole number from 0"),
            "learning_rate": (number and value > 0, "a number above 0"),
            "average_decay": (number and 0 <= value < 1, "a number from 0 to below 1"),
            "max_instances": (value is None or (whole and value >= 1), "a whole number from 1, or None"),
            "attention_weight": (number and value >= 0, "a number from 0"),
            "auxiliary_weight": (number and value > 0, "a number above 0"),
        }.get(name, (whole and value >= 1, "a whole number from 1"))
        if not good:
            raise BundleError(f"{name} is {value!r}; expected {expected}, with --{name}")


def check_training(
    bundle_root: str | Path,
    *,
    embeddings: str | Path,
    labels: str | Path,
    backbone_bundle: str | Path,
    classes: Mapping[str, Any] | Sequence[str],
    kind: str,
    column: str | None,
    splits: Sequence[str],
    windows: Sequence[Any],
    image_size: int,
    group: str = "patient",
    held_out: Sequence[str] = (),
    folds: str | Path | None = None,
    fold: int | None = None,
    output_bundle: str | Path | None = None,
    boxes: str | Path | None = None,
    box_kinds: Sequence[str] | None = None,
    calibration: str = "temperature",
    deletion: bool = False,
    deletion_column: str | None = None,
    trained_splits: Sequence[str] = (),
    judges_head: bool = False,
    seen_patients: str = "refuse",
    numbers: Mapping[str, Any] | None = None,
    auxiliary: Sequence[str] = (),
) -> None:
    """End the process with exit code 2 and one plain sentence where training or evaluation cannot start.

    Opens what the run will open: the label table, the embeddings of each of its splits, and the box table.

    Args:
        bundle_root: the head bundle.
        embeddings: folder of the embedding store.
        labels: the label table.
        backbone_bundle: as the config names it.
        classes, kind, column, group, held_out, folds, fold: see `radclear.cohort.LabelTable.read`.
        splits: of the table, which the run uses.
        windows, image_size: see `expected_embeddings`.
        output_bundle: where the weights will go; if it is there, its kind must be the one trained for.
        boxes, box_kinds: see `radclear.bundle.evaluation.EvaluationWriter`.
        calibration: what will be fitted on the validation studies.
        deletion, deletion_column: see `radclear.bundle.deletion_run.run_deletion`.
        trained_splits: those of the run's splits that it trains on.
        judges_head: whether the run evaluates the head's own weights.
        seen_patients: `refuse` or `report` patients in the other splits whom the encoder, or the head that is
            evaluated, was trained on; see `radclear.bundle.seen_patients.check_unseen`.
        numbers: keys of the config that must be numbers, and their values.
        auxiliary: columns that are learned beside the classes, see `radclear.cohort.auxiliary_labels`.
    """
    check_options()
    try:
        read_metadata(bundle_root)
        check_numbers(numbers or {})
        check_method(calibration)
        if output_bundle is not None and (Path(output_bundle) / METADATA).is_file():
            check_config_values(output_bundle, {"kind": kind})
        backbone = find_backbone(bundle_root, backbone_bundle)
        expected = expected_embeddings(backbone, windows=windows, image_size=image_size)
        for option, path in (("embeddings", Path(embeddings)), ("labels", Path(labels))):
            if not path.exists():
                raise BundleError(f"{option} {path} does not exist; name it with --{option}")
        store = EmbeddingStore(embeddings)
        table = LabelTable.read(
            labels,
            classes=classes,
            kind=kind,
            column=column,
            store=store,
            warn=False,
            group=group,
            held_out=held_out,
            folds=folds,
            fold=fold,
        )
        for split in splits:
            BagDataset(store, table, split, expected=expected)
        for split in trained_splits:
            auxiliary_labels(labels, auxiliary, table, split)
        judging = [s for s in splits if s not in trained_splits and s.lower() not in TRAINING_SPLITS]
        evaluated = {row.patient: row.key for split in judging for row in table.split(split)}
        weights = [backbone / "models" / DEFAULT_FILE]
        if judges_head:
            own = weights_for_backbone(
                bundle_root, backbone_path=backbone, weights_sha256=expected["weight_sha256"]
            )
            weights.append(Path(bundle_root) / "models" / own)
        for file in weights:
            check_unseen(file, evaluated, choice=seen_patients)
        names = {row.study for row in table.studies} | {study for study, _ in table.excluded}
        if deletion:
            check_deletion(
                boxes, column=deletion_column, classes=table.classes, kinds=box_kinds, studies=names
            )
        if boxes is not None:
            read_boxes(boxes, kinds=box_kinds, studies=names)
    except RadclearError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
