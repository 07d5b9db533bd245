"""The audit only grows, survives processes that are killed, and shows what was changed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from lib.audit import FIRST, Audit, AuditError, verify_audit

APP = Path(__file__).resolve().parents[2] / "monailabel_app"
WRITER = """
import sys, itertools
from lib.audit import Audit
audit = Audit(sys.argv[1])
for number in itertools.count():
    audit.append("answer", number=number, filling="x" * 2000)
"""


def records(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_lines_are_chained_and_for_the_owner_only(tmp_path):
    audit = Audit(tmp_path / "audit.jsonl")
    audit.append("start", version="1")
    audit.append("answer", answer={"lung": 0.5})
    first, second = records(audit.path)
    assert first["prev"] == FIRST and second["prev"] != FIRST
    assert second["event"] == "answer" and second["answer"] == {"lung": 0.5}
    assert second["time"] >= first["time"] and first["time"].endswith("+00:00")
    assert oct(audit.path.stat().st_mode & 0o777) == "0o600"
    assert verify_audit(audit.path) == (2, [])


def test_threads_and_processes_do_not_break_the_chain(tmp_path):
    path = tmp_path / "audit.jsonl"
    audits = [Audit(path), Audit(path)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: audits[n % 2].append("answer", number=n), range(80)))
    assert verify_audit(path) == (80, [])
    assert sorted(record["number"] for record in records(path)) == list(range(80))


@pytest.mark.parametrize("change", ["edit", "remove"])
def test_a_changed_or_missing_line_is_found(tmp_path, change):
    audit = Audit(tmp_path / "audit.jsonl")
    for number in range(4):
        audit.append("answer", number=number)
    lines = audit.path.read_text().splitlines()
    lines[1:2] = [lines[1].replace('"number": 1', '"number": 7')] if change == "edit" else []
    audit.path.write_text("\n".join(lines) + "\n")
    with pytest.raises(AuditError, match="does not follow"):
        verify_audit(audit.path)


def test_half_a_line_stays_and_the_chain_goes_on(tmp_path):
    audit = Audit(tmp_path / "audit.jsonl")
    audit.append("answer", number=0)
    with open(audit.path, "a") as file:
        file.write('{"time": "20')
    audit.append("answer", number=1)
    assert verify_audit(audit.path) == (3, [2])


def test_a_process_killed_while_writing_loses_no_finished_line(tmp_path):
    path = tmp_path / "audit.jsonl"
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path)],
        env={**os.environ, "PYTHONPATH": f"{APP}{os.pathsep}{APP.parent}"},
    )
    end = time.monotonic() + 60
    while (not path.exists() or path.read_bytes().count(b"\n") < 20) and time.monotonic() < end:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = path.read_bytes().count(b"\n")
    Audit(path).append("start")
    n_lines, broken = verify_audit(path)
    assert before >= 20 and n_lines >= before + 1 and len(broken) <= 1
    numbers = [json.loads(line)["number"] for line in path.read_text().splitlines()[:before]]
    assert numbers == list(range(before))


def test_what_cannot_be_written_is_an_error(tmp_path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(AuditError, match="cannot be written"):
        Audit(tmp_path / "folder").append("start")
    with pytest.raises(AuditError, match="longer than"):
        Audit(tmp_path / "audit.jsonl").append("start", filling="x" * 70_000)
    with pytest.raises(ValueError):
        Audit(tmp_path / "audit.jsonl").append("start", number=float("nan"))
    assert not (tmp_path / "audit.jsonl").read_bytes()
