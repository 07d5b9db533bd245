"""The tables that `radclear predict` prints: what was answered, how sure, where to look, how long it took."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

    from radclear.bundle import RunReport

TITLES = {"tumor_location": "tumor location", "lung_disease": "lung disease", "staging": "stage"}


def answer_tables(report: RunReport, *, names: bool = False, classes_shown: int = 3) -> Iterator[Table]:
    """One table per study with one row per task, whole in a terminal of 80 columns.

    Args:
        report: what `radclear.bundle.predict_folder` returned.
        names: whether each study's name stands beside its key; names of folders often name patients.
        classes_shown: how many classes of each task are shown, most probable first.
    """
    from rich.markup import escape
    from rich.table import Table

    from radclear.results.wording import format_score, score_digits

    for study in (*report.done, *report.skipped):
        title = f"{study.key} ({study.name})" if names else study.key
        table = Table(title=escape(title), title_justify="left", header_style="bold")
        for column in ("task", "class", "probability"):
            table.add_column(column, no_wrap=True)  # a class in two lines would shift the numbers beside it
        table.add_column("key slices")
        table.add_column("seconds", justify="right", no_wrap=True)
        for task in study.result["tasks"]:
            ranked = sorted(task["classes"], key=lambda entry: -entry["probability"])[:classes_shown]
            digits = score_digits(task)
            table.add_row(
                TITLES.get(task["task"], task["task"]),
                "\n".join(entry["name"].replace("_", " ") for entry in ranked),
                "\n".join(format_score(entry["probability"], digits) for entry in ranked),
                ", ".join(str(key["number"]) for key in task["key_slices"]),
                f"{sum(study.seconds.values()):.1f}" if study.seconds else "-",
            )
        yield table


def input_warnings(report: RunReport) -> Iterator[tuple[str, str]]:
    """(study key, message) of what a reader must know about the input before believing an answer."""
    from radclear.results.reading import banners

    for study in (*report.done, *report.skipped):
        for banner in banners(study.result):
            if banner.kind == "input":
                yield from ((study.key, message) for message in banner.messages)
