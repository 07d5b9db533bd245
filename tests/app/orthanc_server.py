"""Debian's Orthanc in a process of its own: filled with series, killed, started again over the same data."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path

import pytest
from app_server import START_S, free_port

requests = pytest.importorskip("requests", reason="requests is not installed (MONAI Label brings it)")

PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
needs_orthanc = pytest.mark.skipif(
    shutil.which("Orthanc", path=os.environ.get("PATH", "") + ":/usr/sbin") is None or not PLUGIN.exists(),
    reason="Orthanc is not installed; as root on Debian: apt-get install orthanc orthanc-dicomweb",
)


class Orthanc:
    """An archive that answers this machine and this password only.

    Attributes:
        url: of its DICOMweb service.
        environment: variables that let a MONAI Label server in.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.root = f"http://127.0.0.1:{self.port}"
        self.url = f"{self.root}/dicom-web"
        self.password = secrets.token_hex(16)
        self.environment = {
            "MONAI_LABEL_DATASTORE_USERNAME": "reader",
            "MONAI_LABEL_DATASTORE_PASSWORD": self.password,
            "NO_PROXY": "127.0.0.1",
            "no_proxy": "127.0.0.1",
        }
        self.process: subprocess.Popen | None = None
        self.settings = folder / "orthanc.json"
        settings = {
            "Name": "tests",
            "StorageDirectory": str(folder / "db"),
            "IndexDirectory": str(folder / "db"),
            "HttpPort": self.port,
            "DicomServerEnabled": False,
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": True,
            "RegisteredUsers": {"reader": self.password},
            "Plugins": [str(PLUGIN)],
            "DicomWeb": {"Enable": True, "Root": "/dicom-web/", "EnableWado": False},
        }
        self.settings.write_text(json.dumps(settings))

    def start(self) -> Orthanc:
        """Start it and wait until it answers."""
        with open(self.folder / "orthanc.log", "a") as log:
            self.process = subprocess.Popen(
                ["/usr/sbin/Orthanc", str(self.settings)], stdout=log, stderr=subprocess.STDOUT
            )
        end = time.monotonic() + START_S
        while time.monotonic() < end:
            if self.process.poll() is not None:
                pytest.fail("Orthanc ended:\n" + (self.folder / "orthanc.log").read_text()[-2000:])
            try:
                if self.request("GET", "/system").status_code == 200:
                    return self
            except requests.ConnectionError:
                time.sleep(0.1)
        self.kill()
        pytest.fail("Orthanc does not answer:\n" + (self.folder / "orthanc.log").read_text()[-2000:])

    def request(self, method: str, path: str, **options) -> requests.Response:
        """A request to Orthanc itself, through no proxy."""
        with requests.Session() as session:
            session.trust_env = False
            session.auth = ("reader", self.password)
            return session.request(method, self.root + path, **{"timeout": 60, **options})

    def store(self, files: Iterable[Path]) -> None:
        """Put DICOM files into the archive."""
        for file in files:
            assert self.request("POST", "/instances", data=file.read_bytes()).status_code == 200

    def kill(self) -> None:
        """End it at once, as a crash does."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
