"""The routes of learning from readers: train, versions of heads, scoring."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Body
from monailabel.endpoints.user.auth import User
from monailabel.interfaces.tasks.scoring import ScoringMethod
from monailabel.interfaces.tasks.train import TrainTask

from lib.publishing import publish
from lib.request_check import RequestError, checked_model, checked_params
from lib.scoring import score
from lib.training_job import build_job
from lib.trainings import Training
from lib.versions import BUNDLED

#: The stock client sends `client_id` and what `RetrainHead.config` offers.
TRAIN_PARAMS = {"publish": r"True|False", "client_id": r"[\w.@ +-]{1,64}"}

OptionalBody = Annotated[dict[str, Any] | None, Body()]


class RetrainHead(TrainTask):
    """What MONAI Label's clients see of a training; the route starts it."""

    def config(self) -> dict[str, Any]:
        return {"publish": False}

    def __call__(self, request: Any, datastore: Any) -> dict[str, Any]:
        raise NotImplementedError("trainings are started by POST /train/{task}")


class VerdictScoring(ScoringMethod):
    """What MONAI Label's clients see of scoring; the route computes it."""

    def __call__(self, request: Any, datastore: Any) -> dict[str, Any]:
        raise NotImplementedError("scores are computed by POST /scoring/{task}")


def learning_router(
    app: Any, *, reader: Any, annotator: Any, admin: Any, who: Callable[[User], str]
) -> APIRouter:
    """The routes at `/train/`, `/radclear/models/` and `/scoring/`.

    Args:
        app: the `RadclearApp`.
        reader, annotator, admin: dependencies that let a role in and give its `User`.
        who: a user's name for the audit.
    """
    router = APIRouter()
    scores: dict[str, Any] = {}
    computing = threading.Lock()

    @router.post("/train/{task}")
    def train(task: str, params: OptionalBody = None, user: User = admin) -> dict[str, Any]:
        checked_model(task, app.heads())
        wanted = checked_params(params, TRAIN_PARAMS)
        publish = str(wanted.get("publish", False)) == "True"

        def announce(version: str) -> None:
            app.audit.append("train", user=who(user), task=task, version=version, publish=publish)

        training = app.trainings.start(task, build_job(app, task), publish=publish, announce=announce)
        return shown(app, training)

    @router.get("/train/")
    def training_status(all: bool = False, check_if_running: bool = False, user: User = reader) -> Any:
        last = app.trainings.last
        if last is None or (check_if_running and last.status != "RUNNING"):
            raise RequestError(
                "no training is running" if last else "no training was started yet", status=404
            )
        return [shown(app, last)] if all else shown(app, last)

    @router.delete("/train/")
    def stop(user: User = admin) -> dict[str, Any]:
        training = app.trainings.stop()
        if training is None:
            return {}
        app.audit.append("train stopped", user=who(user), task=training.task, version=training.id)
        return shown(app, training)

    @router.get("/radclear/models/{task}")
    def versions(task: str, user: User = reader) -> dict[str, Any]:
        checked_model(task, app.heads())
        current = app.versions.current(task)
        listed = [{"version": BUNDLED, "in_use": current == BUNDLED, "report": {}}]
        listed += [
            {"version": name, "in_use": current == name, "report": app.versions.report(task, name)}
            for name in app.versions.listed(task)
        ]
        return {"task": task, "in_use": current, "versions": listed}

    @router.post("/radclear/models/{task}/{version}")
    def choose(task: str, version: str, user: User = admin) -> dict[str, Any]:
        checked_model(task, app.heads())
        head = publish(app, task, version, user=who(user))
        return {"task": task, "in_use": version, "weights_sha256": head.weights_sha256}

    @router.post("/scoring/{task}")
    def scoring(task: str, params: OptionalBody = None, user: User = annotator) -> dict[str, Any]:
        heads = app.heads()
        checked_model(task, heads)
        checked_params(params, {"client_id": TRAIN_PARAMS["client_id"]})
        if not computing.acquire(blocking=False):  # threads are few, and others wait for them
            raise RequestError("a score is being computed; try again in some seconds", status=429)
        try:
            scores[task] = found = score(app, heads[task])
        finally:
            computing.release()
        return found

    @router.get("/scoring/")
    def last_scores(user: User = reader) -> dict[str, Any]:
        if not scores:
            raise RequestError("nothing was scored yet; ask POST /scoring/{task}", status=404)
        return dict(scores)  # as others may be added while this is sent

    return router


def shown(app: Any, training: Training) -> dict[str, Any]:
    """A training as MONAI Label's clients know it, without paths of the server."""
    lines = [app.log_filter.clean(line) for line in training.lines()]
    return {
        "id": training.id,
        "status": training.status,
        "request": {"model": training.task, "publish": training.publish},
        "start_ts": training.started,
        "end_ts": training.ended,
        "details": lines,
    }
