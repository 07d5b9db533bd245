"""Weights to start from: files as published, models of timm, and what is said where there are none."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest
import torch

from radclear.backbones import build
from radclear.errors import MissingDependencyError
from radclear.pretraining import Photometric, plainly, start_backbone, weights_identity
from radclear.pretraining.errors import PretrainingError


def same(a, b):
    return all(torch.equal(v, b.state_dict()[n]) for n, v in a.state_dict().items())


def test_a_published_checkpoint_starts_the_network(tmp_path):
    source, network = build("mambaout_nano"), build("mambaout_nano")
    wrapped = {"state_dict": {f"module.{n}": v for n, v in source.state_dict().items()}}
    torch.save(wrapped, tmp_path / "published.pth")
    assert not same(source, network)
    assert start_backbone(network, tmp_path / "published.pth") is network and same(source, network)
    assert start_backbone(network, None) is network


def test_another_architecture_is_refused(tmp_path):
    torch.save(build("mambaout_femto").state_dict(), tmp_path / "w.pt")
    with pytest.raises(PretrainingError, match="mambaout_femto .* builds a mambaout_nano"):
        start_backbone(build("mambaout_nano"), tmp_path / "w.pt")


def test_files_that_are_none_are_named(tmp_path):
    with pytest.raises(PretrainingError, match="does not exist"):
        start_backbone(build("mambaout_nano"), tmp_path / "none.pt")
    (tmp_path / "text.pt").write_text("not a checkpoint")
    with pytest.raises(PretrainingError, match="not a file of tensors"):
        start_backbone(build("mambaout_nano"), tmp_path / "text.pt")


def test_models_of_timm(monkeypatch):
    source, network = build("mambaout_nano"), build("mambaout_nano")
    monkeypatch.setitem(sys.modules, "timm", SimpleNamespace(create_model=lambda name, pretrained: source))
    assert same(start_backbone(network, "timm:mambaout"), source)

    def offline(name, pretrained):
        raise OSError("no route to host")

    monkeypatch.setitem(sys.modules, "timm", SimpleNamespace(create_model=offline))
    with pytest.raises(PretrainingError, match="no route to host.* Without network"):
        start_backbone(network, "timm:mambaout")
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(MissingDependencyError, match="pip install 'timm'"):
        start_backbone(network, "timm:mambaout")


def test_configs_end_plainly(capsys):
    with pytest.raises(SystemExit) as end:
        plainly(start_backbone, network=build("mambaout_nano"), weights="none.pt")
    assert end.value.code == 2 and capsys.readouterr().err.startswith("error: initial_weights none.pt")
    with pytest.raises(ZeroDivisionError):
        plainly(lambda: 1 / 0)


def test_a_mistyped_setting_of_a_component_ends_plainly(capsys):
    for typed, said in (("blur_probabilty", "did you mean blur_probability?"), ("xyz", "expected some of")):
        with pytest.raises(SystemExit) as end:
            plainly(Photometric, **{typed: 0.5})
        assert end.value.code == 2
        assert f"Photometric has no setting {typed}; {said}" in capsys.readouterr().err


def test_records_name_starting_weights_without_their_folder(tmp_path):
    file = tmp_path / "weights.pt"
    file.write_bytes(b"abc")
    # sha256 of "abc": FIPS 180-2, appendix B.1
    abc = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert weights_identity(file) == weights_identity(str(file)) == abc
    assert weights_identity(None) is None and weights_identity("timm:vit_tiny") == "timm:vit_tiny"
    with pytest.raises(PretrainingError, match="does not exist"):
        weights_identity(tmp_path / "absent.pt")
