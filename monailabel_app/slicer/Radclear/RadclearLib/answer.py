"""The answer to one question about one study, as the server gives it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class KeySlice:
    """A slice that mattered.

    Attributes:
        rank: 1 is the most attended.
        index: along z, from 0 at the feet.
        number: the same from 1, as people count.
        attention: share of the answer's weight, in [0, 1].
    """

    rank: int
    index: int
    number: int
    attention: float

    def text(self, n_slices: int) -> str:
        """One line for a list."""
        return f"#{self.rank}  slice {self.number} of {n_slices}\nattention {self.attention:.0%}"


@dataclass(frozen=True)
class ClassLine:
    """One class as it is shown.

    Attributes:
        name: for the server.
        label: for people.
        text: its probability.
        call: on which side of its threshold that is.
        strong: whether the answer names it.
    """

    name: str
    label: str
    text: str
    call: str
    strong: bool


@dataclass(frozen=True)
class Banner:
    """A warning; `kind` is `demo`, `input` or `note`."""

    kind: str
    title: str
    messages: tuple


@dataclass(frozen=True, eq=False)
class Answer:
    """See `Server.ask`. Words come from the server, so that every viewer says the same."""

    image: str
    task: str
    title: str
    question: str
    verdict: str
    meaning: str
    attention_meaning: str
    lines: tuple
    banners: tuple
    single: bool
    attention: np.ndarray
    key_slices: tuple
    shape: tuple  # columns, rows, slices
    affine_lps: np.ndarray
    weights_sha256: str
    backbone_sha256: str
    demonstration: bool
    series_hash: str  # of the pixels and the geometry that the server read

    @classmethod
    def from_reply(cls, image: str, reply: dict) -> Answer:
        """Read a reply of `POST /infer/TASK`.

        Args:
            image: the study's id.
            reply: the JSON.
        """
        (entry,), geometry, words = reply["result"]["tasks"], reply["result"]["geometry"], reply["reading"]
        lines = [
            ClassLine(r["name"], r["label"], r["text"], r["call"], r["strong"]) for r in words["classes"]
        ]
        banners = [Banner(b["kind"], b["title"], tuple(b["messages"])) for b in words["banners"]]
        if reply["notes"]:
            banners.append(Banner("note", "How this was computed", tuple(reply["notes"])))
        keys = [KeySlice(k["rank"], k["index"], k["number"], k["attention"]) for k in entry["key_slices"]]
        return cls(
            image=image,
            task=entry["task"],
            title=words["title"],
            question=words["question"],
            verdict=words["verdict"],
            meaning=f"{words['meaning']} {_thresholds(entry['classes'])}",
            attention_meaning=words["attention_meaning"],
            lines=tuple(lines),
            banners=tuple(banners),
            single=entry["task"] == "staging",
            attention=np.asarray(entry["attention"], dtype=float),
            key_slices=tuple(keys),
            shape=(geometry["n_columns"], geometry["n_rows"], geometry["n_slices"]),
            affine_lps=np.asarray(geometry["affine_lps"], dtype=float),
            weights_sha256=entry["model"]["weights_sha256"],
            backbone_sha256=entry["model"]["backbone_weights_sha256"],
            demonstration=entry["model"]["demonstration"],
            series_hash=reply["result"]["study"]["series_hash"],
        )


def _thresholds(classes: list) -> str:
    if any(c["operating_point"] is not None for c in classes):
        return "At or above its threshold a class counts as positive."
    return "No thresholds were set, so nothing here is called positive or negative."
