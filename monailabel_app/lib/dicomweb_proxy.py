"""The archive at `/dicom-web`, for a viewer on the same server: searching and retrieving, nothing else.

A page may only ask its own server, and the archive's password stays here. Addresses, headers and kinds of
answers are taken from lists; what is not on them does not reach the archive, or the viewer.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlencode

import httpx
from fastapi import APIRouter, Request
from fastapi.responses import Response, StreamingResponse
from monailabel.config import settings

from lib.archive import UID, ArchiveError, credentials
from lib.ohif import why_not
from lib.request_check import RequestError

logger = logging.getLogger(__name__)

MOST_AT_ONCE = 16
_TIMEOUT = httpx.Timeout(60.0, connect=5.0, pool=30.0)
_STUDY = rf"studies/{UID}"
_SERIES = rf"{_STUDY}/series/{UID}"
_INSTANCE = rf"{_SERIES}/instances/{UID}"
SEARCHES = re.compile(rf"studies|series|{_STUDY}/(series|instances)|{_SERIES}/instances")
RETRIEVALS = re.compile(
    rf"({_STUDY}|{_SERIES}|{_INSTANCE})/metadata|{_SERIES}/(rendered|thumbnail)|{_INSTANCE}(/rendered|/thumbnail)?"
    rf"|{_INSTANCE}/frames/\d{{1,6}}(,\d{{1,6}}){{0,63}}|{_INSTANCE}/bulk/[0-9A-Fa-f/]{{8,128}}"
)
_QUERY_NAME = re.compile(r"[A-Za-z0-9.]{1,64}")
_QUERY_VALUE = re.compile(r"[^\x00-\x1f\x7f]{0,512}")
_MOST_QUERY = 32
_KEPT_HEADERS = ("content-type", "content-length")
_ACCEPT = re.compile(r"[\x20-\x7e]{1,512}")
#: What an archive may send a viewer: no HTML and no SVG, which a browser would run as a page of this server.
_KINDS = re.compile(
    r"(application/(json|dicom\+json|dicom|octet-stream)|multipart/related|image/(jpeg|png|gif|jp2|jpx|jls|jphc))"
    r"\s*(;.*)?",
    re.IGNORECASE,
)


def proxy_router(app: Any, *, reader: Any) -> APIRouter:
    """The routes below `/dicom-web`.

    Args:
        app: the `RadclearApp`.
        reader: dependency that lets readers in.
    """
    router = APIRouter(include_in_schema=False)
    refusal = why_not(app)
    archive = None if refusal else _client(app.studies)
    largest = app.options.volumes_mib * 2**20

    @router.get("/dicom-web/{path:path}")
    async def ask(path: str, request: Request, user: Any = reader) -> Response:
        if archive is None:
            raise RequestError(refusal, status=404)
        return await _forward(archive, path, request, largest=largest, timeout_s=app.options.timeout)

    return router


def _client(url: str) -> httpx.AsyncClient:
    logging.getLogger("httpx").setLevel(logging.WARNING)  # it logs addresses, and a search may name a patient
    user, password = credentials()
    return httpx.AsyncClient(
        base_url=url.rstrip("/") + "/",
        auth=(user, password) if user else None,
        timeout=_TIMEOUT,
        limits=httpx.Limits(max_connections=MOST_AT_ONCE, max_keepalive_connections=MOST_AT_ONCE),
    )


def upstream_path(path: str) -> str:
    """Where the archive has what a viewer asks for.

    Args:
        path: below `/dicom-web/`.

    Raises:
        RequestError: 404; not one of the addresses that are passed on.
    """
    if SEARCHES.fullmatch(path):
        prefix = settings.MONAI_LABEL_QIDO_PREFIX
    elif RETRIEVALS.fullmatch(path):
        prefix = settings.MONAI_LABEL_WADO_PREFIX
    else:
        raise RequestError(
            "this address is not passed on to the archive: studies, series and instances can be searched, "
            "metadata, frames and renderings retrieved",
            status=404,
        )
    return f"{prefix}/{path}" if prefix else path


def _checked_query(request: Request) -> list[tuple[str, str]]:
    query = request.query_params.multi_items()
    for name, value in query:
        if not _QUERY_NAME.fullmatch(name) or not _QUERY_VALUE.fullmatch(value):
            raise RequestError(
                "the search has a parameter that is no DICOM attribute, or an impossible value"
            )
    if len(query) > _MOST_QUERY:
        raise RequestError(f"the search has {len(query)} parameters; at most {_MOST_QUERY} are passed on")
    return query


async def _forward(
    archive: httpx.AsyncClient, path: str, request: Request, *, largest: int, timeout_s: float
) -> Response:
    accept = request.headers.get("accept", "*/*")
    headers = {"Accept": accept if _ACCEPT.fullmatch(accept) else "*/*", "Accept-Encoding": "identity"}
    # Orthanc 1.10 takes a wildcard for one only where it is not percent-encoded, as browsers send it.
    query = urlencode(_checked_query(request), safe="*?,^")
    question = archive.build_request(
        "GET", f"{upstream_path(path)}?{query}" if query else upstream_path(path), headers=headers
    )
    try:
        answer = await archive.send(question, stream=True)
    except httpx.PoolTimeout:
        raise ArchiveError("too many images are asked for at once; try again in some seconds") from None
    except httpx.ReadTimeout:
        raise ArchiveError("the archive does not answer in time; try again later", status=504) from None
    except httpx.HTTPError as error:
        raise ArchiveError(f"the archive does not answer ({type(error).__name__}); try again later") from None
    try:
        _check(answer, largest)
    except BaseException:
        await answer.aclose()
        raise
    kept = {
        name: answer.headers[name] for name in ("content-type", "content-length") if name in answer.headers
    }
    return _Streamed(answer, largest, timeout_s=timeout_s, status_code=answer.status_code, headers=kept)


def _check(answer: httpx.Response, largest: int) -> None:
    """Whether an answer of the archive may go to a viewer.

    Raises:
        ArchiveError, RequestError: it may not; the archive's own text is not passed on.
    """
    status = answer.status_code
    if status in (401, 403):
        raise ArchiveError(
            "the archive does not let this server in; its administrator has to set "
            "MONAI_LABEL_DATASTORE_USERNAME and MONAI_LABEL_DATASTORE_PASSWORD",
            status=502,
        )
    if status == 404:
        raise RequestError("the archive does not have this", status=404)
    if 400 <= status < 500:
        raise RequestError(f"the archive refuses this request with {status}")
    if status not in (200, 204, 206):
        raise ArchiveError(f"the archive fails with {status}; try again later", status=503)
    kind = answer.headers.get("content-type", "")
    if status != 204 and not _KINDS.fullmatch(kind):
        raise ArchiveError("the archive sends something that is neither DICOM nor a picture", status=502)
    length = answer.headers.get("content-length", "0")
    if length.isdigit() and int(length) > largest:
        raise ArchiveError(f"the answer is larger than {largest} bytes; raise --conf volumes_mib", status=502)


class _Streamed(StreamingResponse):
    """An answer of the archive, part by part; a viewer that does not read it is not waited for."""

    def __init__(self, answer: httpx.Response, largest: int, *, timeout_s: float, **options: Any) -> None:
        super().__init__(self._parts(), **options)
        self._answer = answer
        self._left = largest
        self._timeout_s = timeout_s

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            await asyncio.wait_for(super().__call__(scope, receive, send), self._timeout_s)
        finally:
            await self._answer.aclose()

    async def _parts(self) -> AsyncIterator[bytes]:
        try:
            async for part in self._answer.aiter_raw():
                self._left -= len(part)
                if self._left < 0:
                    raise ArchiveError("the answer of the archive is longer than it may be")
                yield part
        except httpx.HTTPError as error:
            raise ArchiveError(f"the archive stopped in an answer ({type(error).__name__})") from None
