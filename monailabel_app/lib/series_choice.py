"""The series within a study: which there are, which one is read, and why; `/datastore/series`."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from fastapi import APIRouter

from lib.request_check import checked_image
from lib.studies import StudyIndex, UnknownStudyError
from radclear.ct import StudySource, study_key


def series_router(app: Any, *, reader: Any) -> APIRouter:
    """The route that lists the series of a study.

    Args:
        app: the `RadclearApp`.
        reader: dependency that lets readers in.
    """
    router = APIRouter()

    @router.get("/datastore/series")
    def series(study: str, user: Any = reader) -> dict[str, Any]:
        found = app.datastore().studies.series_of(checked_image(study))
        clean = app.log_filter.clean
        chosen = found.choice.series_uid if found.choice else None
        return {
            "study": study if study.startswith("study-") else study_key(study),
            "series": [_shown(one, chosen, app.options.identifiers, clean) for one in found.series],
            "chosen": study_key(chosen) if chosen else None,
            "reason": clean(found.choice.reason if found.choice else str(found.error)),
        }

    return router


def _shown(one: Any, chosen: str | None, identifiers: bool, clean: Any) -> dict[str, Any]:
    about = {"id": study_key(one.series_uid), "chosen": one.series_uid == chosen, **asdict(one)}
    if not identifiers:
        del about["series_uid"]
    return {**about, "problem": clean(one.problem)}


def choice_reason(studies: StudyIndex, image: str, source: StudySource, *, asked: bool) -> dict[str, Any]:
    """What a result says of the choice where a client named a study and its series was chosen from metadata.

    Args:
        studies: the index.
        image: what the client named.
        source: the series that was read.
        asked: whether the client named the series, too.

    Returns:
        Fields for the result's `study`; empty where the reading itself made the choice.
    """
    if image in (source.key, source.name) or study_key(image) == source.key:
        return {}
    try:
        found = studies.series_of(image)
    except UnknownStudyError:
        return {}
    if asked or found.choice is None:
        return {"n_candidate_series": sum(not one.problem for one in found.series)}
    return {"series_choice": found.choice.reason, "n_candidate_series": found.choice.n_candidates}
