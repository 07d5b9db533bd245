"""What a request leaves behind beside its answer: kept for the worklist, or nothing at all."""

from __future__ import annotations

import json
import tempfile
from types import SimpleNamespace

import pytest
from app_server import needs_monailabel

pytestmark = needs_monailabel
KEY = "study-1"


@pytest.fixture
def store(tmp_path):
    """A store of one study of a folder, whose own series failed before."""
    from lib.failures import Failures
    from lib.labels import LabelFiles

    labels = LabelFiles(tmp_path / "labels")
    failures = Failures(labels.folder, lambda text: text)
    failures.record(KEY, "staging", "it could not be read")
    source = SimpleNamespace(key=KEY, name=KEY)
    return SimpleNamespace(
        source=lambda image, series=None: source,
        studies=SimpleNamespace(ready=lambda s: s, archived=lambda s: None),
        failures=failures,
        labels=labels,
        save_label=labels.save,
    )


def ask(store, **params):
    from lib.answering import answer_request

    class Task:
        head = SimpleNamespace(task="staging")

        def __call__(self, request):
            return None, {"result": {"study": {}}, "label_names": {}}

    return answer_request({"staging": Task()}, store, {"model": "staging", "image": KEY, **params})


def test_an_answer_about_another_series_leaves_the_studys_failure(store):
    ask(store, series="1.2")
    assert store.failures.of_study(KEY, ["staging"])[0].reason == "it could not be read"
    assert store.labels.tags(KEY) == []
    ask(store)
    assert store.failures.of_study(KEY, ["staging"]) == [] and store.labels.tags(KEY) == ["staging"]


def test_a_failure_ends_when_the_answer_is_there_and_not_before(store, monkeypatch):
    """So that the page, which looks at both, never finds neither."""
    seen = []
    monkeypatch.setattr(store.failures, "clear", lambda key, task: seen.append(store.labels.tags(key)))
    ask(store)
    assert seen == [["staging"]]


def test_a_full_disk_costs_no_answer_and_leaves_no_file(store, tmp_path, monkeypatch):
    def full(*args, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(json, "dump", full)
    assert ask(store)["params"]["result"] == {"study": {}}
    assert not list(tmp_path.glob("radclear-*"))
