from __future__ import annotations

import json
import os

import pytest

from radclear.results import ResultError, read_result, write_atomically, write_result


def test_both_files_are_written_and_read_back(result, study, tmp_path):
    json_path, html_path = write_result(result, tmp_path / "new" / "folder", stem="study-1", study=study)
    assert (json_path.name, html_path.name) == ("study-1.json", "study-1.html")
    assert read_result(json_path) == result
    assert html_path.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    assert sorted(path.name for path in json_path.parent.iterdir()) == ["study-1.html", "study-1.json"]


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_crash_before_the_rename_leaves_the_old_file(tmp_path, monkeypatch, step):
    target = tmp_path / "result.json"
    write_atomically(target, b"old")

    def crash(*_):
        raise OSError("no space left on device")

    monkeypatch.setattr(os, step, crash)
    with pytest.raises(OSError, match="no space left"):
        write_atomically(target, b"new")
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_killed_writer_leaves_the_old_file(tmp_path):
    """The child dies without any clean-up after the content is on the disk and before the rename."""
    target = tmp_path / "result.json"
    write_atomically(target, b"old")
    child = os.fork()
    if child == 0:
        os.replace = lambda *_: os._exit(9)
        write_atomically(target, b"new")
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WEXITSTATUS(status) == 9
    assert target.read_bytes() == b"old"
    assert [path.suffix for path in tmp_path.iterdir() if path != target] == [".tmp"]
    write_atomically(target, b"newer")  # what is left behind does no harm
    assert target.read_bytes() == b"newer"


def test_the_json_comes_last(result, tmp_path, monkeypatch):
    order = []
    rename = os.replace
    monkeypatch.setattr(os, "replace", lambda a, b: (order.append(str(b)[-5:]), rename(a, b))[1])
    write_result(result, tmp_path)
    assert order == [".html", ".json"]


def test_an_invalid_result_writes_nothing(result, tmp_path):
    result["tasks"][0]["classes"][0]["probability"] = float("nan")
    with pytest.raises(ResultError, match="probability is nan"):
        write_result(result, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("stem", ["../x", "a/b", "", ".hidden", "a\\b", "x" * 200])
def test_the_stem_must_be_a_plain_file_name(result, tmp_path, stem):
    with pytest.raises(ResultError, match="expected a plain file name"):
        write_result(result, tmp_path, stem=stem)


def test_reading_refuses_what_is_not_a_result(tmp_path, result):
    path = tmp_path / "result.json"
    path.write_text("{")
    with pytest.raises(ResultError, match="is not JSON"):
        read_result(path)
    path.write_text(json.dumps(result | {"schema_version": "0.9"}))
    with pytest.raises(ResultError, match="schema_version"):
        read_result(path)
    path.write_text("[]")
    with pytest.raises(ResultError, match="not a radclear result"):
        read_result(path)
