"""The weights in the repository's bundles are there, are what the metadata says, and fit."""

from __future__ import annotations

import re

import pytest
import torch
from bundle_fixtures import BACKBONES, HEADS, ROOT

from radclear.bundle import load_backbone_bundle, load_heads, read_metadata, verify_weights
from radclear.bundle.seen_patients import record_of, seen_patients
from radclear.phantom.cohort import study_seed
from radclear.phantom.cohort_tables import patient_name

ALL = (*BACKBONES, *HEADS)


@pytest.fixture(scope="module")
def shipped():
    """The folder of the bundles; either none has weights yet, or all have them."""
    folder = ROOT / "bundles"
    assert sorted(path.parent.parent.name for path in folder.glob("*/configs/metadata.json")) == sorted(ALL)
    lacking = [name for name in ALL if not (folder / name / "models" / "model.pt").is_file()]
    if len(lacking) == len(ALL):
        pytest.skip("no bundle has a models/model.pt")
    assert not lacking, f"without models/model.pt: {', '.join(lacking)}"
    return folder


@pytest.mark.parametrize("name", ALL)
def test_weight_files_and_metadata_name_each_other(name, shipped):
    root = shipped / name
    entries = read_metadata(root)["radclear"]["weights"]
    assert sorted(entries) == sorted(path.name for path in (root / "models").glob("*.pt"))
    for file_name, entry in entries.items():
        assert verify_weights(root, file_name=file_name) == entry["sha256"]
        assert (root / "models" / file_name).stat().st_size < 25_000_000
        assert entry["demonstration"] is True and entry["training"] and entry["commands"]
        assert entry["seconds"] > 0, "how long did it take?"


@pytest.mark.parametrize("name", ALL)
def test_weights_know_whom_they_were_trained_on(name, shipped):
    file = shipped / name / "models" / "model.pt"
    entry = read_metadata(shipped / name)["radclear"]["weights"]["model.pt"]
    trained_on = record_of(file)["trained_on"].values()  # of these weights and of those they started from
    stated = re.search(r"studies of (\d+) patients", entry["training"])
    n_patients = int(stated[1]) if stated else entry["n_studies"]["train"]  # else one study each
    assert max(map(len, trained_on)) <= n_patients <= sum(map(len, trained_on))
    assert len(trained_on) == (5 if name == "lecl_gated_cnn" else 1)
    seeds = {"lecl_gated_cnn": (31, 47, 53), "lecl_vit": (41,), "lecl_vssm": (41,)}.get(name, (2026,))
    phantoms = {patient_name(study_seed(seed, number)) for seed in seeds for number in range(3600)}
    seen = seen_patients(file, phantoms)
    assert seen.on_record == "all" and 0.9 * n_patients < len(seen.patients) <= n_patients
    assert not seen_patients(file, {patient_name(study_seed(99, number)) for number in range(9)}).patients


@pytest.mark.parametrize("name", BACKBONES)
def test_backbone_weights_fit_strictly(name, shipped):
    bundle = load_backbone_bundle(shipped / name)
    assert all(torch.isfinite(tensor).all() for tensor in bundle.backbone.state_dict().values())


def test_heads_fit_strictly_over_the_backbone_that_they_name(shipped):
    for name, head in zip(HEADS, load_heads([shipped / name for name in HEADS]), strict=True):
        entry = read_metadata(shipped / name)["radclear"]["weights"]["model.pt"]
        assert head.weights_sha256 == entry["sha256"]
        assert head.backbone.weights_sha256 == entry["backbone"]["weights_sha256"]
        assert all(torch.isfinite(tensor).all() for tensor in head.aggregator.state_dict().values())


@pytest.mark.parametrize("name", HEADS)
def test_the_card_gives_the_figures_of_the_metadata(name, shipped):
    metrics = read_metadata(shipped / name)["radclear"]["weights"]["model.pt"]["metrics"]
    card = (shipped / name / "docs" / "README.md").read_text()
    assert f"On {metrics['n_studies']} synthetic studies" in card
    for class_name, found in metrics["classes"].items():
        (line,) = (row for row in card.splitlines() if row.startswith(f"| {class_name.replace('_', ' ')} |"))
        positives, auroc, brier, ece = (cell.strip() for cell in line.split("|")[2:6])
        assert class_name == "macro" or int(positives.split()[0]) == found["n_positive"]
        for shown, known in ((auroc, found["auroc"]), (brier, found["brier"]), (ece, found["ece"])):
            interval = known.get("interval_95") if shown is auroc else None
            numbers = [float(number) for number in re.findall(r"\d\.\d\d", shown)]
            assert numbers == pytest.approx([known["value"], *(interval or [])], abs=0.0061)


@pytest.mark.parametrize("name", BACKBONES)
def test_the_card_of_an_encoder_gives_the_probe_of_the_metadata(name, shipped):
    probe = read_metadata(shipped / name)["radclear"]["weights"]["model.pt"]["metrics"]["probe"]
    performance = (shipped / name / "docs" / "README.md").read_text().split("## Performance\n")[1]
    right, chance = (
        int(re.search(pattern, performance)[1]) / 100
        for pattern in (r"right for\s(\d+) % of 300", r"chance\s(\d+) %")
    )
    assert (right, chance) == (probe["balanced_accuracy"], probe["chance"])
    if first := re.search(r"\((\d+) % after the\sfirst", performance):
        assert int(first[1]) / 100 == probe["balanced_accuracy_after_first_epoch"]
