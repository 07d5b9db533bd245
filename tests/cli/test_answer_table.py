"""The table of answers is whole in a narrow terminal."""

from __future__ import annotations

import io
from pathlib import Path

from rich.console import Console

from radclear.bundle import RunReport, StudyRecord
from radclear.cli.answer_table import answer_table

KEY = "study-0123456789abcdef"


def printed(*, names: bool) -> str:
    task = {
        "task": "lung_disease",
        "classes": [
            {"name": "consolidation", "probability": 0.78},
            {"name": "ground_glass", "probability": 0.92},
            {"name": "nodule", "probability": 0.57},
            {"name": "effusion", "probability": 0.12},
        ],
        "key_slices": [{"number": 130}, {"number": 132}, {"number": 128}],
    }
    record = StudyRecord(KEY, "DOE[red]^JANE", result={"tasks": [task]}, seconds={"read": 1.5})
    report = RunReport(Path("out"), (record,), (), (), True)
    console = Console(file=io.StringIO(), width=80, color_system=None)
    console.print(answer_table(report, names=names))
    return console.file.getvalue()


def test_keys_are_whole_and_each_class_stands_beside_its_probability():
    text = printed(names=False)
    assert KEY in text
    assert text.index("0.92 ground glass") < text.index("0.78 consolidation") < text.index("0.57 nodule")
    assert "effusion" not in text, "the three most probable classes are shown"
    assert "DOE" not in text


def test_names_are_shown_as_they_are():
    assert "DOE[red]^JANE" in printed(names=True)
