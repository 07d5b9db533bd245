"""The routes of readers' verdicts: give one, and see those that were given."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Body
from fastapi.responses import JSONResponse
from monailabel.config import settings
from monailabel.endpoints.user.auth import User

from lib.audit import answers
from lib.request_check import RequestError, checked_image, checked_model
from lib.verdict_answer import judged_answer
from lib.verdict_check import Said, checked_verdict
from lib.verdicts import Verdict, VerdictError

NO_ANSWER = (
    "this model's answer to the study is not known any more, so there is nothing to agree with: ask for it "
    "again, or send the right classes with the verdict `correct`"
)
OLDER_ANSWER = (
    "this answer is of weights that answer no more, whose operating points are not known here, so which "
    "classes it called cannot be told: ask again, or send the right classes with the verdict `correct`"
)


def verdict_router(app: Any, *, reader: Any, annotator: Any, who: Callable[[User], str]) -> APIRouter:
    """The routes at `/radclear/verdicts`.

    Args:
        app: the `RadclearApp`.
        reader, annotator: dependencies that let a role in and give its `User`.
        who: a user's name for the audit.
    """
    router = APIRouter(prefix="/radclear/verdicts")

    @router.get("")
    def given(image: str, task: str | None = None, user: User = reader) -> dict[str, Any]:
        keys = app.datastore().studies.series_keys(checked_image(image))
        if task is not None:
            checked_model(task, app.heads())
        found = [verdict for key in keys for verdict in app.verdicts.of_study(key, task=task)]
        return {"verdicts": [v.as_dict() for v in sorted(found, key=lambda v: v.stored)]}

    @router.post("")
    def give(body: Annotated[dict[str, Any], Body()], user: User = annotator) -> JSONResponse:
        heads = app.heads()
        name = who(user) if settings.MONAI_LABEL_AUTH_ENABLE else None
        said = checked_verdict(body, tasks={task: head.classes for task, head in heads.items()}, user=name)
        keys = app.datastore().studies.series_keys(checked_image(said.image))
        known = answers(app.audit.path, task=said.task, weights_sha256=said.weights_sha256)
        key, answer = judged_answer(said, keys, known)
        if answer is not None and answer["backbone_weights_sha256"] != said.backbone_sha256:
            raise RequestError("backbone_sha256 is not that of the model which gave the answer")
        line = {"user": who(user), "study": key, "task": said.task, "verdict": said.verdict}
        line["weights_sha256"] = said.weights_sha256

        def announce(verdict: Verdict) -> None:
            line["stored"] = verdict.id.rpartition("/")[2]
            app.audit.append("verdict", **line)

        try:
            verdict = app.verdicts.add(
                key,
                announce=announce,
                task=said.task,
                reader=said.reader,
                verdict=said.verdict,
                classes=_right_classes(said, heads[said.task], answer),
                comment=said.comment,
                weights_sha256=said.weights_sha256,
                backbone_sha256=said.backbone_sha256,
                series_hash=answer and answer["series_hash"],
                answer=answer and answer["answer"],
            )
        except VerdictError:
            if "stored" in line:
                app.audit.append("verdict not stored", **line)
            raise
        return JSONResponse(verdict.as_dict(), status_code=201)

    return router


def _right_classes(said: Said, head: Any, answer: dict[str, Any] | None) -> tuple[str, ...] | None:
    """What the reader says is right: their own classes, or those that the answer called."""
    if said.verdict == "correct":
        return said.classes
    if said.verdict == "disagree":
        return None
    if answer is None:
        raise RequestError(NO_ANSWER, status=409)
    if head.kind == "multilabel" and said.weights_sha256 != head.weights_sha256:
        raise RequestError(OLDER_ANSWER, status=409)
    return called_classes(answer["answer"], kind=head.kind, operating_points=head.operating_points)


def called_classes(
    probabilities: dict[str, float], *, kind: str, operating_points: dict[str, float] | None
) -> tuple[str, ...]:
    """The classes that an answer says are there.

    Args:
        probabilities: class → probability.
        kind: of the head: of several classes that may be there together (`multilabel`), those at or above
            their operating points, 0.5 where none were chosen; otherwise the most probable one.
        operating_points: class → threshold.
    """
    if kind != "multilabel":
        return (max(probabilities, key=probabilities.__getitem__),)
    points = operating_points or {}
    return tuple(name for name, p in probabilities.items() if p >= points.get(name, 0.5))
