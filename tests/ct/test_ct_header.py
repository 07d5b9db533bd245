"""A damaged header is said to be damaged; it stops neither a search nor the reading of other studies."""

from __future__ import annotations

import struct

import pytest
from ct_synthetic import write_series

from radclear.ct import find_studies
from radclear.ct.parse import parse


@pytest.mark.parametrize("error", [RecursionError(), struct.error("unpack"), KeyError("VR"), MemoryError()])
def test_a_header_that_breaks_the_parser_stops_no_search(tmp_path, monkeypatch, error):
    def another_study(slices):
        for tags in slices:
            tags.StudyInstanceUID = "1.2.826.0.1.77"

    write_series(tmp_path / "sound")
    write_series(tmp_path / "damaged", change=another_study)

    def parse_or_break(source, *, cap_bytes):
        if source.name.startswith("damaged"):
            raise error
        return parse(source, cap_bytes=cap_bytes)

    monkeypatch.setattr("radclear.ct.header.parse", parse_or_break)
    assert [study.name for study in find_studies(tmp_path)] == ["damaged", "sound"]
