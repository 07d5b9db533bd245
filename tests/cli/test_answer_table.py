"""The tables of answers are whole in a narrow terminal."""

from __future__ import annotations

import io
from pathlib import Path

from rich.console import Console

from radclear.bundle import RunReport, StudyRecord
from radclear.cli.answer_table import answer_tables, input_warnings

KEY = "study-0123456789abcdef"


def report(**points: float) -> RunReport:
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
    for entry in task["classes"]:
        entry["operating_point"] = points.get(entry["name"])
    warnings = [
        {"code": "gap", "task": None, "message": "a slice is missing"},
        {"code": "demonstration_weights", "task": "lung_disease", "message": "only demonstrates"},
        {"code": "unlike_training", "task": "lung_disease", "message": "distance 4.6"},
    ]
    result = {"tasks": [task], "warnings": warnings}
    record = StudyRecord(KEY, "DOE[red]^JANE", result=result, seconds={"read": 1.5})
    return RunReport(Path("out"), (record,), (), (), True)


def printed(*, names: bool, **points: float) -> str:
    console = Console(file=io.StringIO(), width=80, color_system=None)
    for table in answer_tables(report(**points), names=names):
        console.print(table)
    return console.file.getvalue()


def test_keys_are_whole_and_each_class_stands_beside_its_probability():
    text = printed(names=False)
    assert KEY in text
    lines = [line.split("│") for line in text.splitlines() if line.startswith("│")]
    assert [(line[2].strip(), line[3].strip()) for line in lines] == [
        ("ground glass", "0.92"), ("consolidation", "0.78"), ("nodule", "0.57")
    ]  # fmt: skip
    assert lines[0][4].strip() == "130, 132, 128" and lines[0][5].strip() == "1.5"
    assert "effusion" not in text, "the three most probable classes are shown"
    assert "DOE" not in text


def test_probabilities_have_the_digits_of_the_report():
    text = printed(names=False, nodule=0.571)
    assert "0.920" in text and "0.570" in text


def test_names_are_shown_as_they_are():
    assert "DOE[red]^JANE" in printed(names=True)


def test_warnings_about_the_input_are_listed_and_those_about_weights_are_not():
    (strange, missing) = input_warnings(report())
    assert strange[0] == KEY and strange[1].startswith("Lung disease: the images look unlike those that")
    assert missing == (KEY, "A slice is missing.")
