"""One label per study from the verdicts of several readers.

Each reader has one vote, their newest verdict. `agree` votes for the classes that the answer called,
`correct` for the reader's own, `disagree` alone for nothing. Of classes that may be there together, one is
there if more than half of the votes have it; otherwise the class with most votes counts. A tie is no label:
the study takes no part until another reader breaks it. Nor does one of which readers judged different series.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from lib.verdicts import Verdict


@dataclass
class Consensus:
    """What readers say together about one question.

    Attributes:
        labels: study → classes that are there; of a staging exactly one.
        readers: study → how many votes its label rests on.
        series: study → hash of the series that was judged; None where the verdicts do not say.
        excluded: study → why it has no label.
    """

    labels: dict[str, tuple[str, ...]] = field(default_factory=dict)
    readers: dict[str, int] = field(default_factory=dict)
    series: dict[str, str | None] = field(default_factory=dict)
    excluded: dict[str, str] = field(default_factory=dict)


def consensus(newest: Mapping[str, Mapping[str, Verdict]], *, classes: Sequence[str], kind: str) -> Consensus:
    """Labels of the studies that readers agree on.

    Args:
        newest: study → reader → newest verdict on the question.
        classes: of the question, in order.
        kind: `multilabel`, or another one, of which exactly one class is right.
    """
    result = Consensus()
    for study, verdicts in newest.items():
        counted = [verdict for verdict in verdicts.values() if verdict.classes is not None]
        votes = [verdict.classes for verdict in counted]
        series = {verdict.series_hash for verdict in counted if verdict.series_hash}
        if not votes:
            result.excluded[study] = "readers disagree with the answer and name no classes"
            continue
        if len(series) > 1:
            result.excluded[study] = "readers judged different series of the study"
            continue
        label, tie = (_together if kind == "multilabel" else _one)(votes, classes)
        if tie:
            result.excluded[study] = f"as many readers for as against {tie}"
            continue
        result.labels[study], result.readers[study] = label, len(votes)
        result.series[study] = next(iter(series), None)
    return result


def _together(votes: Sequence[tuple[str, ...]], classes: Sequence[str]) -> tuple[tuple[str, ...], str]:
    counts = Counter(name for vote in votes for name in vote)
    tied = [name for name in classes if 2 * counts[name] == len(votes)]
    return tuple(name for name in classes if 2 * counts[name] > len(votes)), ", ".join(tied)


def _one(votes: Sequence[tuple[str, ...]], classes: Sequence[str]) -> tuple[tuple[str, ...], str]:
    counts = Counter(vote[0] for vote in votes)
    most = max(counts.values())
    first = [name for name in classes if counts[name] == most]
    return (first[0],), ", ".join(first) if len(first) > 1 else ""
