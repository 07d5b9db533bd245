"""The table that `radclear predict` prints: what was answered, how sure, where to look, how long it took."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

    from radclear.bundle import RunReport

KEY_WIDTH = len("study-") + 16
TITLES = {"tumor_location": "tumor location", "lung_disease": "lung disease", "staging": "stage"}


def answer_table(report: RunReport, *, names: bool = False, classes_shown: int = 3) -> Table:
    """One row per study and task.

    Args:
        report: what `radclear.bundle.predict_folder` returned.
        names: whether each study's name stands below its key; names of folders often name patients.
        classes_shown: how many classes of each task are shown, most probable first.
    """
    from rich.markup import escape
    from rich.table import Table

    table = Table(header_style="bold")
    table.add_column("study", min_width=KEY_WIDTH, overflow="fold")
    table.add_column("task")
    table.add_column("probability", no_wrap=True)  # a class in two lines would shift the numbers below it
    table.add_column("key slices")
    table.add_column("seconds", justify="right")
    for study in (*report.done, *report.skipped):
        for task in study.result["tasks"]:
            ranked = sorted(task["classes"], key=lambda entry: -entry["probability"])[:classes_shown]
            table.add_row(
                f"{study.key}\n{escape(study.name)}" if names else study.key,
                TITLES.get(task["task"], task["task"]),
                "\n".join(
                    f"{entry['probability']:.2f} {entry['name'].replace('_', ' ')}" for entry in ranked
                ),
                ", ".join(str(key["number"]) for key in task["key_slices"]),
                f"{sum(study.seconds.values()):.1f}" if study.seconds else "-",
            )
    return table
