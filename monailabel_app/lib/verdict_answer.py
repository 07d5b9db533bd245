"""Which answer a verdict is about: the one that its reader saw. Where that is not sure nothing is guessed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from lib.request_check import RequestError
from lib.verdict_check import Said

UNKNOWN_IMAGES = (
    "the server knows no answer, or none any more, of this model about the images that the verdict is about: "
    "nothing was stored. Ask again"
)
UNKNOWN_SERIES = (
    "the study has {n} CT series, and the server knows no answer, or none any more, of this model about one "
    "of them: nothing was stored. Name the series that was read in place of the study, or ask again"
)
SEVERAL = (
    "the server knows {n} answers of this model that the verdict may be about, on different images: nothing "
    "was stored. Send the series_hash of the answer that was seen, or name the series in place of the study"
)


def judged_answer(
    said: Said, keys: Sequence[str], answers: Iterable[Mapping[str, Any]]
) -> tuple[str, Mapping[str, Any] | None]:
    """The series that a verdict is about, and the answer.

    Args:
        said: the verdict.
        keys: of the series that its `image` may mean: several where it names a study of an archive.
        answers: the audit's records of answers to this question by these weights, oldest first.

    Returns:
        Key of the series; and the record of the newest answer about these images, None where the verdict does
        not name images and the server knows no answer, or none any more, about the one series it can mean.

    Raises:
        RequestError: 409; there is no such answer, or more than one.
    """
    seen = {
        (record["study"], record["series_hash"]): record
        for record in answers
        if record["study"] in keys and said.series_hash in (None, record["series_hash"])
    }
    if len(seen) > 1:
        raise RequestError(SEVERAL.format(n=len(seen)), status=409)
    for (key, _), record in seen.items():
        return key, record
    if said.series_hash is not None:
        raise RequestError(UNKNOWN_IMAGES, status=409)
    if len(keys) > 1:
        raise RequestError(UNKNOWN_SERIES.format(n=len(keys)), status=409)
    return keys[0], None
