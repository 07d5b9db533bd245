"""What a cross-validation depends on, kept in its folder so that no fold of another one gets in between."""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from radclear.aggregation import AGGREGATORS, AggregationError, check_kind
from radclear.bundle.calibration import METHODS, check_method
from radclear.bundle.configs import read_config
from radclear.bundle.location import BundleError
from radclear.cohort import EmbeddingStore, LabelTable
from radclear.results import write_atomically

#: What an aggregator keeps in place of another with other options, whose defaults are its published ones.
_OF_THE_TASK = ("embedding_dim", "n_classes", "kind")


class CrossvalError(BundleError):
    """A cross-validation that cannot start, go on or be deployed."""


@dataclass(frozen=True)
class TrainingChoices:
    """What a user may choose; None: as the head's `train.json` says.

    Attributes:
        n_folds, seed: of the folds; fold k trains with seed + k.
        aggregator: one of `radclear.aggregation.AGGREGATORS`.
        kind: `"multiclass"` or `"ordinal"` for a task of ordered classes.
        max_epochs, learning_rate, average_decay, patience, bags_per_batch, max_instances, balance: keys of
            `train.json`.
        calibration: `"temperature"` or `"isotonic"`; no fold depends on it.
    """

    n_folds: int = 5
    seed: int = 0
    aggregator: str | None = None
    kind: str | None = None
    max_epochs: int | None = None
    learning_rate: float | None = None
    average_decay: float | None = None
    patience: int | None = None
    bags_per_batch: int | None = None
    max_instances: int | None = None
    balance: bool | None = None
    calibration: str | None = None

    def calibration_method(self, bundle_root: str | Path) -> str:
        """What is fitted on the out-of-fold predictions.

        Raises:
            BundleError: there is no such method.
        """
        own = read_config(bundle_root, name="train").get("calibration", METHODS[0])
        return check_method(self.calibration or own)

    def overrides(self, bundle_root: str | Path) -> dict[str, Any]:
        """Top-level keys of the head's `train.json` and their values under these choices.

        Raises:
            CrossvalError: the config lacks a key, or the kind is not possible.
        """
        config = read_config(bundle_root, name="train")
        values = {
            key: value
            for key, value in asdict(self).items()
            if key not in ("n_folds", "aggregator", "calibration") and value is not None
        }
        lacking = [key for key in (*values, "aggregator", "folds", "fold", "held_out") if key not in config]
        if lacking:
            raise CrossvalError(
                f"{bundle_root}: configs/train.json lacks {', '.join(lacking)}; take the bundle's original"
            )
        kind, own = values.get("kind", config["kind"]), config["kind"]
        if (check_kind(kind) == "multilabel") != (own == "multilabel"):
            raise CrossvalError(f"kind is {kind}; the classes of {Path(bundle_root).name} are {own}")
        own = config["aggregator"]
        while "member" in own:  # the bundle is an ensemble: its folds will be new members
            own = values["aggregator"] = own["member"]
        if self.aggregator is not None:
            if self.aggregator not in AGGREGATORS:
                raise AggregationError(
                    f"aggregator is {self.aggregator!r}; expected one of {', '.join(AGGREGATORS)}"
                )
            chosen = AGGREGATORS[self.aggregator]
            if not _same_options(own["_target_"], chosen):
                own = {key: value for key, value in own.items() if key in _OF_THE_TASK}
            values["aggregator"] = {**own, "_target_": f"radclear.aggregation.{chosen.__name__}"}
        return values

    def effective(self, bundle_root: str | Path) -> dict[str, Any]:
        """What training depends on, of the config and of these choices."""
        config = {**read_config(bundle_root, name="train"), **self.overrides(bundle_root)}
        keys = ("task", "kind", "classes", "windows", "image_size", "aggregator", "seed", "max_epochs")
        keys += ("learning_rate", "patience", "val_interval", "bags_per_batch", "max_instances", "balance")
        settings = {"n_folds": self.n_folds, **{key: config[key] for key in keys}}
        if config.get("average_decay"):  # heads of before the key, and runs of theirs, have none
            settings["average_decay"] = config["average_decay"]
        if config.get("auxiliary"):  # as a head's own train.json may have it
            settings |= {key: config[key] for key in ("auxiliary", "auxiliary_weight")}
        return settings


def _same_options(target: str, chosen: type) -> bool:
    """Whether the aggregator that a config names takes the options of another, with the same defaults."""
    known = {kind.__name__: kind for kind in AGGREGATORS.values()}
    own = known.get(target.rpartition(".")[2])
    return own is not None and inspect.signature(own) == inspect.signature(chosen)


def cohort_sha256(table: LabelTable, store: EmbeddingStore) -> str:
    """One number for the labels, groups and embeddings of all studies of a table, in any order."""
    rows = []
    for study in sorted(table.studies, key=lambda s: s.study):
        attributes = store.attributes(study.key)
        rows.append(
            [study.study, study.patient, study.group, study.label]
            + [str(attributes.get(name)) for name in ("weight_sha256", "fingerprint", "precision")]
        )
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def keep_settings(path: Path, settings: Mapping[str, Any]) -> str:
    """Write settings on the first run; on later ones compare with those there.

    Returns:
        Their sha256.

    Raises:
        CrossvalError: others are there; says which differ.
    """
    text = json.dumps(settings, indent=1, sort_keys=True) + "\n"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, text.encode())
        return hashlib.sha256(text.encode()).hexdigest()
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        now = json.loads(text)
        differing = [key for key in sorted(kept.keys() | now.keys()) if kept.get(key) != now.get(key)]
    except (OSError, ValueError, AttributeError) as error:
        raise CrossvalError(f"{path} cannot be read ({error}); use another output folder") from error
    if differing:
        said = "; ".join(
            f"{key} was {_short(kept.get(key))}, now {_short(now.get(key))}" for key in differing
        )
        raise CrossvalError(
            f"{path.parent} holds a cross-validation with other settings: {said}. Use another output folder, "
            "or delete this one"
        )
    return hashlib.sha256(text.encode()).hexdigest()


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}…"
