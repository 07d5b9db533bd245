"""The root of a bundle is found whatever the working directory, and never another bundle's."""

from __future__ import annotations

import json
import sys

import pytest

from radclear.bundle import BundleError, bundle_root, find_backbone, read_metadata


def make_bundle(folder, name):
    (folder / "configs").mkdir(parents=True)
    (folder / "configs" / "metadata.json").write_text(json.dumps({"name": name}))
    (folder / "configs" / "inference.json").write_text("{}")
    return folder


def test_root_is_the_entry_that_monai_puts_on_sys_path(tmp_path, monkeypatch):
    here, there = make_bundle(tmp_path / "here", "mine"), make_bundle(tmp_path / "renamed", "mine")
    monkeypatch.setattr(sys, "argv", ["monai"])
    # index 0 is the working directory of `python -m`, index 1 the bundle whose config is run
    monkeypatch.setattr(sys, "path", [str(here), str(there), *sys.path])
    assert bundle_root("mine") == str(there)
    monkeypatch.setattr(sys, "path", [str(here), *sys.path])
    assert bundle_root("mine") == str(here)


@pytest.mark.parametrize("form", ["{}", "--config_file={}", "['{}','/else/configs/x.json']"])
def test_root_is_above_the_config_file_of_the_command_line(tmp_path, monkeypatch, form):
    other, mine = make_bundle(tmp_path / "other", "mine"), make_bundle(tmp_path / "a folder", "mine")
    monkeypatch.setattr(sys, "path", [str(other), *sys.path])
    argument = form.format(mine / "configs" / "inference.json")
    monkeypatch.setattr(sys, "argv", ["monai", "verify_net_in_out", "--config_file", argument])
    assert bundle_root("mine") == str(mine)


def test_root_that_is_nowhere_is_an_error_that_says_how_to_name_it(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["monai"])
    with pytest.raises(BundleError, match="--bundle_root"):
        bundle_root("no_such_bundle")


def test_backbone_is_relative_to_the_head_then_to_the_working_directory(tmp_path, monkeypatch):
    head = make_bundle(tmp_path / "bundles" / "head", "head")
    near = make_bundle(tmp_path / "bundles" / "vit", "vit")
    far = make_bundle(tmp_path / "work" / "own", "own")
    monkeypatch.chdir(tmp_path / "work")
    assert find_backbone(head, "../vit") == near
    assert find_backbone(head, "own") == far
    assert find_backbone(head, far) == far
    with pytest.raises(BundleError, match="--backbone_bundle"):
        find_backbone(head, "nothing")


def test_metadata_that_is_none_is_an_error(tmp_path):
    with pytest.raises(BundleError, match="is not a bundle"):
        read_metadata(tmp_path)
    bundle = make_bundle(tmp_path / "b", "b")
    (bundle / "configs" / "metadata.json").write_text("{")
    with pytest.raises(BundleError, match="not valid JSON"):
        read_metadata(bundle)
