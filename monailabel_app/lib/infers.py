"""Three entries per question over one network pass, as stock viewers show three kinds of answers.

`X` (classification) returns JSON, `X_findings` (detection) a list of key slices, `X_overlay` (segmentation)
a label map.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from monailabel.interfaces.tasks.infer_v2 import InferTask, InferType

from lib.audit import Audit
from lib.writers import answer_json, write_findings, write_overlay
from radclear.bundle import Head, StudyAnswers, StudyPrediction
from radclear.ct import StudySource
from radclear.results import overlay_labels


class HeadTask(InferTask):
    """A head behind one of its entries; called with a request whose `source` is a study of the store."""

    def __init__(
        self,
        head: Head,
        answers: StudyAnswers,
        audit: Audit,
        *,
        entry: str,
        type: InferType,
        identifiers: bool,
    ) -> None:
        """
        Args:
            head: whose question it is.
            answers: reads and embeds studies, once for all heads.
            audit: gets each answer before the client does.
            entry: name of the entry.
            type: how MONAI Label's clients see it.
            identifiers: put UIDs and paths into results.
        """
        super().__init__(type, self._labels(head), 3, self._description(head))
        self._in_use = (head, "bundled")
        self.answers = answers
        self.audit = audit
        self.entry = entry
        self.identifiers = identifiers

    @property
    def head(self) -> Head:
        """The head that answers."""
        return self._in_use[0]

    @property
    def head_version(self) -> str:
        """Its version, see `lib.versions`."""
        return self._in_use[1]

    def use(self, head: Head, version: str) -> None:
        """Answer with a version of the head from now on; head and version change together."""
        self.description = self._description(head)
        self._in_use = (head, version)

    def _labels(self, head: Head) -> dict[str, int]:
        return {}

    def _description(self, head: Head) -> str:
        weights = "demonstration weights" if head.demonstration else f"weights {head.weights_sha256[:12]}"
        return f"{head.name} {head.version}, {weights}. {head.intended_use}"

    def info(self) -> dict[str, Any]:
        """As MONAI Label's, with the classes and the version of the weights."""
        more = {
            "task": self.head.task,
            "kind": self.head.kind,
            "classes": list(self.head.classes),
            "version": self.head.version,
            "head_version": self.head_version,
            "weights_sha256": self.head.weights_sha256,
            "backbone_weights_sha256": self.head.backbone.weights_sha256,
            "demonstration": self.head.demonstration,
        }
        return {**super().info(), "type": self.type.value, **more}

    def is_valid(self) -> bool:
        return True

    def __call__(self, request: Mapping[str, Any]) -> tuple[str | None, dict[str, Any]]:
        """Answer a request.

        Args:
            request: `source` (a `StudySource`); `series`, `user` and `client_id` where given.

        Returns:
            Path of a temporary file, which the caller removes, or None; and the JSON.
        """
        source: StudySource = request["source"]
        head, version = self._in_use
        prediction, notes = self.answers.answer(
            source, head, series=request.get("series"), identifiers=self.identifiers
        )
        self._to_audit(request, prediction, head)
        answer = {**answer_json(prediction, notes), "head_version": version}
        file, names = self.write(prediction, head)
        return file, {**answer, "label_names": names}

    def write(self, prediction: StudyPrediction, head: Head) -> tuple[str | None, dict[str, int]]:
        """The entry's file, and the names of its labels; none of both for classification.

        Args:
            prediction: the answer.
            head: that gave it; another one may be in use by now.
        """
        return None, {}

    def _to_audit(self, request: Mapping[str, Any], prediction: StudyPrediction, head: Head) -> None:
        (answer,) = prediction.answers
        self.audit.append(
            "answer",
            user=request.get("user", ""),
            client=request.get("client_id", ""),
            study=request["source"].key,
            series_hash=prediction.study.series_hash,
            entry=self.entry,
            model=f"{head.name} {head.version}",
            weights_sha256=head.weights_sha256,
            backbone_weights_sha256=head.backbone.weights_sha256,
            answer={name: round(p, 6) for name, p in zip(answer.classes, answer.probabilities, strict=True)},
            seconds=round(sum(prediction.seconds.values()), 3),
        )


class FindingsTask(HeadTask):
    """Key slices as a list of points."""

    def write(self, prediction: StudyPrediction, head: Head) -> tuple[str | None, dict[str, int]]:
        return write_findings(prediction), {}


class OverlayTask(HeadTask):
    """Key slices and attention as a label map."""

    def _labels(self, head: Head) -> dict[str, int]:
        return overlay_labels(head.n_key_slices)

    def write(self, prediction: StudyPrediction, head: Head) -> tuple[str | None, dict[str, int]]:
        return write_overlay(prediction, n_key_slices=head.n_key_slices)


ENTRIES = (
    ("", HeadTask, InferType.CLASSIFICATION),
    ("_findings", FindingsTask, InferType.DETECTION),
    ("_overlay", OverlayTask, InferType.SEGMENTATION),
)


def question(entry: str) -> str:
    """The question that an entry answers."""
    return entry.removesuffix("_findings").removesuffix("_overlay")


def build_tasks(
    heads: Sequence[Head], answers: StudyAnswers, audit: Audit, *, identifiers: bool
) -> dict[str, InferTask]:
    """All entries of the heads: name → task."""
    return {
        name: kind(head, answers, audit, entry=name, type=type, identifiers=identifiers)
        for head in heads
        for suffix, kind, type in ENTRIES
        for name in [head.task + suffix]
    }
