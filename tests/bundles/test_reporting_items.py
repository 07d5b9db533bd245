"""The cards answer the items of TRIPOD+AI and CLAIM 2024 that apply, and point at what is there."""

from __future__ import annotations

import json
import re

import pytest
from bundle_fixtures import BACKBONES, HEADS, ROOT

from radclear.bundle import read_metadata
from radclear.bundle.copying import copy_bundle
from radclear.cli import build_parser

#: Item → numbers in TRIPOD+AI (doi:10.1136/bmj-2023-078378) and in CLAIM 2024 (doi:10.1148/ryai.240300).
ITEMS = {
    "aim and intended use": ("3, 4", "3, 4, 6"),
    "data source": ("5", "5, 7, 13"),
    "eligibility": ("6", "8, 10"),
    "reference standard": ("8", "14–18"),
    "predictors (input)": ("7, 9", "9"),
    "model output": ("15", "22"),
    "sample size": ("10, 20, 21", "21, 35"),
    "missing data": ("11", "12"),
    "partitions": ("12a", "19, 20"),
    "class imbalance": ("13", "25"),
    "model": ("12c, 22", "22, 23"),
    "training and selection": ("12c", "24–27"),
    "performance and its uncertainty": ("12e, 23a", "28, 29, 32, 37, 38"),
    "calibration": ("12e, 23a", "28"),
    "external testing": ("16", "33"),
    "robustness and failures": ("12e", "30, 39"),
    "explainability": ("–", "31"),
    "fairness and subgroups": ("3c, 14, 23b", "36"),
    "limitations": ("25, 26", "40"),
    "use": ("27", "41"),
    "ethics and consent": ("17", "11"),
    "protocol, registration, funding": ("18a–d", "34, 42, 44"),
    "patient and public involvement": ("19", "–"),
    "code, data and weights": ("18e, 18f", "43"),
}
#: Items that a head answers for itself; all others are answered alike in the three cards.
OWN_TO_A_HEAD = {
    "aim and intended use",
    "eligibility",
    "reference standard",
    "model output",
    "explainability",
}
ALL = (*BACKBONES, *HEADS)


def card_of(name: str) -> str:
    return (ROOT / "bundles" / name / "docs" / "README.md").read_text(encoding="utf-8")


def rows_of(card: str) -> dict[str, tuple[str, str, str]]:
    """Item → numbers in both guidelines, and the answer."""
    section = re.search(r"^## Reporting items\n(.*?)(?=^## )", card, re.MULTILINE | re.DOTALL)[1]
    cells = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in section.splitlines()
        if line[:1] == "|"
    ]
    assert cells[0] == ["item", "TRIPOD+AI", "CLAIM 2024", "answer"]
    return {item: (tripod, claim, answer) for item, tripod, claim, answer in cells[2:]}


def anchors_of(card: str) -> set[str]:
    """Anchors that a reader of Markdown makes of the headings."""
    headings = re.findall(r"^#+ (.+)$", card, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("name", ALL)
def test_every_item_is_answered(name):
    rows = rows_of(card_of(name))
    assert list(rows) == list(ITEMS)
    for item, (tripod, claim, answer) in rows.items():
        assert (tripod, claim) == ITEMS[item], item
        assert re.search(r"\w.*\.$", answer), f"{item}: no sentence in {answer!r}"


@pytest.mark.parametrize("name", ALL)
def test_answers_point_at_sections_and_files_that_are_there(name):
    card = card_of(name)
    links = re.findall(r"\]\(#([^)]+)\)", card)
    assert len(links) > 5
    assert set(links) <= anchors_of(card)
    section = card[card.index("## Reporting items") : card.index("## MONAI Bundle Commands")]
    for file in re.findall(r"`((?:configs|docs|models)/[^`]+)`", section):
        assert (ROOT / "bundles" / name / file).is_file(), file
    metadata = json.loads((ROOT / "bundles" / name / "configs" / "metadata.json").read_text(encoding="utf-8"))
    recorded = metadata["radclear"]["weights"]["model.pt"]
    keys = re.findall(r"`(\w+)` under `radclear\.weights`", section)
    assert keys and set(keys) <= set(recorded)


def test_the_heads_differ_only_where_their_questions_do():
    first, *others = (rows_of(card_of(name)) for name in HEADS)
    for other in others:
        assert {item for item in ITEMS if first[item] != other[item]} <= OWN_TO_A_HEAD


@pytest.mark.parametrize("name", ALL)
def test_what_is_said_of_patients_agrees_with_the_metadata(name):
    metadata = json.loads((ROOT / "bundles" / name / "configs" / "metadata.json").read_text(encoding="utf-8"))
    synthetic_only = "no patient data" in metadata["data_source"]
    answer = rows_of(card_of(name))["ethics and consent"][2]
    assert ("no patient data" in answer.lower()) == synthetic_only
    assert ("de-identified" in answer) != synthetic_only


@pytest.mark.parametrize("name", HEADS)
def test_the_command_for_intervals_is_one_that_there_is(name):
    card = card_of(name).replace("\\\n", "")
    command = re.search(r"^python -m radclear (evaluate .*)$", card, re.MULTILINE)[1].split()
    args = build_parser("evaluate").parse_args(command)
    task = name.removesuffix("_classification")
    assert (args.task, args.predictions) == (task, f"EVALUATION/{task}_predictions.csv")
    has_thresholds = bool(
        read_metadata(ROOT / "bundles" / name)["radclear"]["weights"]["model.pt"].get("operating_points")
    )
    assert args.operating_points == (f"EVALUATION/{task}_metrics.json" if has_thresholds else None)


@pytest.mark.parametrize("name", ALL)
def test_a_copy_for_other_weights_has_the_items_to_be_answered_anew(name, tmp_path):
    copy_bundle(ROOT / "bundles" / name, tmp_path / "copy")
    card = (tmp_path / "copy" / "docs" / "README.md").read_text(encoding="utf-8")
    shipped, rows = rows_of(card_of(name)), rows_of(card)
    assert list(rows) == list(ITEMS)
    kept = {item for item in ITEMS if rows[item] == shipped[item]}
    assert kept == {"predictors (input)", "model output", "model"}
    for item in set(ITEMS) - kept:
        assert rows[item] == (*ITEMS[item], "Not stated.")
    for claim in ("phantom", "demonstration", "probe", "trained on"):
        assert claim not in card.replace("the backbone weights it was trained on", "")
