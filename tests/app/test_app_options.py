"""Options are checked before anything is loaded, and the data never mixes with the originals."""

from __future__ import annotations

import pytest
from lib.options import OptionError, read_options


def test_nothing_given_is_closed_and_complete():
    options = read_options({})
    assert options.tasks == ("tumor_location", "lung_disease", "staging")
    assert options.hosts == () and options.identifiers is False
    assert read_options(None) == options == read_options({"server_mode": "true"})


def test_values_are_converted():
    options = read_options(
        {"tasks": "staging, lung_disease", "hosts": "CT.example.org", "waiting": "0", "identifiers": "true"}
    )
    assert options.tasks == ("staging", "lung_disease") and options.hosts == ("ct.example.org",)
    assert options.waiting == 0 and options.identifiers is True


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("waitnig", "3", "expected one of tasks, bundles"),
        ("waiting", "-1", "whole number from 0"),
        ("waiting", "many", "waiting"),
        ("tasks", "staging,liver", "tumor_location, lung_disease, staging"),
        ("tasks", "", "tumor_location, lung_disease, staging"),
        ("precision", "double", "float32"),
        ("policy", "lax", "strict"),
        ("timeout", "0", "seconds above 0"),
        ("timeout", "inf", "seconds above 0"),
        ("identifiers", "yes", "true or false"),
        ("upload_mib", "0", "from 1"),
    ],
)
def test_wrong_ones_are_refused_with_what_is_right(key, value, expected):
    with pytest.raises(OptionError, match=key) as caught:
        read_options({key: value})
    assert expected in str(caught.value)


def test_the_data_folder_is_private_and_apart_from_the_studies(tmp_path, monkeypatch):
    studies = tmp_path / "studies"
    studies.mkdir()
    folder = read_options({"data": str(tmp_path / "data")}).data_folder(str(studies))
    assert oct(folder.stat().st_mode & 0o777) == "0o700"
    for inside in (studies, studies / "data", tmp_path):
        with pytest.raises(OptionError, match="one lies in the other"):
            read_options({"data": str(inside)}).data_folder(str(studies))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    default = read_options({}).data_folder(str(studies))
    assert default.parent == tmp_path / "state" / "radclear"
    assert default != read_options({}).data_folder("http://127.0.0.1:8042/dicom-web")
