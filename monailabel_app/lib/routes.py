"""The addresses that are served. MONAI Label's other ones are taken away.

Its own handlers run on the event loop, so that one inference stops the whole server, and take file names from
clients. Those it has for models, logs, training, proxies and label uploads are not served at all.
"""

from __future__ import annotations

import logging
import pathlib
from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, FastAPI, File, Form, Request, UploadFile
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, RedirectResponse, Response
from monailabel.config import settings
from monailabel.endpoints import login
from monailabel.endpoints.user.auth import User
from monailabel.utils.async_tasks.task import AsyncTask
from starlette.middleware.cors import CORSMiddleware

from lib import authentication
from lib.batch import running_batch
from lib.browser_sessions import BrowserSessions, SessionCookie, sessions_router
from lib.dicomweb_proxy import proxy_router
from lib.guard import Guard
from lib.learning_routes import learning_router
from lib.ohif import ohif_router, why_not
from lib.request_check import (
    BATCH_IMAGES,
    BATCH_PARAMS,
    INFER_PARAMS,
    STRATEGY_PARAMS,
    RequestError,
    check_places,
    checked_image,
    checked_model,
    checked_params,
)
from lib.responses import OUTPUTS, answer_response, error_response, finished, invalid_response
from lib.series_choice import series_router
from lib.session_routes import session_router
from lib.uploads import UPLOAD_SUFFIXES
from lib.verdict_routes import verdict_router
from lib.web_routes import web_router
from radclear.errors import RadclearError

logger = logging.getLogger(__name__)

_MULTIPART_FRAME = 64 * 1024

OptionalFile = Annotated[UploadFile | None, File()]
OptionalBody = Annotated[dict[str, Any] | None, Body()]
user_role = Depends(authentication.Role(settings.MONAI_LABEL_AUTH_ROLE_USER))
annotator_role = Depends(authentication.Role(settings.MONAI_LABEL_AUTH_ROLE_ANNOTATOR))
admin_role = Depends(authentication.Role(settings.MONAI_LABEL_AUTH_ROLE_ADMIN))


def serve(server: FastAPI, app: Any) -> None:
    """Replace the routes of MONAI Label's server, close CORS, and put the guard in front.

    Called while the server starts: what it has built so far is built again.

    Args:
        server: MONAI Label's FastAPI application.
        app: the `RadclearApp`.
    """
    authentication.install()
    sessions = BrowserSessions()
    server.router.routes[:] = build_router(app, sessions).routes
    server.openapi_schema = None
    server.add_exception_handler(RadclearError, error_response(app))
    server.add_exception_handler(RequestValidationError, invalid_response)
    origins = [str(origin) for origin in settings.MONAI_LABEL_CORS_ORIGINS]
    if not origins:
        logger.info("CORS is closed to pages of other servers: MONAI Label's Allow Origins does not hold")
        server.user_middleware[:] = [m for m in server.user_middleware if m.cls is not CORSMiddleware]
    server.middleware_stack = Guard(
        SessionCookie(server.build_middleware_stack(), sessions),
        hosts=app.options.hosts,
        origins=origins,
        upload_bytes=app.options.upload_mib * 2**20 + _MULTIPART_FRAME,
    )


def who(user: User) -> str:
    """The reader's name for the audit."""
    return user.username if settings.MONAI_LABEL_AUTH_ENABLE else "anonymous"


def build_router(app: Any, sessions: BrowserSessions) -> APIRouter:
    """All routes of the app. Those with `def` run in threads, and `infer` in the app's queue."""
    router = APIRouter()
    roles = {"reader": user_role, "annotator": annotator_role}
    router.include_router(ohif_router(app))
    router.include_router(proxy_router(app, reader=user_role))
    router.include_router(series_router(app, reader=user_role))
    if settings.MONAI_LABEL_AUTH_ENABLE:
        router.include_router(login.router)  # MONAI Label's own: a token for a name and a password
        router.include_router(sessions_router(sessions, reader=user_role, no_viewer=why_not(app)))
    router.include_router(web_router(app, reader=user_role, who=who))
    router.include_router(verdict_router(app, **roles, who=who))
    router.include_router(session_router(app, **roles, who=who))
    router.include_router(learning_router(app, **roles, admin=admin_role, who=who))

    @router.get("/")
    def root(request: Request) -> Any:
        if "text/html" in request.headers.get("accept", ""):
            return RedirectResponse("/radclear/")  # a person with a browser
        return {
            "name": "radclear",
            "page": "/radclear/",
            "info": "/info/",
            "datastore": "/datastore/?output=all",
        }

    @router.get("/info/")
    def info(user: User = user_role) -> dict[str, Any]:
        return app.info()

    @router.post("/infer/{model}")
    async def infer(
        request: Request,
        model: str,
        image: str = "",
        session_id: str = "",
        output: str = "all",
        params: str = Form("{}"),
        file: OptionalFile = None,
        label: OptionalFile = None,
        user: User = user_role,
    ) -> Response:
        checked_model(model, app.models())
        kind = request.headers.get("content-type", "")
        check_places(query=request.query_params, form=await request.form(), content_type=kind)
        if file is not None or label is not None:
            raise RequestError(
                "an image is not sent with the question: upload it with PUT /datastore/image, ask for its id"
            )
        if output not in OUTPUTS:
            raise RequestError(f"output has to be one of {', '.join(OUTPUTS)}")
        wanted = {**checked_params(params, INFER_PARAMS), "model": model}
        wanted["image"] = checked_image(session_id or image)
        wanted["user"] = who(user)
        future = app.queue.submit(lambda: app.infer(wanted))
        return answer_response(await finished(request, future, app.options.timeout), model, output)

    @router.get("/datastore/")
    def datastore(output: str = "stats", user: User = user_role) -> Any:
        store = app.datastore()
        return {"all": store.json, "train": store.datalist}.get(output, store.status)()

    @router.api_route("/datastore/image", methods=["GET", "HEAD"])
    def image(image: str, user: User = user_role) -> FileResponse:
        source = app.datastore().source(checked_image(image))
        volumes = app.datastore().volumes
        return FileResponse(volumes.path(source), filename=volumes.name(source))

    @router.put("/datastore/image")
    @router.put("/datastore/", include_in_schema=False)
    def upload(
        file: Annotated[UploadFile, File()],
        image: str | None = None,
        params: str = Form("{}"),
        user: User = annotator_role,
    ) -> dict[str, str]:
        checked_params(params, STRATEGY_PARAMS)
        name = pathlib.PurePath(file.filename or "").name
        suffix = next((s for s in UPLOAD_SUFFIXES if name.lower().endswith(s)), pathlib.PurePath(name).suffix)
        key = app.datastore().studies.add(
            checked_image(image or name.removesuffix(suffix)),
            suffix,
            file.file,
            announce=lambda key: app.audit.append("upload", user=who(user), study=key),
        )
        return {"image": key}

    @router.get("/datastore/image/info")
    def image_info(image: str, user: User = user_role) -> dict[str, Any]:
        return app.datastore().get_image_info(checked_image(image))

    @router.api_route("/datastore/label", methods=["GET", "HEAD"])
    def stored(label: str, tag: str, user: User = user_role) -> FileResponse:
        path = app.datastore().get_label_uri(checked_image(label), tag)
        return FileResponse(path, filename=f"{tag}{pathlib.PurePath(path).suffix}")

    @router.get("/datastore/label/info")
    def stored_info(label: str, tag: str, user: User = user_role) -> dict[str, Any]:
        return app.datastore().get_label_info(checked_image(label), tag)

    @router.post("/activelearning/{strategy}")
    def sample(strategy: str, params: OptionalBody = None, user: User = user_role) -> dict[str, Any]:
        wanted = checked_params(params, {**STRATEGY_PARAMS, "task": "|".join(app.heads())})
        return app.next_sample({**wanted, "strategy": checked_model(strategy, app.strategies())})

    @router.get("/batch/infer")
    def batch_status(all: bool = False, check_if_running: bool = False, user: User = user_role) -> Any:
        found, detail = AsyncTask.status("batch_infer", all)
        if check_if_running:
            found, detail = running_batch(), "no batch is running"
        if found is None:
            raise RequestError(detail, status=404)
        return [shown(app, task) for task in found] if isinstance(found, list) else shown(app, found)

    @router.post("/batch/infer/{model}")
    def batch(
        model: str,
        images: str = "all",
        run_sync: bool = False,
        params: OptionalBody = None,
        user: User = admin_role,
    ) -> dict[str, Any]:
        wanted = checked_params(params, BATCH_PARAMS)
        checked_model(model, app.models())
        if run_sync or images not in BATCH_IMAGES:
            raise RequestError(f"images has to be one of {', '.join(BATCH_IMAGES)}; run_sync is not served")
        if running_batch() is not None:
            raise RequestError("a batch is running; wait for its end, or stop it", status=429)
        request = {"model": model, "images": images, "user": who(user), "gpus": "all"}
        request |= {name: wanted[name] for name in ("max_batch_size", "client_id") if name in wanted}
        app.audit.append(
            "batch", user=who(user), client=wanted.get("client_id", ""), entry=model, images=images
        )
        task, detail = AsyncTask.run("batch_infer", request=request)
        if task is None:
            raise RequestError(f"a batch is running: {detail.strip('+ ')}", status=429)
        return shown(app, task)

    @router.delete("/batch/infer")
    def batch_stop(user: User = admin_role) -> dict[str, Any]:
        task = AsyncTask.stop("batch_infer")
        return {} if task is None else shown(app, task)

    return router


def shown(app: Any, task: dict[str, Any]) -> dict[str, Any]:
    """A background task as clients see it: its state and last lines, without paths of the server."""
    known = {key: task[key] for key in ("id", "status", "start_ts", "end_ts") if key in task}
    request = {key: task["request"][key] for key in ("model", "images") if key in task["request"]}
    lines = [app.log_filter.clean(line) for line in list(task.get("details", ()))]
    return {**known, "request": request, "details": lines}
