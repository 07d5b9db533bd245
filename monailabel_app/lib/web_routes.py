"""The results page at `/radclear/`: its files, its data, and pictures of the studies.

The files hold nothing about studies and are served to everybody who reaches the server; everything else wants
the role of a reader, as all of the app does.
"""

from __future__ import annotations

import pathlib
from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Body
from fastapi.responses import FileResponse, JSONResponse, RedirectResponse, Response
from monailabel.config import settings
from monailabel.endpoints.user.auth import User

from lib.ohif import why_not
from lib.options import is_remote
from lib.page_data import NO_VIEWER, UPLOADED, PageData
from lib.pixels import StudyPixels, check_slice, slice_png
from lib.questions import Questions
from lib.request_check import RequestError, checked_image, checked_model
from radclear.ct import Study, StudySource
from radclear.results.charts import attention_chart
from radclear.results.thumbnails import overview_picture

FOLDER = pathlib.Path(__file__).resolve().parents[1] / "web"
KINDS = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
#: Nothing from elsewhere, no script in the page's text, no frame around it.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
CLIENT = "results page"

ImageName = Annotated[str, Body(embed=True)]


def web_router(app: Any, *, reader: Any, who: Callable[[User], str]) -> APIRouter:
    """The routes below `/radclear/`.

    Args:
        app: the `RadclearApp`.
        reader: dependency that lets readers in and gives their `User`.
        who: a user's name for the audit.
    """
    router = APIRouter(prefix="/radclear")
    options = app.options
    no_viewer = why_not(app) if is_remote(app.studies) else NO_VIEWER

    def answer(key: str, task: str, user: str) -> None:
        app.infer({"model": task, "image": key, "user": user, "client_id": CLIENT, "save_label": True})

    questions = Questions(app.queue, answer, options.tasks, app.datastore().failures)
    page = PageData(app, questions)
    pixels = StudyPixels(
        app.datastore().studies.ready,
        most_bytes=options.pictures_mib * 2**20,
        policy=options.policy,
        memory_cap_bytes=options.memory_cap_bytes,
    )

    def found(image: str) -> StudySource:
        return app.datastore().source(checked_image(image))

    @router.get("/session")
    def session(user: User = reader) -> dict[str, Any]:
        on = settings.MONAI_LABEL_AUTH_ENABLE
        return page.session(who(user) if on else "", authentication=on, no_viewer=no_viewer)

    @router.get("/worklist")
    def worklist(user: User = reader) -> dict[str, Any]:
        return page.worklist()

    @router.post("/find")
    def find(image: ImageName, user: User = reader) -> dict[str, str]:
        return {"id": found(image).key}

    @router.get("/study/{image}")
    def study(image: str, user: User = reader) -> dict[str, Any]:
        return page.study(found(image))

    @router.post("/study/{image}/ask")
    def ask(image: str, user: User = reader) -> JSONResponse:
        state = questions.ask(found(image).key, who(user))
        return JSONResponse({"state": state}, status_code=202)

    @router.get("/study/{image}/slice/{number}")
    def picture(
        image: str,
        number: int,
        window: str = "abdomen",
        size: int = 512,
        series_hash: str = "",
        user: User = reader,
    ) -> Response:
        shown = same_pixels(pixels.study(found(image)), series_hash)
        content = slice_png(shown, number=number, window=window, size=size)
        return Response(content, media_type="image/png")

    @router.get("/study/{image}/chart/{task}")
    def chart(image: str, task: str, overview: bool = True, user: User = reader) -> dict[str, str]:
        source = found(image)
        answer = page.answers.answer(source.key, checked_model(task, dict.fromkeys(options.tasks)))
        if answer is None:
            raise RequestError("this question was not answered for the study yet", status=404)
        result = answer["result"]
        front = None
        if overview:
            front = overview_picture(same_pixels(pixels.study(source), result["study"]["series_hash"]))
        z_mm = result["geometry"]["slice_z_mm"]
        return {"svg": attention_chart(result["tasks"][0], z_mm, overview=front, chart_id=f"chart-{task}")}

    @router.get("/study/{image}/ohif")
    def viewer(image: str, slice: int, address: bool = False, user: User = reader) -> Response:
        source = found(image)
        uids = app.datastore().studies.archived(source)
        if uids is None or no_viewer:
            raise RequestError(no_viewer or UPLOADED, status=404)
        shown = pixels.study(source)
        check_slice(shown, slice)
        target = (
            f"/ohif/viewer?StudyInstanceUIDs={uids[0]}&initialSeriesInstanceUID={uids[1]}"
            f"&initialSOPInstanceUID={shown.sop_instance_uids[slice - 1]}"
        )
        return JSONResponse({"address": target}) if address else RedirectResponse(target, status_code=303)

    files = {file.name: file for file in sorted(FOLDER.iterdir()) if file.suffix in KINDS}

    @router.get("/", include_in_schema=False)
    def index() -> FileResponse:
        return page_file(files["index.html"])

    @router.get("", include_in_schema=False)
    def without_slash() -> RedirectResponse:
        return RedirectResponse("/radclear/")

    @router.get("/files/{name}", include_in_schema=False)
    def file(name: str) -> FileResponse:
        if name not in files:
            raise RequestError("the page has no such file", status=404)
        return page_file(files[name])

    return router


def page_file(path: pathlib.Path) -> FileResponse:
    """One of the page's own files, under the page's policy."""
    headers = {"Content-Security-Policy": POLICY, "Permissions-Policy": "camera=(), microphone=()"}
    return FileResponse(path, media_type=KINDS[path.suffix], headers=headers)


def same_pixels(study: Study, series_hash: str) -> Study:
    """The study, where it is still the one that was answered.

    Args:
        study: as it is now.
        series_hash: of the one that was answered; empty: any will do.

    Raises:
        lib.request_check.RequestError: 409; the files were changed.
    """
    if series_hash not in ("", study.series_hash):
        raise RequestError(
            "the study's files were changed since it was answered; ask again for answers about what is "
            "there now",
            status=409,
        )
    return study
