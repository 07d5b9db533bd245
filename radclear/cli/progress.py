"""One progress bar for every long command, silent where standard error is not a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def progress_bar(
    description: str, *, quiet: bool = False
) -> Iterator[Callable[[int, int | None, str | None], None]]:
    """Yields `update(done, total=None, text=None)`, which moves the bar to `done` of `total` steps."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), disable=quiet, transient=True) as progress:
        task = progress.add_task(description, total=None)

        def update(done: int, total: int | None = None, text: str | None = None) -> None:
            progress.update(
                task,
                completed=done,
                **({"total": total} if total is not None else {}),
                **({"description": text} if text else {}),
            )

        yield update
