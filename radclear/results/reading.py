"""What pages show of a result, as plain text and numbers: banners and class rows, before any HTML."""

from __future__ import annotations

from dataclasses import dataclass

from radclear.results.wording import format_score, ranked_classes, score_digits, sentence, task_title


@dataclass(frozen=True)
class Banner:
    """A warning above the answers.

    Attributes:
        kind: `demo` (demonstration weights), `input` (about the study's files) or `note` (about scores).
        title: a few words.
        messages: one sentence each.
    """

    kind: str
    title: str
    messages: tuple[str, ...]


@dataclass(frozen=True)
class ClassRow:
    """One class of an answer, as it is shown.

    Attributes:
        name: in files and requests.
        label: for people.
        probability: in [0, 1].
        text: the probability with the answer's decimals.
        operating_point: in [0, 1], or None.
        call: on which side of the operating point the probability is.
        strong: whether the answer names this class.
    """

    name: str
    label: str
    probability: float
    text: str
    operating_point: float | None
    call: str
    strong: bool


def banners(result: dict) -> tuple[Banner, ...]:
    """One banner for each kind of warning: three heads with the same weakness do not shout three times.

    Args:
        result: a result document.
    """
    warnings = result["warnings"]
    demonstration = [w for w in warnings if w["code"] == "demonstration_weights"]
    uncalibrated = [w for w in warnings if w["code"] == "uncalibrated"]
    unlike = [w for w in warnings if w["code"] == "unlike_training"]
    about_input = tuple(sentence(w["message"]) for w in warnings if w["task"] is None)
    if unlike:
        about_input = (
            f"{_which(unlike, result)}: the images look unlike those that the weights were trained on. The "
            "answer may be wrong however sure it sounds.",
            *about_input,
        )
    notes = [
        w["message"]
        for w in warnings
        if w["task"] is not None and w not in (*demonstration, *uncalibrated, *unlike)
    ]
    if uncalibrated:
        notes.insert(
            0,
            f"{_which(uncalibrated, result)}: scores are not calibrated. "
            "Use them to rank, not as probabilities.",
        )
    found = []
    if demonstration:
        text = (
            f"{_which(demonstration, result)}: the weights only show that the software works. The answers "
            "say nothing about a patient."
        )
        found.append(Banner("demo", "Demonstration weights", (text,)))
    if about_input:
        found.append(Banner("input", "Check the input", about_input))
    if notes:
        found.append(Banner("note", "Reading the scores", tuple(notes)))
    return tuple(found)


def _which(warnings: list[dict], result: dict) -> str:
    concerned = [w["task"] for w in warnings]
    if len(result["tasks"]) > 1 and set(concerned) == {task["task"] for task in result["tasks"]}:
        return "All tasks"
    return ", ".join(task_title(name) for name in concerned)


def points_meaning(task: dict) -> str:
    """A sentence on the operating points of a task, with a space in front."""
    if any(entry["operating_point"] is not None for entry in task["classes"]):
        return " The upright line is the operating point: at or above it a class counts as positive."
    return " No operating point was set, so nothing here is called positive or negative."


def class_rows(task: dict) -> tuple[ClassRow, ...]:
    """The classes of an answer in the order of its line; stages and other exclusive ones in their own.

    Args:
        task: an entry of ``result["tasks"]``.
    """
    classes, digits = task["classes"], score_digits(task)
    if task["kind"] == "multilabel":
        classes = ranked_classes(task)
    rows = []
    for entry in classes:
        point, above = entry["operating_point"], entry["above_operating_point"]
        only = point is None and task["kind"] != "multilabel" and entry["name"] == task["top_class"]
        rows.append(
            ClassRow(
                name=entry["name"],
                label=entry["label"],
                probability=entry["probability"],
                text=format_score(entry["probability"], digits),
                operating_point=point,
                call="not set" if point is None else f"{'≥' if above else '<'} {point:.{digits}f}",
                strong=bool(above or only),
            )
        )
    return tuple(rows)
