"""One request answered: its study looked up, and the answer kept beside the study, whoever asked."""

from __future__ import annotations

import json
import logging
import os
import tempfile
from collections.abc import Mapping
from typing import Any

from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.tasks.infer_v2 import InferTask

from lib.labels import LabelError
from lib.request_check import checked_image, checked_model
from lib.series_choice import choice_reason
from radclear.ct import StudySource

logger = logging.getLogger(__name__)


def answer_request(
    models: Mapping[str, InferTask], store: Datastore, request: Mapping[str, Any]
) -> dict[str, Any]:
    """Answer one request; the image is looked up in the store and is never a path.

    Args:
        models: entry → task.
        store: the studies.
        request: `model`, `image`; `series`, `user`, `client_id` and `save_label` where given.

    Returns:
        As MONAI Label's: `params` is the JSON, `file` a temporary file or None.

    Raises:
        radclear.errors.RadclearError: what is wrong with the request or the study.
    """
    model = checked_model(request.get("model", ""), models)
    image = checked_image(request.get("image", ""))
    source = store.source(image, series=request.get("series"))
    wanted = {name: request[name] for name in ("series", "user", "client_id") if request.get(name)}
    file, answer = models[model]({**wanted, "source": store.studies.ready(source)})
    task = models[model].head.task
    own = not request.get("series") or store.studies.archived(source) is not None
    if reason := choice_reason(store.studies, image, source, asked=bool(request.get("series"))):
        answer["result"]["study"] |= reason
    label = None
    if request.get("save_label"):
        label, file = _store(store, source.key, model, file, answer), None
    elif own:
        _keep(store, source, task, answer)
    if own:  # not of another series of a folder: the study's own may fail on
        store.failures.clear(source.key, task)  # after the answer is there: never neither of both
    return {"label": label, "tag": model, "file": file, "params": answer}


def _keep(store: Datastore, source: StudySource, task: str, answer: Mapping[str, Any]) -> None:
    """Let the worklist have an answer that another client gets, in the form of its own.

    Not called for a series that was named within a folder: the study's other answers are about the series
    that reading chooses. A disk that takes nothing costs the client no answer.
    """
    try:
        _store(store, source.key, task, None, {**answer, "label_names": {}})
    except (OSError, LabelError) as error:
        logger.error("%s: an answer was given and is not kept for the worklist: %s", source.key, error)


def _store(store: Datastore, key: str, tag: str, file: str | None, answer: Mapping[str, Any]) -> str:
    """Store an answer under a tag, with its file or else its result; a temporary file is removed."""
    handle = None
    if file is None:
        handle, file = tempfile.mkstemp(prefix="radclear-", suffix=".json")
    try:
        if handle is not None:
            with open(handle, "w", encoding="utf-8") as stream:
                json.dump(answer["result"], stream, ensure_ascii=False)
        return store.save_label(key, file, tag, {"model": tag, "params": answer})
    finally:
        os.unlink(file)
