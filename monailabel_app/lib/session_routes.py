"""Sessions of the stock Slicer module: the volume of the scene goes into the store of uploads.

The stock module opens a session when a reader runs a model on a volume that is open in Slicer, and asks with
the session's id. Here that id is the study's: nothing is unpacked, kept or found outside the store. What else
the stock module submits is a label; this server takes a reader's verdict instead, and says so.
"""

from __future__ import annotations

import hashlib
import pathlib
from collections.abc import Callable
from contextlib import suppress
from typing import Annotated, Any

from fastapi import APIRouter, File, UploadFile
from monailabel.endpoints.user.auth import User

from lib.datastore import ReadOnlyError
from lib.request_check import checked_image
from lib.uploads import UPLOAD_SUFFIXES, TakenError
from radclear.ct import study_key

NO_LABELS = (
    "labels are not taken: what this server shows are marks on slices, not outlines. Give a verdict on the "
    "answer instead, with the Radclear module of 3D Slicer or on the page /radclear/"
)


def session_router(app: Any, *, reader: Any, annotator: Any, who: Callable[[User], str]) -> APIRouter:
    """The routes at `/session/`, and the answer to a submitted label.

    Args:
        app: the `RadclearApp`.
        reader, annotator: dependencies that let a role in and give its `User`.
        who: a user's name for the audit.
    """
    router = APIRouter()

    @router.put("/session/")
    def begin(files: Annotated[UploadFile, File()], user: User = annotator) -> dict[str, str]:
        name = pathlib.PurePath(files.filename or "").name
        suffix = next((s for s in UPLOAD_SUFFIXES if name.lower().endswith(s)), pathlib.PurePath(name).suffix)
        digest = hashlib.sha256()
        while chunk := files.file.read(2**20):
            digest.update(chunk)
        files.file.seek(0)
        content = f"session-{digest.hexdigest()}"
        key = study_key(content)
        if key not in app.datastore().list_images():  # the same volume again is the same study
            with suppress(TakenError):  # also where it came in meanwhile
                app.datastore().studies.add(
                    content,
                    suffix,
                    files.file,
                    announce=lambda key: app.audit.append("upload", user=who(user), study=key),
                )
        return {"session_id": key}

    @router.get("/session/{session_id}")
    def known(session_id: str, user: User = reader) -> dict[str, str]:
        return {"session_id": app.datastore().source(checked_image(session_id)).key}

    @router.put("/datastore/label")
    def no_labels(user: User = annotator) -> None:
        raise ReadOnlyError(NO_LABELS)

    return router
