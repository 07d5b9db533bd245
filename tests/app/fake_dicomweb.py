"""A small DICOMweb archive over a folder of DICOM files: search for series, retrieve a series."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest


class FakeArchive:
    """Serves `/dicom-web`; `asked` lists the paths of all requests, `broken` makes every answer an error.

    `cut` breaks a series off in the middle; `withheld` images are left out, as if the series ended early.
    """

    def __init__(self, folder: Path) -> None:
        from pydicom import dcmread

        self.files: dict[tuple[str, str], list[Path]] = {}
        for file in sorted(folder.rglob("*.dcm")):
            header = dcmread(file, stop_before_pixels=True)
            self.files.setdefault((header.StudyInstanceUID, header.SeriesInstanceUID), []).append(file)
        self.asked: list[str] = []
        self.broken = False
        self.cut = False
        self.withheld = 0
        archive = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *args) -> None:
                pass

            def do_GET(self) -> None:
                path = urlsplit(self.path).path.removeprefix("/dicom-web")
                archive.asked.append(path)
                if archive.broken:
                    return self._send(503, "text/plain", b"gone")
                if path == "/series":
                    return self._send(200, "application/dicom+json", archive.listing())
                _, _, study, _, series = path.split("/")[:5]
                body = b"".join(
                    b"--edge\r\nContent-Type: application/dicom\r\n\r\n" + file.read_bytes() + b"\r\n"
                    for file in archive.files[study, series][archive.withheld :]
                )
                kind = 'multipart/related; type="application/dicom"; boundary=edge'
                self._send(200, kind, body + b"--edge--\r\n", cut=archive.cut)

            def _send(self, status: int, kind: str, body: bytes, *, cut: bool = False) -> None:
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body[: len(body) // 2] if cut else body)
                self.close_connection = cut

        self.httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.httpd.server_port}/dicom-web"
        threading.Thread(target=self.httpd.serve_forever, daemon=True).start()

    def listing(self) -> bytes:
        entries = [
            {
                "0020000D": {"vr": "UI", "Value": [study]},
                "0020000E": {"vr": "UI", "Value": [series]},
                "00201209": {"vr": "IS", "Value": [len(files)]},
            }
            for (study, series), files in self.files.items()
        ]
        evil = {"0020000D": {"vr": "UI", "Value": ["../.."]}, "0020000E": {"vr": "UI", "Value": ["../../x"]}}
        return json.dumps([*entries, evil]).encode()

    def close(self) -> None:
        self.httpd.shutdown()
        self.httpd.server_close()


@pytest.fixture(scope="module")
def archive(small_studies):
    """An archive of one study, for a server that is not asked to meet its failures."""
    served = FakeArchive(small_studies / "DOE^JANE_0")
    yield served
    served.close()
