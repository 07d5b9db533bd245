"""The stock OHIF viewer at `/ohif/`: the build inside MONAI Label's package, with settings of ours.

Its files say nothing about studies and are served to everybody who reaches the server; the studies come
through `lib.dicomweb_proxy`, which wants the role of a reader.
"""

from __future__ import annotations

import pathlib
from typing import Any

import monailabel
from fastapi import APIRouter, Request
from fastapi.responses import FileResponse, RedirectResponse, Response
from starlette.exceptions import HTTPException
from starlette.staticfiles import StaticFiles

from lib.authentication import may_read
from lib.options import is_remote
from lib.request_check import RequestError

BUILD = pathlib.Path(monailabel.__file__).parent / "endpoints" / "static" / "ohif"
SETTINGS = pathlib.Path(__file__).resolve().parents[1] / "ohif" / "app-config.js"
#: In place of the settings where nobody is signed in: the viewer is not started, and the page of results asks
#: who reads. Stock OHIF would say that its data source fails, or load for ever.
SIGN_IN = SETTINGS.with_name("sign-in.js")
#: Nothing from elsewhere: the build names a font and a service worker of other servers and works without.
#: Its page holds two inline scripts, and its decoders are WebAssembly started from blobs.
POLICY = (
    "default-src 'none'; script-src 'self' 'unsafe-inline' 'wasm-unsafe-eval' blob:; "
    "worker-src 'self' blob:; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
    "font-src 'self' data:; connect-src 'self' data: blob:; manifest-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
NO_ARCHIVE = (
    "OHIF shows studies of a DICOMweb archive, and this server's studies come from a folder. Start it with "
    "--studies http://ARCHIVE/dicom-web, or use 3D Slicer"
)
SWITCHED_OFF = "OHIF is switched off on this server (--conf ohif false)"
_FOREVER = "private, max-age=31536000, immutable"  # for files whose name holds a hash of their content
_ASK = "private, no-cache"


def ohif_router(app: Any) -> APIRouter:
    """The routes below `/ohif`.

    Args:
        app: the `RadclearApp`.
    """
    router = APIRouter(include_in_schema=False)
    refusal = why_not(app)
    files = StaticFiles(directory=BUILD, follow_symlink=False)

    @router.api_route("/ohif", methods=["GET", "HEAD"])
    def without_slash() -> RedirectResponse:
        return RedirectResponse("/ohif/")

    @router.api_route("/ohif/{path:path}", methods=["GET", "HEAD"])
    async def file(path: str, request: Request) -> Response:
        if refusal:
            raise RequestError(refusal, status=404)
        if path == "app-config.js":
            settings = SETTINGS if await may_read(request) else SIGN_IN
            return _with_headers(FileResponse(settings, media_type="text/javascript"), _ASK)
        # The viewer's own addresses, such as /ohif/viewer, are all its one page.
        name = path if "." in path.rpartition("/")[2] else "index.html"
        try:
            answer = await files.get_response(name, request.scope)
        except HTTPException as error:
            raise RequestError("OHIF has no such file", status=error.status_code) from None
        return _with_headers(answer, _FOREVER if ".bundle." in name and name.endswith(".js") else _ASK)

    return router


def why_not(app: Any) -> str:
    """Why OHIF is not served; empty where it is."""
    if not is_remote(app.studies):
        return NO_ARCHIVE
    return "" if app.options.ohif else SWITCHED_OFF


def _with_headers(answer: Response, cache: str) -> Response:
    answer.headers["Content-Security-Policy"] = POLICY
    answer.headers["Cross-Origin-Opener-Policy"] = "same-origin"
    answer.headers["Cross-Origin-Resource-Policy"] = "same-origin"
    answer.headers["Cache-Control"] = cache
    return answer
