"""Put results on disk so that a reader sees the old file or the new one, never half of one."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

from radclear.ct.study import Study
from radclear.results.answer import ResultError
from radclear.results.html import render_html
from radclear.results.validation import validate_result

_STEM = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")


def write_result(
    result: dict, folder: str | Path, *, stem: str = "result", study: Study | None = None
) -> tuple[Path, Path]:
    """Write a result as ``stem.json`` and ``stem.html``.

    The JSON comes last: where it exists, both are complete, so it can serve as the mark that a study is done.

    Args:
        result: a document that passes :func:`radclear.results.validate_result`.
        folder: where to; made if it is not there.
        stem: file name without suffix: letters, digits and ``. _ -``, and no patient's name.
        study: the study it is about, for the pictures of the page.

    Returns:
        Paths of the JSON and the HTML file.

    Raises:
        ResultError: the document is not valid, is about another study, or the stem is not a plain file name.
    """
    if not _STEM.fullmatch(stem):
        raise ResultError(
            f"stem is {stem!r}; expected a plain file name of letters, digits and . _ - without suffix."
        )
    page = render_html(result, study=study)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    html_path, json_path = folder / f"{stem}.html", folder / f"{stem}.json"
    write_atomically(html_path, page.encode("utf-8"), sync_folder=False)  # the next line syncs both
    write_atomically(json_path, encode_json(result))
    return json_path, html_path


def read_result(path: str | Path) -> dict:
    """Read a result from JSON and check it.

    Raises:
        ResultError: the file is not JSON, or not a valid result.
        OSError: the file cannot be read.
    """
    try:
        result = json.loads(Path(path).read_bytes())
    except ValueError as error:
        raise ResultError(
            f"{path} is not JSON ({error}); expected a file that radclear wrote. Delete it and run again."
        ) from error
    validate_result(result)
    return result


def encode_json(document: dict) -> bytes:
    """A document as UTF-8 JSON, readable by people, without NaN or infinity (which JSON does not have)."""
    return (json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode("utf-8")


def write_atomically(path: Path, content: bytes, *, sync_folder: bool = True) -> None:
    """Write to a temporary file in the same folder, flush it to the disk, and rename it over the target.

    Args:
        path: the target.
        content: its bytes.
        sync_folder: make the rename survive a power cut; not needed where another file of the folder follows.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{os.urandom(4).hex()}.tmp")
    try:
        with open(temporary, "xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    if sync_folder:
        _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Make the rename itself survive a power cut, on systems where a folder can be opened (not Windows)."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
