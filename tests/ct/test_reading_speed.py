"""What makes reading fast: each file is parsed once, its pixels are read once, straight into the volume.

Run as a script, this prints the ratio to a bare pydicom loop over 200 slices of 512 x 512:
``python tests/ct/test_reading_speed.py [FOLDER]``.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pydicom
from ct_synthetic import torso, write_series

import radclear.ct.header
from radclear.ct import read_study
from radclear.ct.sources import FileSource


def test_each_file_is_parsed_once_and_opened_twice(tmp_path, monkeypatch):
    opened, parsed = [], []
    real_open, real_parse = FileSource.open, radclear.ct.header.parse
    monkeypatch.setattr(FileSource, "open", lambda self: opened.append(self.name) or real_open(self))
    monkeypatch.setattr(
        radclear.ct.header,
        "parse",
        lambda source, **options: parsed.append(source.name) or real_parse(source, **options),
    )
    study = read_study(write_series(tmp_path, torso((9, 32, 32))))
    assert len(study.hu) == 9 and sorted(parsed) == sorted(set(parsed)) and len(parsed) == 9
    assert sorted(opened) == sorted([*parsed, *parsed])


def bare_loop(folder: Path) -> list[np.ndarray]:
    """What a reader without any checks does."""
    return [pydicom.dcmread(path).pixel_array for path in sorted(folder.iterdir())]


def main() -> None:
    """Print median processor seconds of both ways and their ratio."""
    with tempfile.TemporaryDirectory() as temporary:
        given = Path(sys.argv[1]) if len(sys.argv) > 1 else None
        folder = given or write_series(Path(temporary) / "s", torso((200, 512, 512)), spacing=(0.8, 0.8))
        seconds: dict[str, list[float]] = {"bare pydicom loop": [], "read_study": []}
        for repeat in range(8):
            for name, read in zip(seconds, (bare_loop, read_study), strict=True):
                start = time.process_time()
                result = read(folder)
                if repeat:  # the first round warms up imports and the page cache
                    seconds[name].append(time.process_time() - start)
                del result
    bare, ours = (float(np.median(values)) for values in seconds.values())
    print(f"bare pydicom loop {bare:.3f} s, read_study {ours:.3f} s, ratio {ours / bare:.2f}")


if __name__ == "__main__":
    main()
