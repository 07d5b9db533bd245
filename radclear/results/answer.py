"""What a task head says about one study, checked when it is made so that no bad number travels on."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from radclear.errors import RadclearError

KINDS = ("multilabel", "multiclass", "ordinal")
PRECISIONS = ("float32", "bfloat16", "float16")
ATTENTION_SUM_TOLERANCE = 1e-4
PROBABILITY_SUM_TOLERANCE = 1e-3

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]*")
_SHA256 = re.compile(r"[0-9a-f]{64}")


class ResultError(RadclearError, ValueError):
    """A result is not what it claims to be: a number out of range, a missing field, the wrong pixels."""


@dataclass(frozen=True)
class ModelProvenance:
    """Which weights and which configuration gave an answer.

    Attributes:
        bundle: name of the head bundle (a name, never a path).
        bundle_version: its version.
        weights_sha256: sha256 of its weight file, 64 lower-case hexadecimal digits.
        backbone_bundle: name of the backbone bundle.
        backbone_version: its version.
        backbone_weights_sha256: sha256 of its weight file.
        config_sha256: sha256 of the configuration that ran.
        precision: ``"float32"``, ``"bfloat16"`` or ``"float16"``.
        demonstration: True where the weights only demonstrate the software and know nothing about patients.
    """

    bundle: str
    bundle_version: str
    weights_sha256: str
    backbone_bundle: str
    backbone_version: str
    backbone_weights_sha256: str
    config_sha256: str
    precision: str
    demonstration: bool

    def __post_init__(self) -> None:
        for field in ("bundle", "bundle_version", "backbone_bundle", "backbone_version"):
            value = getattr(self, field)
            if not isinstance(value, str) or not _NAME.fullmatch(value):
                raise ResultError(
                    f"ModelProvenance.{field} is {value!r}; expected a plain name such as 'lecl_vit' or "
                    "'0.1.0' (letters, digits, . _ + -). Pass the bundle's name, not its path."
                )
        for field in ("weights_sha256", "backbone_weights_sha256", "config_sha256"):
            value = getattr(self, field)
            if not isinstance(value, str) or not _SHA256.fullmatch(value):
                raise ResultError(
                    f"ModelProvenance.{field} is {value!r}; expected 64 lower-case hexadecimal digits. "
                    "Hash the file's bytes with hashlib.sha256(...).hexdigest()."
                )
        precision = str(self.precision).removeprefix("torch.")
        if precision not in PRECISIONS:
            raise ResultError(
                f"ModelProvenance.precision is {self.precision!r}; expected one of {PRECISIONS}."
            )
        object.__setattr__(self, "precision", precision)
        if not isinstance(self.demonstration, bool):
            raise ResultError(
                f"ModelProvenance.demonstration is {self.demonstration!r}; expected True or False."
            )


@dataclass(frozen=True, eq=False)
class TaskAnswer:
    """The answer of one head to one study.

    Attributes:
        task: ``"tumor_location"``, ``"lung_disease"``, ``"staging"`` or the name of a task of your own.
        kind: ``"multilabel"`` (classes judged one by one), ``"multiclass"`` (exactly one is true) or
            ``"ordinal"`` (exactly one, of classes that go from low to high).
        classes: (C,) class names, each once.
        probabilities: (C,) in [0, 1]; they sum to 1 (within 1e-3) unless the kind is multilabel.
        attention: (Z,) weight of each slice, summed over windows; not negative, sums to 1 (within 1e-4).
        key_slices: indices along z from 0, the most attended first.
        operating_points: threshold per class by name, or in the order of ``classes``; None where none is set.
        calibrated: whether the probabilities were calibrated on held-out studies.
        model: which weights answered.
        domain_distance: how far the study lies from those of the training, without unit; None where the
            weights do not tell.
        domain_limit: distance above which the study counts as unlike them.
    """

    task: str
    kind: str
    classes: Sequence[str]
    probabilities: Sequence[float]
    attention: np.ndarray
    key_slices: Sequence[int]
    operating_points: Mapping[str, float | None] | Sequence[float | None] | None
    calibrated: bool
    model: ModelProvenance
    domain_distance: float | None = None
    domain_limit: float | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.task, str) or not _NAME.fullmatch(self.task):
            raise ResultError(
                f"TaskAnswer.task is {self.task!r}; expected a plain name such as 'tumor_location'."
            )
        if self.kind not in KINDS:
            raise ResultError(f"{self.task}: kind is {self.kind!r}; expected one of {KINDS}.")
        if not isinstance(self.model, ModelProvenance):
            raise ResultError(
                f"{self.task}: model is {type(self.model).__name__}; expected a ModelProvenance."
            )
        object.__setattr__(self, "calibrated", bool(self.calibrated))
        object.__setattr__(self, "classes", _checked_classes(self.task, self.classes))
        object.__setattr__(self, "probabilities", self._checked_probabilities())
        object.__setattr__(self, "attention", _checked_attention(self.task, self.attention))
        object.__setattr__(self, "key_slices", self._checked_key_slices())
        object.__setattr__(self, "operating_points", self._checked_operating_points())

    @property
    def unlike_training(self) -> bool:
        """Whether the study lies beyond the limit; False where the weights tell none."""
        known = self.domain_distance is not None and self.domain_limit is not None
        return known and self.domain_distance > self.domain_limit

    def _checked_probabilities(self) -> tuple[float, ...]:
        values = _vector(self.task, "probabilities", self.probabilities)
        if len(values) != len(self.classes):
            raise ResultError(
                f"{self.task}: {len(values)} probabilities for {len(self.classes)} classes; expected one "
                "for each."
            )
        for name, value in zip(self.classes, values, strict=True):
            if not 0 <= value <= 1:
                raise ResultError(
                    f"{self.task}: the probability of {name!r} is {value}; expected a number in [0, 1]. "
                    "Apply the sigmoid or softmax to the logits first."
                )
        if self.kind != "multilabel" and abs(values.sum() - 1) > PROBABILITY_SUM_TOLERANCE:
            raise ResultError(
                f"{self.task}: {self.kind} probabilities sum to {values.sum():.6f}; expected 1. "
                "Use softmax, or kind='multilabel' where several classes can be true."
            )
        return tuple(float(value) for value in values)

    def _checked_key_slices(self) -> tuple[int, ...]:
        n_slices = len(self.attention)
        given = list(self.key_slices)
        indices = [int(index) for index in given]
        if (
            not indices
            or len(set(indices)) != len(indices)
            or any(i != g for i, g in zip(indices, given, strict=True))
        ):
            raise ResultError(
                f"{self.task}: key_slices are {given}; expected at least one whole number, each once."
            )
        outside = [index for index in indices if not 0 <= index < n_slices]
        if outside:
            raise ResultError(
                f"{self.task}: key slices {outside} are outside the study; expected 0 to {n_slices - 1}. "
                "Slices are counted from 0 at the foot end; windows are not counted."
            )
        return tuple(indices)

    def _checked_operating_points(self) -> tuple[float | None, ...]:
        points = self.operating_points
        if points is None:
            points = [None] * len(self.classes)
        elif isinstance(points, Mapping):
            unknown = sorted(set(points) - set(self.classes))
            if unknown:
                raise ResultError(
                    f"{self.task}: operating points for unknown classes {unknown}; "
                    f"expected some of {list(self.classes)}."
                )
            points = [points.get(name) for name in self.classes]
        elif len(points) != len(self.classes):
            raise ResultError(
                f"{self.task}: {len(points)} operating points for {len(self.classes)} classes; expected one "
                "for each."
            )
        for name, point in zip(self.classes, points, strict=True):
            if point is not None and not 0 <= float(point) <= 1:
                raise ResultError(
                    f"{self.task}: the operating point of {name!r} is {point}; expected a number in [0, 1]."
                )
        return tuple(None if point is None else float(point) for point in points)


def _vector(task: str, name: str, values: object) -> np.ndarray:
    """(n,) float64 from a list, array or CPU tensor; refuses NaN, infinity and other shapes."""
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or not len(array):
        raise ResultError(
            f"{task}: {name} has shape {array.shape}; expected one number after another, at least one."
        )
    bad = np.flatnonzero(~np.isfinite(array))
    if len(bad):
        raise ResultError(
            f"{task}: {name}[{bad[0]}] is {array[bad[0]]} ({len(bad)} of {len(array)} are not finite); "
            "expected finite numbers. Look for an overflow in half precision: try precision='float32'."
        )
    return array


def _checked_classes(task: str, classes: Sequence[str]) -> tuple[str, ...]:
    names = tuple(classes)
    if isinstance(classes, str) or not names or len(set(names)) != len(names):
        raise ResultError(f"{task}: classes are {classes!r}; expected at least one name, each once.")
    for name in names:
        if not isinstance(name, str) or not name.strip():
            raise ResultError(f"{task}: a class is named {name!r}; expected a string that is not empty.")
    return names


def _checked_attention(task: str, attention: object) -> np.ndarray:
    values = _vector(task, "attention", attention)
    if values.min() < 0:
        raise ResultError(
            f"{task}: attention[{values.argmin()}] is {values.min()}; expected no negative weight."
        )
    if abs(values.sum() - 1) > ATTENTION_SUM_TOLERANCE:
        raise ResultError(
            f"{task}: attention sums to {values.sum():.6f}; expected 1 ± {ATTENTION_SUM_TOLERANCE:g}. "
            "Sum it over the windows of each slice and leave padding out."
        )
    values = np.minimum(values, 1.0)  # float32 sums of a study of one slice may end a last digit above 1
    values.flags.writeable = False
    return values
