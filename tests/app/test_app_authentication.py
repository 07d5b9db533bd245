"""MONAI Label's own authentication in front of every address: tokens of a realm, and their roles."""

from __future__ import annotations

import base64
import json
import time

import pytest
from app_server import ROOT, START_S, TRACES, launch, needs_monailabel, wait_until_up
from realm import PASSWORD, bearer
from slicer_environment import CLIENT, run_client

from radclear.ct import study_key
from radclear.results import validate_result

pytestmark = needs_monailabel
DICOM = study_key("DOE^JANE_0")
ADDRESSES = [
    ("GET", "/info/"),
    ("POST", f"/infer/staging?image={DICOM}"),
    ("GET", "/datastore/?output=all"),
    ("GET", f"/datastore/image?image={DICOM}"),
    ("HEAD", f"/datastore/image?image={DICOM}"),
    ("GET", f"/datastore/image/info?image={DICOM}"),
    ("PUT", "/datastore/image"),
    ("PUT", "/datastore/"),
    ("GET", f"/datastore/label?label={DICOM}&tag=staging"),
    ("GET", f"/datastore/label/info?label={DICOM}&tag=staging"),
    ("POST", "/activelearning/first"),
    ("GET", "/batch/infer"),
    ("POST", "/batch/infer/staging"),
    ("DELETE", "/batch/infer"),
    ("GET", "/datastore/series?study=1.2.3"),
    ("GET", "/dicom-web/studies"),
]


@pytest.fixture(scope="module")
def guarded(tmp_path_factory, small_studies, realm):
    folder = tmp_path_factory.mktemp("guarded")
    server = wait_until_up(launch(folder, small_studies, "tasks", "staging", environment=realm.environment))
    yield server
    server.stop()


@pytest.mark.parametrize(("method", "path"), ADDRESSES)
def test_nothing_is_answered_without_a_token(guarded, method, path):
    assert guarded.request(method, path).status_code == 401


def test_forged_expired_and_foreign_tokens_are_refused(guarded, realm):
    from cryptography.hazmat.primitives.asymmetric import rsa

    other = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = f"-----BEGIN PUBLIC KEY-----\n{realm.public}\n-----END PUBLIC KEY-----"
    head, body, _ = realm.token("admin", "user").split(".")
    none = base64.urlsafe_b64encode(b'{"alg":"none","typ":"JWT"}').decode().rstrip("=")
    tokens = [
        realm.token("user", key=other),
        realm.token("user", exp=int(time.time()) - 10),
        realm.token("user", exp=None),
        f"{none}.{body}.",
        f"{head}.{body}.",
        forged_with_public_key(head, body, pem),
        "nonsense",
    ]
    for token in tokens:
        assert guarded.request("GET", "/info/", headers=bearer(token)).status_code == 401


def forged_with_public_key(head: str, body: str, pem: str) -> str:
    """The public key used as the secret of HS256, which a careless server takes for a signature."""
    import hashlib
    import hmac

    head = base64.urlsafe_b64encode(b'{"alg":"HS256","typ":"JWT"}').decode().rstrip("=")
    signature = hmac.new(pem.encode(), f"{head}.{body}".encode(), hashlib.sha256).digest()
    return f"{head}.{body}.{base64.urlsafe_b64encode(signature).decode().rstrip('=')}"


def test_roles_decide_and_the_audit_says_who(guarded, realm):
    user = bearer(realm.token("user"))
    assert guarded.request("GET", "/info/", headers=user).status_code == 200
    assert guarded.infer("staging", DICOM, headers=user).status_code == 200
    for method, path in (("POST", "/batch/infer/staging"), ("DELETE", "/batch/infer")):
        refused = guarded.request(method, path, headers=user)
        assert refused.status_code == 403
        assert "the role monailabel-admin" in refused.json()["detail"]
        assert "ask the administrator of your sign-in" in refused.json()["detail"]
    upload = guarded.request("PUT", "/datastore/image", headers=user, files={"file": ("x.nii", b"x")})
    assert upload.status_code == 403
    annotator = bearer(realm.token("user", "annotator"))
    upload = guarded.request("PUT", "/datastore/image", headers=annotator, files={"file": ("x.nii", b"x")})
    assert upload.status_code == 422  # let in, and looked at
    assert guarded.request("GET", "/info/", headers=bearer(realm.token())).status_code == 403
    lines = [json.loads(line) for line in (guarded.data / "audit.jsonl").read_text().splitlines()]
    assert [line["user"] for line in lines if line["event"] == "answer"] == ["dr.reader"]


def test_a_reader_signs_in_from_slicer_and_again_when_the_token_ends(guarded, realm, slicer_python, tmp_path):
    """Answers and what was typed stay; the verdict goes out under the name that the token has."""
    ended = realm.token("user", "annotator", exp=int(time.time()) - 10)
    module = ROOT / "monailabel_app" / "slicer" / "Radclear"
    arguments = (module, guarded.url, tmp_path, DICOM, PASSWORD, ended)
    done = run_client(slicer_python, CLIENT / "signing_in.py", *arguments)
    assert done.returncode == 0, done.stderr[-3000:]
    report = json.loads((tmp_path / "report.json").read_text())
    assert "wants your name and your password" in report["no password"]["message"]
    assert report["no password"]["asks"]
    assert report["wrong password"]["message"].startswith("The server does not know this name and password.")
    assert report["connected"]["message"].startswith("Connected.")
    assert not report["connected"]["password kept"] and PASSWORD not in json.dumps(report["settings"])
    (tab,) = report["asked"]["tabs"]
    assert report["verdict after the end"].startswith("The server wants to know who you are.")
    assert report["asked after the end"]["message"].startswith("The server wants to know who you are.")
    assert report["again"]["tabs"] == [tab] and report["still typed"] == "typed once"
    assert report["verdict"].startswith("Stored: agree, dr.reader")


def test_batch_inference_on_the_cpu_stores_results_and_shows_progress(guarded, realm):
    """With the parameters that the stock server has as defaults; a broken study does not stop it."""
    admin = {"headers": bearer(realm.token("user", "admin"))}
    stock = {"device": "cuda", "multi_gpu": True, "gpus": "all", "save_label": True, "label_tag": "original",
             "max_workers": 1, "max_batch_size": 0}  # fmt: skip
    started = guarded.request("POST", "/batch/infer/staging_overlay", json=stock, **admin)
    assert started.status_code == 200, started.text
    second, end = None, time.monotonic() + START_S
    while time.monotonic() < end:
        task = guarded.request("GET", "/batch/infer", **admin).json()
        if task["status"] == "RUNNING" and second is None:
            second = guarded.request("POST", "/batch/infer/staging", **admin)
        if task["status"] not in ("SUBMITTED", "RUNNING"):
            break
        time.sleep(0.5)
    assert task["status"] == "DONE", task
    assert second.status_code == 429
    text = "\n".join(task["details"])
    assert "3 of 3 done" in text and "2 stored, 1 failed" in text
    assert not [trace for trace in (*TRACES, str(guarded.studies)) if trace in text]
    objects = guarded.request("GET", "/datastore/?output=all", **admin).json()["objects"]
    assert sum("staging_overlay" in entry["labels"] for entry in objects.values()) == 2
    query = {"params": {"label": DICOM, "tag": "staging_overlay"}, **admin}
    stored = guarded.request("GET", "/datastore/label", **query)
    fresh = guarded.infer("staging_overlay", DICOM, query={"output": "image"}, **admin)
    assert stored.content == fresh.content and stored.content[:4] == b"NRRD"
    assert guarded.request("HEAD", "/datastore/label", **query).status_code == 200
    info = guarded.request("GET", "/datastore/label/info", **query).json()
    assert info["model"] == "staging_overlay"
    validate_result(info["params"]["result"])


def test_a_server_that_is_told_to_stop_ends_its_batch(guarded, realm):
    """The last in this module: the server is gone afterwards."""
    psutil = pytest.importorskip("psutil")
    admin = {"headers": bearer(realm.token("user", "admin"))}
    assert guarded.request("POST", "/batch/infer/staging", **admin).status_code == 200
    process = psutil.Process(guarded.process.pid)
    end = time.monotonic() + START_S
    while not (children := process.children()) and time.monotonic() < end:
        time.sleep(0.1)
    guarded.process.terminate()
    guarded.process.wait(timeout=START_S)
    gone, alive = psutil.wait_procs(children, timeout=START_S)
    assert len(gone) == 1 and not alive
