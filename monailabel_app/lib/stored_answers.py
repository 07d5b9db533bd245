"""Answers that are kept beside the studies, whoever asked for them: the page, a viewer, or a batch."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from lib.infers import ENTRIES
from lib.labels import LabelFiles
from radclear.results.wording import task_title, verdict


@dataclass(frozen=True)
class Brief:
    """An answer in one line.

    Attributes:
        task: whose question it is.
        title: of the question.
        text: the answer.
        outdated: the server has other weights now.
        series_hash: of the pixels that it is about.
    """

    task: str
    title: str
    text: str
    outdated: bool
    series_hash: str


class StoredAnswers:
    """Finds the newest stored answer of each question, under any of its three entries."""

    def __init__(self, labels: LabelFiles, heads: Callable[[], Mapping[str, Any]]) -> None:
        """
        Args:
            labels: stored results.
            heads: gives the heads that answer now: question → head.
        """
        self._labels = labels
        self._heads = heads
        self._briefs: dict[tuple[str, str], tuple[tuple[int, int], dict[str, Any], str, str]] = {}
        self._lock = threading.Lock()

    def answer(self, key: str, task: str) -> dict[str, Any] | None:
        """The newest answer, as `/infer/` gives it: `result`, `notes`; None where there is none."""
        tag, _ = self._newest(key, task)
        params = self._labels.info(key, tag).get("params", {}) if tag else {}
        return params if params.get("result", {}).get("tasks") else None

    def brief(self, key: str, task: str) -> Brief | None:
        """The newest answer in one line; read once as long as nothing newer is stored."""
        tag, version = self._newest(key, task)
        if not tag:
            return None
        with self._lock:
            known = self._briefs.get((key, task))
        if known is None or known[0] != version:
            answer = self.answer(key, task)
            if answer is None:
                return None
            (entry,) = answer["result"]["tasks"]
            known = version, entry["model"], verdict(entry), answer["result"]["study"]["series_hash"]
            with self._lock:
                self._briefs[key, task] = known
        _, model, text, series_hash = known
        outdated = self.is_outdated({"task": task, "model": model})
        return Brief(task, task_title(task), text, outdated, series_hash)

    def is_outdated(self, entry: Mapping[str, Any]) -> bool:
        """Whether an answer was given by other weights than the server has now."""
        head, model = self._heads()[entry["task"]], entry["model"]
        return (head.weights_sha256, head.backbone.weights_sha256) != (
            model["weights_sha256"],
            model["backbone_weights_sha256"],
        )

    def _newest(self, key: str, task: str) -> tuple[str, tuple[int, int]]:
        tags = [task + suffix for suffix, _, _ in ENTRIES]
        stored = [(version, tag) for tag in tags if (version := self._labels.version(key, tag))]
        version, tag = max(stored, default=((0, 0), ""))
        return tag, version
