"""A real nginx with the site of `deploy/nginx.conf` and a certificate made for it, in front of a server."""

from __future__ import annotations

import http.client
import os
import re
import shutil
import socket
import ssl
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from app_server import ROOT, free_port

NAME = "ct.example.org"
NGINX = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")
needs_nginx = pytest.mark.skipif(
    NGINX is None or shutil.which("openssl") is None,
    reason="nginx or openssl is not installed (as root: tests/app/install_viewers.sh)",
)
_MAIN = """daemon off;
{user}
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{}}
http {{
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/site.conf;
}}
"""


@dataclass
class Proxy:
    """A running nginx.

    Attributes:
        plain_port, port: without and with TLS.
        certificate: that clients trust.
        log: of its site.
    """

    process: subprocess.Popen
    plain_port: int
    port: int
    certificate: Path
    log: Path

    def ask(self, method: str, path: str, *, body: bytes = b"", name: str = NAME, **headers: str):
        """A request over TLS as a browser sends it that knows the server by `name`.

        Returns:
            Status, headers and body.
        """
        context = ssl.create_default_context(cafile=str(self.certificate))
        host = headers.pop("host", f"{NAME}:{self.port}")
        connection = http.client.HTTPConnection(host)
        with socket.create_connection(("127.0.0.1", self.port), timeout=60) as plain:
            connection.sock = context.wrap_socket(plain, server_hostname=name)
            sent = {key.replace("_", "-"): value for key, value in headers.items()}
            connection.request(method, path, body=body or None, headers={"Host": host, **sent})
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(timeout=20)


def start_proxy(folder: Path, server_port: int, *, signin: str = "") -> Proxy:
    """Start nginx with the site as it is shipped; only ports and places are others.

    Args:
        folder: for certificate, configuration and logs.
        server_port: of the server behind.
        signin: what the site's sign-in file holds; empty: the site has none, as shipped.
    """
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30", "-subj", f"/CN={NAME}",
         "-addext", f"subjectAltName=DNS:{NAME}", "-keyout", str(key), "-out", str(certificate)],
        check=True, capture_output=True,
    )  # fmt: skip
    plain, port = free_port(), free_port()
    site = (ROOT / "deploy" / "nginx.conf").read_text(encoding="utf-8")
    for pattern, other in (
        (r"listen \[::\].*\n", "\n"),
        (r"listen 443", f"listen 127.0.0.1:{port}"),
        (r"listen 80", f"listen 127.0.0.1:{plain}"),
        (r"(ssl_certificate +)\S+;", rf"\1{certificate};"),
        (r"(ssl_certificate_key +)\S+;", rf"\1{key};"),
        (r"/var/log/nginx", str(folder)),
        (r"http://127.0.0.1:8000", f"http://127.0.0.1:{server_port}"),
        (r"#include \S+;", f"include {folder}/signin.conf;"),
    ):
        site, count = re.subn(pattern, other, site)
        assert count, f"deploy/nginx.conf has no {pattern}"
    (folder / "site.conf").write_text(site, encoding="utf-8")
    (folder / "signin.conf").write_text(signin, encoding="utf-8")
    user = "user root;" if os.geteuid() == 0 else ""  # pytest's folders are for whoever runs it
    (folder / "nginx.conf").write_text(_MAIN.format(folder=folder, user=user), encoding="utf-8")
    command = [NGINX, "-p", str(folder), "-c", str(folder / "nginx.conf")]
    checked = subprocess.run([*command, "-t"], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stderr
    proxy = Proxy(subprocess.Popen(command), plain, port, certificate, folder / "radclear.log")
    end = time.monotonic() + 60
    while time.monotonic() < end:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return proxy
        except OSError:
            time.sleep(0.05)
    proxy.stop()
    pytest.fail("nginx does not take connections: " + (folder / "error.log").read_text())
