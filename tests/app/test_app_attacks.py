"""Clients that mean harm, against the real server: paths, weights, bodies, crowds, pages, and killing it."""

from __future__ import annotations

import json
import select
import shutil
import socket
from concurrent.futures import ThreadPoolExecutor

import pytest
from app_server import ROOT, START_S, held_audit, launch, needs_monailabel, until
from climbing import SECRET, climbing

from radclear.ct import study_key

pytestmark = needs_monailabel
DICOM = study_key("DOE^JANE_0")


def refused(response) -> bool:
    return 400 <= response.status_code < 500 and SECRET not in response.text and "root:" not in response.text


def test_no_parameter_of_a_get_leads_to_a_file(server, secrets):
    for way in climbing(secrets):
        for path, name, more in (
            ("/datastore/image", "image", {}),
            ("/datastore/image/info", "image", {}),
            ("/datastore/label", "label", {"tag": "original"}),
            ("/datastore/label", "tag", {"label": DICOM}),
            ("/datastore/label/info", "label", {"tag": "original"}),
        ):
            response = server.request("GET", path, params={name: way, **more})
            assert refused(response), (path, name, way, response.status_code)
        info = server.request("GET", "/datastore/label/info", params={"label": DICOM, "tag": way})
        assert refused(info)


def test_no_parameter_of_an_inference_leads_to_a_file(server, secrets):
    for way in climbing(secrets):
        assert refused(server.infer("staging", way)), way
        quoted = way.replace("/", "%2F").replace("\x00", "%00").replace("\\", "%5C")
        assert refused(
            server.request("POST", f"/infer/{quoted}", params={"image": DICOM}, data={"params": "{}"})
        )
        for name in ("image", "model", "model_filename", "label", "label_tag", "result_extension", "series",
                     "bundle_path", "network", "session", "input_path", "description"):  # fmt: skip
            assert refused(server.infer("staging", DICOM, params=json.dumps({name: way}))), (name, way)
        assert refused(server.infer("staging", DICOM, query={"session_id": way}))
        assert refused(server.infer("staging", DICOM, query={"output": way}))


def test_no_parameter_of_a_batch_or_a_strategy_leads_to_a_file(server, secrets):
    for way in climbing(secrets):
        for name in ("bundle_path", "images", "image", "model", "label_tag", "gpus", "device", "logging"):
            assert refused(server.request("POST", "/batch/infer/staging", json={name: way})), (name, way)
        assert refused(server.request("POST", "/batch/infer/staging", params={"images": way}))
        assert refused(server.request("POST", "/activelearning/first", json={"label_tag": way}))
    assert refused(server.request("POST", "/batch/infer/staging?run_sync=true"))
    assert refused(server.request("POST", "/activelearning/..%2Ffirst"))


def test_uploads_go_where_uploads_go(server, secrets):
    """Names that climb are names like any other: they are hashed."""
    scan = (secrets / "other.nii.gz").read_bytes()
    before = {path for path in server.data.parent.rglob("*")}
    name = "../../../../tmp/../x"
    response = server.request(
        "PUT", "/datastore/image", params={"image": name}, files={"file": ("../a/b.nii.gz", scan)}
    )
    assert response.json() == {"image": study_key(name)}
    new = {path for path in server.data.parent.rglob("*")} - before
    assert {path.parent for path in new} <= {
        server.data / "uploads",
        server.data,
        server.data.parent / "app" / "logs",
    }
    assert (
        server.infer("staging", name).status_code == 200
    )  # as the stock Slicer module asks: by its own name
    again = server.request(
        "PUT", "/datastore/image", params={"image": name}, files={"file": ("b.nii.gz", scan)}
    )
    assert again.status_code == 409


@pytest.mark.parametrize(
    ("name", "content", "status"),
    [
        ("x.nii.gz", b"\x1f\x8bnothing", 422),
        ("x.zip", b"PK\x03\x04nothing", 422),
        ("x.pt", b"weights", 415),
        ("x.nii.gz/../../x.sh", b"#!/bin/sh", 415),
        ("x.nii", b"x" * (4 * 2**20 + 200_000), 413),
    ],
)
def test_malformed_and_huge_uploads_are_refused_and_leave_nothing(server, name, content, status):
    uploads = {path for path in (server.data / "uploads").iterdir()}
    response = server.request(
        "PUT", "/datastore/image", params={"image": "bad"}, files={"file": (name, content)}
    )
    assert response.status_code == status, response.text
    assert {path for path in (server.data / "uploads").iterdir()} == uploads


@pytest.mark.parametrize(
    ("method", "path", "field"),
    [
        ("PUT", "/datastore/image", 'name="file"; filename="x.nii"'),
        ("POST", f"/infer/staging?image={DICOM}", 'name="file"; filename="x.nii"'),
        ("POST", "/batch/infer/staging", None),
    ],
)
def test_a_body_without_end_is_cut_off(server, method, path, field):
    def endless():
        yield b"" if field is None else f"--x\r\nContent-Disposition: form-data; {field}\r\n\r\n".encode()
        for _ in range(4096):  # 256 MiB, of which some are taken
            yield b"x" * 2**16

    kind = "application/json" if field is None else "multipart/form-data; boundary=x"
    try:
        status = server.request(method, path, data=endless(), headers={"content-type": kind}).status_code
    except Exception as error:  # the connection is closed while the client still sends
        status = type(error).__name__
    assert status in (413, "ConnectionError", "ChunkedEncodingError")
    assert server.request("GET", "/info/").status_code == 200


@pytest.mark.parametrize("body", [b"{", b"[]", b"null", b"\xff\xfe", b'{"a":' * 3000, b'"x"', b"1e999"])
def test_malformed_json_is_refused(server, body):
    for path in ("/batch/infer/staging", "/activelearning/first"):
        response = server.request("POST", path, data=body, headers={"content-type": "application/json"})
        assert response.status_code in (200, 400, 422) and (response.status_code != 200 or body == b"null"), (
            path
        )
    assert refused(server.infer("staging", DICOM, params=body.decode("latin-1"))) or body == b"null"
    until(lambda: batch_is_over(server))  # that `null` has started: it would be there in the tests to come


def batch_is_over(server) -> bool:
    """Stop a batch; whether there is none any more."""
    server.request("DELETE", "/batch/infer")
    state = server.request("GET", "/batch/infer")
    return state.status_code == 404 or state.json()["status"] not in ("SUBMITTED", "RUNNING")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("PUT", "/model/staging"), ("GET", "/model/staging"), ("DELETE", "/model/staging"),
        ("GET", "/model/info/staging"), ("GET", "/session/x"), ("DELETE", "/session/x"),
        ("GET", "/logs/"), ("GET", "/logs/gpu"), ("POST", "/reload"), ("POST", "/train/"),
        ("POST", "/scoring/x"), ("POST", "/train/x"),
        ("GET", "/proxy/dicom/wado/x"), ("POST", "/infer/wsi/staging"),
        ("POST", "/infer/wsi_v2/staging"), ("PUT", "/datastore/label"), ("DELETE", "/datastore/label"),
        ("DELETE", "/datastore/image"), ("DELETE", "/datastore/"), ("GET", "/datastore/dataset"),
        ("PUT", "/datastore/image/info"), ("PUT", "/datastore/label/info"),
        ("PUT", "/datastore/updatelabelinfo"),
        ("GET", "/docs"), ("GET", "/openapi.json"), ("GET", "/static/ohif/index.html"),
    ],
)  # fmt: skip
def test_what_the_stock_server_offers_beyond_is_not_there(server, method, path):
    """Foreign weights among them: none can be sent, fetched or removed."""
    response = server.request(method, path, files={"file": ("model.pt", b"x")} if method == "PUT" else None)
    assert response.status_code in (404, 405)


def test_weights_that_were_replaced_are_not_served(tmp_path, small_studies):
    bundles = tmp_path / "bundles"
    for name in ("lecl_gated_cnn", "staging_classification"):
        shutil.copytree(ROOT / "bundles" / name, bundles / name)
    weights = bundles / "staging_classification" / "models" / "model.pt"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    server = launch(tmp_path, small_studies, "tasks", "staging", "bundles", str(bundles))
    try:
        assert server.process.wait(timeout=START_S) != 0
    finally:
        server.stop()
    assert "sha256" in server.printed and "damaged or was replaced" in server.printed


def test_pages_of_others_get_nothing(server):
    for origin in ("http://evil.example.org", "null"):
        for method, path in (("GET", "/info/"), ("POST", "/infer/staging"), ("OPTIONS", "/info/")):
            response = server.request(method, path, headers={"Origin": origin})
            assert response.status_code == 403
            assert not [name for name in response.headers if name.lower().startswith("access-control")]
    assert server.request("GET", "/info/", headers={"Host": "evil.example.org"}).status_code == 403
    own = server.request("GET", "/info/", headers={"Origin": server.url})
    assert own.status_code == 200 and "access-control-allow-origin" not in own.headers
    # MONAI Label prints its own default at its import; the app's log puts that right
    assert server.printed.index("Allow Origins: ['*']") < server.printed.index("CORS is closed to pages")


def test_a_crowd_is_answered_or_told_to_wait(server):
    """Fifty at once, of which at most four are in the queue."""
    assert server.infer("staging", DICOM).status_code == 200
    with ThreadPoolExecutor(50) as pool:
        infers = [pool.submit(server.infer, "staging", DICOM) for _ in range(40)]
        infos = [pool.submit(server.request, "GET", "/info/") for _ in range(10)]
        codes = [future.result().status_code for future in infers]
        assert {future.result().status_code for future in infos} == {200}
    assert set(codes) <= {200, 429} and codes.count(200) >= 4
    assert server.infer("staging", DICOM).status_code == 200


def test_clients_that_hang_up_leave_the_line(server):
    """Three questions about a new study wait behind one; their clients go; there is room again at once."""
    running, left = DICOM, study_key("DOE^LONG_3.nii")
    noticed = "refused with 499: the client hung up"
    before = server.printed.count(noticed)
    with ThreadPoolExecutor(3) as pool:
        with held_audit(server):
            assert server.request("POST", f"/radclear/study/{running}/ask").status_code == 202
            told = f"/radclear/study/{running}"
            until(lambda: server.request("GET", told).json()["state"] == "running")
            for number in range(3):
                hang_up(server, left)
                until(lambda number=number: server.printed.count(noticed) == before + number + 1)
            others = [pool.submit(server.infer, "staging", DICOM) for _ in range(3)]
        assert [other.result().status_code for other in others] == [200] * 3
    lines = (server.data / "audit.jsonl").read_text().splitlines()
    answered = [line for line in map(json.loads, lines) if line["event"] == "answer"]
    assert left not in {line["study"] for line in answered}


def hang_up(server, image: str) -> None:
    """Send a question, and close the connection without reading the answer, when the server has read it."""
    body = b'--x\r\nContent-Disposition: form-data; name="params"\r\n\r\n{}\r\n--x--\r\n'
    head = (
        f"POST /infer/staging?image={image} HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n"
        f"Content-Type: multipart/form-data; boundary=x\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(head.encode() + body)
        for _ in range(2):  # what is answered came later
            assert server.request("GET", "/info/").status_code == 200


def test_halves_of_requests_do_not_hold_the_server(server):
    open_ones = []
    for _ in range(20):
        connection = socket.create_connection(("127.0.0.1", server.port))
        connection.sendall(
            b"POST /infer/staging HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100\r\n"
            b"Content-Type: application/x-www-form-urlencoded\r\n\r\nparams="
        )
        open_ones.append(connection)
    assert server.request("GET", "/info/").status_code == 200
    given_up, _, _ = select.select(open_ones, [], [], 0)
    assert given_up == [], "the server answered when it waited for the halves no more"
    for connection in open_ones:
        connection.close()
