"""The folds of a cross-validation as one head bundle: the mean of all, calibrated, and checked to be it."""

from __future__ import annotations

import shutil
import uuid
from pathlib import Path
from typing import Any

import torch

from radclear.aggregation import join_members
from radclear.bundle.calibration import describe_calibration
from radclear.bundle.configs import read_config
from radclear.bundle.copying import copy_bundle
from radclear.bundle.crossval import CrossValidation, write_manifest
from radclear.bundle.crossval_settings import CrossvalError
from radclear.bundle.domain import Domain
from radclear.bundle.fold_training import FoldResult
from radclear.bundle.head_weights import backbone_entry
from radclear.bundle.loading import load_head
from radclear.bundle.location import BundleError
from radclear.bundle.training import describe_stored
from radclear.bundle.training_record import training_record
from radclear.bundle.weights import store_weights, weight_entries
from radclear.ct import study_key

TOLERANCE = 1e-4  # of a logit, float32 against the same in float64


def check_target(
    run_settings_sha256: str | None, output_bundle: str | Path, *, method: str | None = None
) -> bool:
    """Whether the ensemble of this cross-validation is in a folder already.

    Args:
        run_settings_sha256: None where it is not known yet; any ensemble will do then.
        output_bundle: the folder.
        method: of the calibration; any where None.

    Raises:
        CrossvalError: something else is there.
    """
    target = Path(output_bundle)
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return False
    try:
        entries = list(weight_entries(target).values())
    except BundleError:
        entries = []
    found = [entry.get("crossval", {}).get("settings_sha256") for entry in entries]
    if len(found) == 1 and found[0] is not None and run_settings_sha256 in (None, found[0]):
        there = "isotonic" if "isotonic" in entries[0] else "temperature"
        if method in (None, there):
            return True
        raise CrossvalError(
            f"{target} holds this ensemble with {there} calibration, not {method}; name a folder that is not "
            "there yet with --output_bundle, or delete this one"
        )
    raise CrossvalError(
        f"{target} holds something else than the ensemble of this cross-validation; name a folder that is "
        "not there yet with --output_bundle"
    )


def store_ensemble(
    run: CrossValidation, output_bundle: str | Path, *, demonstration: bool | None = None
) -> dict[str, Any]:
    """Write the ensemble of all folds as a head bundle that `load_head` and `radclear predict` take.

    It is made beside the folder, loaded from there and compared with its members before it gets its name.

    Args:
        run: with all folds done.
        output_bundle: must not be there, or be the same ensemble, which is left as it is.
        demonstration: whether the weights only show how the software works; else as `train.json` says.

    Returns:
        `weights_sha256`, and `n_logits` compared with their `largest_difference`, also in the manifest.

    Raises:
        CrossvalError: folds are missing, or the ensemble does not answer as its members do.
    """
    if not run.complete or run.calibration is None:
        raise CrossvalError(
            f"{len(run.results)} of {run.plan.n_folds} folds are done; an ensemble needs them all"
        )
    target = Path(output_bundle).resolve()
    there = check_target(run.settings_sha256, target, method=run.method)
    place = target if there else target.with_name(f".{target.name}.{uuid.uuid4().hex}.tmp")
    try:
        if not there:
            _build(run, place, demonstration=demonstration)
        report = {"weights_sha256": next(iter(weight_entries(place).values()))["sha256"]}
        report |= compare_with_members(run, place)
        if not there:
            if target.exists():
                target.rmdir()  # empty, or it would have been refused
            place.replace(target)
    finally:
        if not there:
            shutil.rmtree(place, ignore_errors=True)
    write_manifest(run, ensemble=report)
    return report


def _build(run: CrossValidation, place: Path, *, demonstration: bool | None) -> None:
    config = read_config(run.bundle_root, name="train")
    member = run.settings["aggregator"]
    changes = {
        "kind": run.kind,
        "aggregator": {
            "_target_": "radclear.aggregation.EnsembleMIL",
            "member": member,
            "n_members": run.plan.n_folds,
        },
    }
    copy_bundle(run.bundle_root, place, backbone=run.backbone, changes=changes)
    results = [run.results[fold] for fold in range(run.plan.n_folds)]
    n_studies = len(run.table.studies)
    times = [result.seconds for result in results]
    provenance = {
        "demonstration": bool(config["demonstration"] if demonstration is None else demonstration),
        "training": f"Mean of the logits of {run.plan.n_folds} networks, one per fold of a cross-validation "
        f"by {run.settings['group']} over stored slice embeddings of {n_studies} studies; "
        f"{describe_calibration(run.calibration)} from the out-of-fold predictions.",
        "backbone": backbone_entry(run.backbone),
        **run.calibration,
        "n_studies": {"cross_validation": n_studies},
        "settings": {key: run.settings[key] for key in ("seed", "learning_rate", "bags_per_batch")}
        | {key: run.settings[key] for key in ("max_epochs", "max_instances", "patience", "balance")}
        | {"average_decay": run.settings.get("average_decay", 0.0)}
        | {key: run.settings[key] for key in ("auxiliary", "auxiliary_weight") if key in run.settings},
        "crossval": {"settings_sha256": run.settings_sha256, "n_folds": run.plan.n_folds},
        **training_record(None if None in times else sum(times)),
    }
    domain = Domain.fit([describe_stored(run.store, study.key) for study in run.table.studies])
    members = join_members(r.state_dict for r in results)
    patients = {study.patient for study in run.table.studies}
    store_weights(place, members, provenance=provenance, domain=domain, patients=patients)


def compare_with_members(run: CrossValidation, bundle: str | Path) -> dict[str, Any]:
    """Load an ensemble as a user would and compare it with its folds, and these with their predictions.

    Args:
        run: whose folds they are.
        bundle: the ensemble.

    Returns:
        `n_logits` compared, and their `largest_difference`.

    Raises:
        CrossvalError: a difference above `TOLERANCE`.
    """
    from radclear.bundle.configs import config_parser

    head = load_head(bundle, backbone_bundle=run.backbone)
    members = []
    for fold in range(run.plan.n_folds):
        network = config_parser(run.bundle_root, run.overrides, name="train").get_parsed_content(
            "network_def"
        )
        network.load_state_dict(run.results[fold].state_dict)
        members.append(network.double().eval())
    largest, n_logits = 0.0, 0
    with torch.inference_mode():
        for fold, result in run.results.items():
            for study, stored in _some(result):
                feats = run.store.read(study_key(study)).feats.unsqueeze(0)
                each = [member(feats.double(), None)[0] for member in members]
                differences = (
                    ("ensemble", head.aggregator(feats, None)[0].double(), torch.stack(each).mean(dim=0)),
                    (f"fold {fold}", stored.double(), each[fold]),
                )
                for name, found, expected in differences:
                    difference = float(((found - expected).abs() / expected.abs().clamp(min=1)).max())
                    largest, n_logits = max(largest, difference), n_logits + len(expected)
                    if not difference <= TOLERANCE:
                        raise CrossvalError(
                            f"the {name} answers otherwise than its weights do, by {difference:.2g} of a "
                            f"logit; expected at most {TOLERANCE:g}. The embeddings or the folder "
                            f"{run.folder.name} were changed: delete it and run the command again"
                        )
    return {"n_logits": n_logits, "largest_difference": largest}


def _some(result: FoldResult) -> list[tuple[str, torch.Tensor]]:
    """The shortest, a middle and the longest study of a fold with their stored logits."""
    order = sorted(range(len(result.studies)), key=lambda i: result.n_slices[i])
    chosen = dict.fromkeys((order[0], order[len(order) // 2], order[-1]))
    return [(result.studies[i], result.logits[i]) for i in chosen]
