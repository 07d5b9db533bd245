"""How a job's outcome becomes an HTTP response: waiting for it, its shape, and what an error looks like."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import pathlib
from concurrent.futures import Future
from typing import Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from requests_toolbelt import MultipartEncoder

from lib.audit import AuditError
from lib.datastore import ReadOnlyError
from lib.labels import LabelError
from lib.request_check import RequestError
from lib.studies import UnknownStudyError
from lib.training_rows import TrainingError
from lib.verdicts import VerdictError
from lib.versions import VersionError
from lib.work_queue import QueueClosedError, QueueFullError
from radclear.backbones.errors import DeviceMemoryError
from radclear.ct import CTInputError
from radclear.errors import RadclearError

logger = logging.getLogger(__name__)

OUTPUTS = ("json", "image", "all")
_STATUS = (
    (UnknownStudyError, 404),
    (LabelError, 404),
    (ReadOnlyError, 405),
    (QueueFullError, 429),
    (QueueClosedError, 503),
    (AuditError, 503),
    (VerdictError, 503),
    (TrainingError, 409),
    (VersionError, 409),
    (DeviceMemoryError, 503),
    (CTInputError, 422),
)
_POLL_S = 0.5


def error_response(app: Any):
    """A handler that tells the client what is wrong, without anything that names a patient."""

    async def respond(request: Request, error: RadclearError) -> JSONResponse:
        status = getattr(error, "status", None) or next(
            (s for kind, s in _STATUS if isinstance(error, kind)), 500
        )
        headers = {"Retry-After": "5"} if status in (429, 503) else {}
        own_words = isinstance(error, RequestError | UnknownStudyError)
        detail = str(error) if own_words else app.log_filter.clean(str(error))
        logger.info("%s refused with %d: %s", request.method, status, detail)
        return JSONResponse({"detail": detail}, status_code=status, headers=headers)

    return respond


async def invalid_response(request: Request, error: RequestValidationError) -> JSONResponse:
    """What FastAPI found wrong with a request, without repeating what was sent as FastAPI would."""
    found = [f"{'.'.join(str(part) for part in e['loc'])}: {e['msg']}" for e in error.errors()[:5]]
    if any(e["loc"] == ("body",) for e in error.errors()):
        found.append("expected a JSON object with the header Content-Type: application/json")
    return JSONResponse({"detail": "; ".join(found)}, status_code=422)


async def finished(request: Request, future: Future, timeout_s: float) -> dict[str, Any]:
    """Wait for a job as long as the client does.

    A client that hangs up takes its job out of the queue; where it runs already it is finished, and the file
    that nobody wants is removed.

    Raises:
        RequestError: 504 after the time limit, 499 where the client is gone.
    """
    waited = asyncio.wrap_future(future)
    end = asyncio.get_running_loop().time() + timeout_s
    try:
        while not waited.done():
            await asyncio.wait({waited}, timeout=_POLL_S)
            if waited.done():
                break
            if await request.is_disconnected():
                raise RequestError("the client hung up", status=499)
            if asyncio.get_running_loop().time() > end:
                raise RequestError(
                    f"no answer within {timeout_s:g} seconds; what runs is finished, so ask again",
                    status=504,
                )
    except BaseException:
        if not future.cancel():
            future.add_done_callback(_remove_file)
        raise
    return waited.result()


def _remove_file(future: Future) -> None:
    if not future.cancelled() and future.exception() is None and future.result().get("file"):
        pathlib.Path(future.result()["file"]).unlink(missing_ok=True)


def answer_response(result: dict[str, Any], model: str, output: str) -> Response:
    """An answer as MONAI Label's clients expect it: multipart of `params` and `image`, or either alone.

    Args:
        result: of `RadclearApp.infer`; its file is removed.
        model: names the file.
        output: `all`, `json` or `image`.
    """
    params, file = result["params"], result["file"]
    if file is None:
        if output == "image":
            raise RequestError(f"{model} answers with JSON only; ask for {model}_findings or {model}_overlay")
        return JSONResponse(params)
    path = pathlib.Path(file)
    name, content = f"{model}{path.suffix}", path.read_bytes()
    os.unlink(path)
    kind = "application/json" if path.suffix == ".json" else "application/octet-stream"
    if output == "json":
        return JSONResponse(params)
    if output == "image":
        return Response(
            content, media_type=kind, headers={"Content-Disposition": f'attachment; filename="{name}"'}
        )
    parts = MultipartEncoder(
        fields={
            "params": (None, json.dumps(params), "application/json"),
            "image": (name, content, kind),
        }
    )
    return Response(parts.to_string(), media_type=parts.content_type)
