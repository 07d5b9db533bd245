"""What the results page shows, as JSON: the worklist, and one study with its answers in words and numbers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from lib.failures import Failure
from lib.pixels import WINDOWS
from lib.questions import Questions
from lib.stored_answers import Brief, StoredAnswers
from lib.verdicts import VerdictError
from radclear import __version__
from radclear.ct import StudySource
from radclear.results.background import subtitle_text
from radclear.results.reading import banners, class_rows, points_meaning
from radclear.results.thumbnails import task_windows
from radclear.results.wording import (
    ATTENTION_MEANING,
    INTENDED_USE,
    class_label,
    format_mm,
    format_score,
    score_meaning,
    sentence,
    task_question,
    task_title,
    verdict,
)

NO_VIEWER = (
    "These studies come from a folder. OHIF shows studies of a DICOMweb archive only, so there are no links "
    "into it here."
)
JUDGED_ELSEWHERE = "A verdict is about an answer that is not kept here, such as one about another series."
UPLOADED = "This study was uploaded and is not in the archive, so OHIF cannot show it."


class PageData:
    """Collects what is known about studies from the app."""

    def __init__(self, app: Any, questions: Questions) -> None:
        """
        Args:
            app: the `RadclearApp`.
            questions: what readers have asked for.
        """
        self._app = app
        self._questions = questions
        self.answers = StoredAnswers(app.datastore().labels, app.heads)
        self.tasks = tuple(app.options.tasks)

    def session(self, reader: str, *, authentication: bool, no_viewer: str) -> dict[str, Any]:
        """What does not change while the page is open.

        Args:
            reader: name of the token's user; empty without authentication.
            authentication: whether the server wants tokens.
            no_viewer: why OHIF cannot be opened; empty where it can.
        """
        windows = [{"name": w.name, "text": _window_text(w.level_hu, w.width_hu)} for w in WINDOWS.values()]
        return {
            "version": __version__,
            "authentication": authentication,
            "reader": reader,
            "tasks": [self._question(name) for name in self.tasks],
            "windows": windows,
            "identifiers": self._app.options.identifiers,
            "viewer": "" if no_viewer else "ohif",
            "no_viewer": no_viewer,
            "intended_use": INTENDED_USE,
        }

    def _question(self, name: str) -> dict[str, Any]:
        head = self._app.heads()[name]
        return {
            "task": name,
            "title": task_title(name),
            "question": task_question(name),
            "kind": head.kind,
            "classes": [{"name": c, "label": class_label(name, c)} for c in head.classes],
        }

    def worklist(self) -> dict[str, Any]:
        """All studies with their state and their answers in short."""
        sources = self._app.datastore().studies.sources()
        return {"studies": [self._row(source) for source in sources.values()]}

    def _verdicts(self, key: str, briefs: Sequence[Brief]) -> list[dict[str, str]]:
        """The last verdict on each question; of one with an answer, on the images that this is about."""
        about = {brief.task: (None, brief.series_hash) for brief in briefs}
        given = self._app.verdicts.of_study(key)
        last = {v.task: v for v in given if v.task not in about or v.series_hash in about[v.task]}
        return [{"task": v.task, "verdict": v.verdict, "reader": v.reader} for v in last.values()]

    def _row(self, source: StudySource) -> dict[str, Any]:
        # Asked, failed, answered, in this order: what ends a state is there before the state ends. Then asked
        # once more: of a study that was asked about since, the failures hold only where the server is killed.
        asked = self._questions.state(source.key)
        failures = self._app.datastore().failures.of_study(source.key, self.tasks)
        briefs = [brief for task in self.tasks if (brief := self.answers.brief(source.key, task))]
        row = {
            "id": source.key,
            **self._state(asked or self._questions.state(source.key), failures, answered=bool(briefs)),
            "answers": [asdict(brief) for brief in briefs],
            "unanswered": [task for task in self.tasks if task not in {brief.task for brief in briefs}],
            "verdicts": [],
        }
        try:
            row["verdicts"] = self._verdicts(source.key, briefs)
        except VerdictError as error:  # of one study; the others are shown
            row["reason"] = sentence(str(error))
        if row["state"] == "not asked" and row["verdicts"]:
            row["reason"] = JUDGED_ELSEWHERE
        return {**row, "name": source.name} if self._app.options.identifiers else row

    def _state(self, asked: str, failures: Sequence[Failure], *, answered: bool) -> dict[str, str]:
        if asked:
            return {"state": asked, "reason": "", "failed": ""}
        if not failures:
            return {"state": "answered" if answered else "not asked", "reason": "", "failed": ""}
        titles: dict[str, list[str]] = {}
        for failure in failures:
            titles.setdefault(failure.reason, []).append(task_title(failure.task))
        reasons = [
            sentence(reason if len(names) == len(self.tasks) else f"{', '.join(names)}: {reason}")
            for reason, names in titles.items()
        ]
        last = max(failure.time for failure in failures)
        failed = last.replace("T", " ").replace("+00:00", " UTC")
        return {"state": "failed", "reason": " ".join(reasons), "failed": failed}

    def study(self, source: StudySource) -> dict[str, Any]:
        """One study with all that is known about it."""
        row = self._row(source)  # before the answers, for the same reason
        found = {task: answer for task in self.tasks if (answer := self.answers.answer(source.key, task))}
        shown = {**row, "tasks": [], "missing": [t for t in self.tasks if t not in found]}
        if not found:
            return shown
        newest = max((a["result"] for a in found.values()), key=lambda r: r["provenance"]["created_utc"])
        same = [a for a in found.values() if _pixels(a["result"]) == _pixels(newest)]
        shown["missing"] += [t for t, a in found.items() if a not in same]
        entries = [a["result"]["tasks"][0] for a in same]
        warnings = [w for a in same for w in a["result"]["warnings"]]
        whole = {**newest, "tasks": entries, "warnings": _each_once(warnings)}
        viewer = self._app.datastore().studies.archived(source) is not None
        return {
            **shown,
            "tasks": [self._task(a, e) for a, e in zip(same, entries, strict=True)],
            "series_hash": _pixels(newest),
            "subtitle": subtitle_text(newest),
            "z_mm": newest["geometry"]["slice_z_mm"],
            "z_text": [format_mm(z) for z in newest["geometry"]["slice_z_mm"]],
            "width_mm": newest["geometry"]["n_columns"] * newest["geometry"]["spacing_mm"]["x"],
            "banners": [asdict(banner) for banner in banners(whole)],
            "attention_meaning": ATTENTION_MEANING,
            "viewer": viewer,
            "no_viewer": "" if viewer else UPLOADED,
        }

    def _task(self, answer: Mapping[str, Any], entry: Mapping[str, Any]) -> dict[str, Any]:
        model, made = entry["model"], answer["result"]["provenance"]["created_utc"]
        return {
            "task": entry["task"],
            "title": task_title(entry["task"]),
            "question": entry["question"],
            "kind": entry["kind"],
            "score": "Probability" if entry["calibrated"] else "Score",
            "text": verdict(entry),
            "meaning": score_meaning(entry) + points_meaning(entry),
            "demonstration": model["demonstration"],
            "outdated": self.answers.is_outdated(entry),
            "classes": [asdict(row) for row in class_rows(entry)],
            "key_slices": [
                {**{k: key[k] for k in ("rank", "number")}, "attention": format_score(key["attention"], 3)}
                for key in entry["key_slices"]
            ],
            "attention": entry["attention"],
            "window": task_windows(entry["task"])[0].name,
            "made": made.replace("T", " ").replace("Z", " UTC"),
            "model": f"{model['bundle']} {model['bundle_version']} on {model['backbone_bundle']} "
            f"{model['backbone_version']}",
            "weights_sha256": model["weights_sha256"],
            "backbone_sha256": model["backbone_weights_sha256"],
            "notes": list(answer.get("notes", ())),
        }


def _pixels(result: Mapping[str, Any]) -> str:
    return result["study"]["series_hash"]


def _each_once(warnings: Iterable[dict]) -> list[dict]:
    kept: list[dict] = []
    for warning in warnings:
        if warning not in kept:
            kept.append(warning)
    return kept


def _window_text(level_hu: float, width_hu: float) -> str:
    return f"{level_hu:g}/{width_hu:g} HU".replace("-", "−")
