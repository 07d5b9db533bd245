"""No text parameter of any route leads to a file: the routes themselves say which there are."""

from __future__ import annotations

import json
from unittest.mock import MagicMock
from urllib.parse import quote

from app_server import needs_monailabel
from climbing import SECRET, climbing

from radclear.ct import study_key

pytestmark = needs_monailabel
DICOM = study_key("DOE^JANE_0")
#: What a request needs beside the parameter that is tried.
GOOD = {
    "model": "staging",
    "task": "staging",
    "version": "bundled",
    "strategy": "first",
    "image": DICOM,
    "label": DICOM,
    "tag": "staging",
    "study": DICOM,
    "session_id": DICOM,
    "number": "1",
    "name": "front",
    "path": "studies",
}
VERDICT = {"image": DICOM, "task": "staging", "verdict": "correct", "classes": ["II"], "reader": "Ada"}
HASHES = {name: "0" * 64 for name in ("weights_sha256", "backbone_sha256", "series_hash")}


def routes(router) -> list:
    """All routes of a router and of those that it includes."""
    found = []
    for route in router.routes:
        inner = getattr(route, "original_router", None)  # how newer FastAPI keeps an included router
        found += [route] if inner is None else routes(inner)
    return found


def parameters() -> list[tuple[str, str, list[str], str]]:
    """Method, path, all text parameters of the query, and the parameter that is tried."""
    from lib.browser_sessions import BrowserSessions
    from lib.routes import build_router

    tried = []
    for route in routes(build_router(MagicMock(studies="/studies"), BrowserSessions())):
        if not hasattr(route, "dependant"):
            continue
        in_path = [p.name for p in route.dependant.path_params]
        in_query = [p.name for p in route.dependant.query_params]
        for method in sorted(route.methods - {"HEAD", "OPTIONS"}):
            tried += [(method, route.path, in_query, name) for name in (*in_path, *in_query)]
    return tried


def test_every_route_is_known_here():
    """So that none is left out where FastAPI keeps its routes in another way."""
    found = {(method, path) for method, path, _, _ in parameters()}
    assert len(found) > 20
    for method, path in (
        ("GET", "/datastore/series"),
        ("GET", "/radclear/verdicts"),
        ("GET", "/radclear/study/{image}"),
        ("GET", "/dicom-web/{path:path}"),
        ("POST", "/train/{task}"),
        ("POST", "/scoring/{task}"),
        ("POST", "/infer/{model}"),
        ("POST", "/radclear/models/{task}/{version}"),
        ("POST", "/activelearning/{strategy}"),
    ):
        assert (method, path) in found, path


def test_no_parameter_of_any_route_leads_to_a_file(server, secrets):
    before = {path for path in server.data.parent.rglob("*") if path.is_file()}
    for method, path, in_query, name in parameters():
        for way in climbing(secrets):
            values = {**GOOD, name: way}
            filled = path
            for key, value in values.items():
                for place in (f"{{{key}}}", f"{{{key}:path}}"):
                    filled = filled.replace(place, quote(value, safe=""))
            query = {key: values[key] for key in in_query if key in values}
            data = {"params": "{}"} if path.startswith("/infer/") else None
            reply = server.request(method, filled, params=query, data=data, allow_redirects=False)
            about = (method, path, name, way, reply.status_code)
            assert reply.status_code < 500, about
            assert SECRET not in reply.text and "root:" not in reply.text, about
            assert str(secrets) not in reply.text, about
            # A client takes dots out of an address, and all addresses of the viewer are its one page.
            if f"{{{name}" in path and way not in (".", "..") and not path.startswith("/ohif/"):
                assert not 200 <= reply.status_code < 300, about
    left = {path for path in server.data.parent.rglob("*") if path.is_file()} - before
    answer = server.data / "labels" / "staging" / f"{DICOM}.json"
    left -= {answer, answer.with_suffix(".info.json")}
    assert not [path for path in left if "labels" in path.parts or "uploads" in path.parts], left


def test_no_field_of_a_verdict_or_of_a_search_leads_to_a_file(server, secrets):
    for way in climbing(secrets):
        for name in (*VERDICT, *HASHES, "comment", "path"):
            body = {**VERDICT, **HASHES, name: [way] if name == "classes" else way}
            reply = server.request("POST", "/radclear/verdicts", json=body)
            assert 400 <= reply.status_code < 500 and SECRET not in reply.text, (name, way, reply.status_code)
        reply = server.request("POST", "/radclear/find", json={"image": way})
        assert 400 <= reply.status_code < 500 and SECRET not in reply.text, (way, reply.status_code)
    given = server.request("GET", f"/radclear/verdicts?image={DICOM}").json()["verdicts"]
    assert SECRET not in json.dumps(given)
