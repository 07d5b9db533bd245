"""The way to a DICOMweb archive: its address, password and patience, and what is said where it fails."""

from __future__ import annotations

from typing import Any

import requests
from dicomweb_client import DICOMwebClient
from monailabel.config import settings
from requests.adapters import HTTPAdapter

from radclear.errors import RadclearError

UID = r"(?=[0-9.]{1,64}(?![0-9.]))[0-9]+(?:\.[0-9]+)*"  # what a UID looks like; never ".."
_TIMEOUT_S = (5.0, 60.0)  # to connect, and between two parts of an answer


class ArchiveError(RadclearError):
    """The archive does not answer, or not as DICOMweb; `status` is the HTTP status for our own client."""

    def __init__(self, message: str, *, status: int = 503) -> None:
        super().__init__(message)
        self.status = status


class _Patience(HTTPAdapter):
    def send(self, request: Any, *args: Any, **options: Any) -> requests.Response:
        return super().send(request, *args, **{**options, "timeout": options.get("timeout") or _TIMEOUT_S})


def credentials() -> tuple[str, str]:
    """User and password for the archive, as MONAI Label is given them; empty where it wants none."""
    return (
        settings.MONAI_LABEL_DICOMWEB_USERNAME or settings.MONAI_LABEL_DATASTORE_USERNAME,
        settings.MONAI_LABEL_DICOMWEB_PASSWORD or settings.MONAI_LABEL_DATASTORE_PASSWORD,
    )


def connect(
    url: str, *, user: str = "", password: str = "", qido: str | None = None, wado: str | None = None
) -> DICOMwebClient:
    """A client that gives up when the archive is silent.

    Args:
        url: base address, such as `http://127.0.0.1:8042/dicom-web`.
        user, password: for HTTP basic authentication, where the archive wants it.
        qido, wado: prefixes of its search and retrieve addresses, where it has such.
    """
    session = requests.Session()
    for scheme in ("http://", "https://"):
        session.mount(scheme, _Patience())
    if user:
        session.auth = (user, password)
    client = DICOMwebClient(url=url, session=session, qido_url_prefix=qido, wado_url_prefix=wado)
    client.set_http_retry_params(retry=False)
    return client
