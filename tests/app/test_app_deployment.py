"""What `deploy/` and its how-to hold, with the parts that they speak of: nginx, systemd, tar, a server."""

from __future__ import annotations

import base64
import re
import shlex
import shutil
import ssl
import subprocess
import time
from http.client import HTTPConnection

import pytest
from app_server import ROOT, launch, needs_monailabel, wait_until_up
from lib.audit import verify_audit
from lib.options import read_options
from proxy_server import NAME, needs_nginx, start_proxy

from radclear.ct import study_key

pytestmark = needs_monailabel
GUIDE = (ROOT / "docs" / "how-to" / "deploy.md").read_text(encoding="utf-8")
UNIT = ROOT / "deploy" / "radclear.service"
CONTAINER = (ROOT / "deploy" / "Containerfile").read_text(encoding="utf-8")
IMAGE = study_key("ROE_RICHARD.nii.gz")


@pytest.fixture(scope="module")
def served(tmp_path_factory, small_studies):
    """A server that has a name, as behind a proxy."""
    folder = tmp_path_factory.mktemp("deployed")
    running = wait_until_up(
        launch(folder, small_studies, "hosts", NAME, "upload_mib", "4", "tasks", "staging")
    )
    yield running
    running.stop()


@pytest.fixture(scope="module")
def proxy(tmp_path_factory, served):
    running = start_proxy(tmp_path_factory.mktemp("nginx"), served.port)
    yield running
    running.stop()


@needs_nginx
def test_pages_and_answers_come_through_nginx_over_tls(proxy, served):
    status, headers, body = proxy.ask("GET", "/radclear/")
    assert status == 200 and b"<html" in body
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert headers["Strict-Transport-Security"] and headers["X-Content-Type-Options"] == "nosniff"
    form = {"content_type": "application/x-www-form-urlencoded", "origin": f"https://{NAME}:{proxy.port}"}
    status, _, body = proxy.ask("POST", f"/infer/staging?image={IMAGE}", body=b"params={}", **form)
    assert status == 200 and b"prediction" in body
    end = time.monotonic() + 60
    while " POST 200 " not in proxy.log.read_text() and time.monotonic() < end:
        time.sleep(0.1)  # nginx writes its line after the answer
    assert " POST 200 " in proxy.log.read_text() and IMAGE not in proxy.log.read_text()
    assert '"entry":"staging"' in (served.data / "audit.jsonl").read_text().replace(" ", "")


@needs_nginx
def test_without_tls_there_is_only_the_way_to_it(proxy):
    connection = HTTPConnection("127.0.0.1", proxy.plain_port, timeout=60)
    connection.request("GET", "/info/", headers={"Host": NAME})
    answer = connection.getresponse()
    assert answer.status == 301 and answer.headers["Location"] == f"https://{NAME}/info/"


@needs_nginx
def test_other_names_and_pages_of_others_get_nothing(proxy, served):
    with pytest.raises(ssl.SSLError):
        proxy.ask("GET", "/info/", name="other.example.org")
    assert proxy.ask("GET", "/info/", host="other.example.org")[0] == 421
    status, _, body = proxy.ask("GET", "/info/", origin="https://other.example.org")
    assert status == 403 and b"another server" in body
    direct = served.request("GET", "/info/", headers={"Host": "other.example.org"})
    assert direct.status_code == 403 and "--conf hosts" in direct.json()["detail"]


@needs_nginx
def test_bodies_are_bounded_by_nginx_and_by_the_server(proxy):
    assert proxy.ask("POST", "/infer/staging?image=x", body=b"x" * (2**20 + 1))[0] == 413
    assert proxy.ask("PUT", "/datastore/image?image=x", content_length=str(1025 * 2**20))[0] == 413
    boundary = {"content_type": "multipart/form-data; boundary=edge"}
    head = b'--edge\r\nContent-Disposition: form-data; name="file"; filename="x.nii"\r\n\r\n'
    status, _, body = proxy.ask(
        "PUT", "/datastore/image?image=x", body=head + bytes(6 * 2**20) + b"\r\n--edge--\r\n", **boundary
    )
    assert status == 413 and b"larger" in body


@needs_nginx
def test_passwords_in_nginx_as_the_guide_has_them(tmp_path, served):
    """Before a server without authentication: it knows no names."""
    (lines,) = re.findall(r"^```nginx\n(auth_basic .*?)```", GUIDE, re.MULTILINE | re.DOTALL)
    hashed = subprocess.run(["openssl", "passwd", "-apr1", "a word"], capture_output=True, text=True)
    (tmp_path / "htpasswd").write_text(f"dr.reader:{hashed.stdout}")
    lines, count = re.subn(r"/etc/nginx/radclear\.htpasswd", str(tmp_path / "htpasswd"), lines)
    assert count == 1
    proxy = start_proxy(tmp_path, served.port, signin=lines)
    try:
        for headers in ({}, basic("dr.reader", "wrong"), basic("nobody", "a word")):
            assert proxy.ask("GET", "/info/", **headers)[0] == 401
            assert proxy.ask("GET", "/radclear/", **headers)[0] == 401
        known = basic("dr.reader", "a word")
        assert proxy.ask("GET", "/info/", **known)[0] == 200
        assert proxy.ask("GET", "/radclear/", **known)[0] == 200
        foreign = {**known, "origin": "https://other.example.org"}  # browsers send passwords along
        assert proxy.ask("POST", "/infer/staging?image=x", body=b"params={}", **foreign)[0] == 403
    finally:
        proxy.stop()


def basic(user: str, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_finds_nothing_wrong_with_the_unit(tmp_path):
    program = "/opt/radclear/.venv/bin/python"
    text = UNIT.read_text(encoding="utf-8")
    assert program in text
    unit = tmp_path / UNIT.name
    unit.write_text(text.replace(program, "/bin/true"), encoding="utf-8")
    found = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True)
    assert (found.returncode, found.stderr) == (0, "")


def test_options_in_unit_container_and_settings_are_options_of_the_app():
    texts = (
        UNIT.read_text(encoding="utf-8"),
        (ROOT / "deploy" / "radclear.env").read_text(encoding="utf-8"),
        re.sub(r'"|,|\\\n', " ", CONTAINER),
        GUIDE,
    )
    for text in texts:
        pairs = re.findall(r"--conf\s+(\w+)\s+([\w./:,]+)", text)
        assert pairs and read_options(dict(pairs))


def test_the_container_takes_what_the_checkout_has():
    for line in re.findall(r"^COPY (.*) \S+$", CONTAINER, re.MULTILINE):
        assert all((ROOT / name).exists() for name in line.split())
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    assert {".git", "monailabel_app/logs", "tests"} <= set(ignored)


def test_a_backup_of_the_running_server_is_restored(served, tmp_path):
    """The commands of the how-to, on other folders."""
    scan = (served.studies / "ROE_RICHARD.nii.gz").read_bytes()
    sent = served.request(
        "PUT", "/datastore/image", params={"image": "kept"}, files={"file": ("x.nii.gz", scan)}
    )
    assert sent.status_code == 200
    kept = study_key("kept")
    served.request("POST", f"/radclear/study/{kept}/ask")
    first = served.infer("staging", kept).json()  # waits in the same queue, so the stored answer is there
    stored = served.data / "labels" / "staging" / f"{kept}.json"
    assert stored.is_file()

    restored = tmp_path / "data"
    restored.mkdir()
    for place in (served.data, restored):
        (command,) = [
            line
            for line in GUIDE.splitlines()
            if line.startswith("tar --create" if place is served.data else "tar --extract")
        ]
        words = shlex.split(
            command.replace("/srv/backup/", f"{tmp_path}/").replace("/var/lib/radclear", str(place))
        )
        assert subprocess.run(words).returncode in (0, 1)  # 1: a file grew meanwhile
    assert not (restored / "volumes").exists()
    assert (restored / "labels" / "staging" / stored.name).read_bytes() == stored.read_bytes()
    lines = verify_audit(restored / "audit.jsonl")[0]

    again = wait_until_up(launch(tmp_path, served.studies, "tasks", "staging"))
    try:
        assert again.data == restored
        found = again.request("GET", f"/radclear/study/{kept}").json()
        assert found["state"] == "answered" and found["tasks"][0]["task"] == "staging"
        assert again.infer("staging", kept).json()["prediction"] == first["prediction"]
        assert verify_audit(restored / "audit.jsonl") == (lines + 2, [])
    finally:
        again.stop()


def test_the_guide_names_the_files_of_the_folder_and_no_others():
    named = set(re.findall(r"deploy/([A-Za-z-]+(?:\.\w+)?)", GUIDE))
    assert named == {file.name for file in (ROOT / "deploy").iterdir()}
