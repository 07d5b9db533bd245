"""Before a head is trained: its configs can load what comes out, and the boxes fit its attention."""

from __future__ import annotations

import json
import shutil

import pytest
from bag_cohorts import read_rows, write_cohort, write_rows
from bundle_fixtures import HEADS, run_config

from radclear.bundle import read_metadata

LOCATION, DISEASE, _ = HEADS
ONE_ATTENTION = {
    "_target_": "radclear.aggregation.AttentionMIL",
    "embedding_dim": "$radclear.bundle.embedding_dim(@backbone_path)",
    "n_classes": 5,
    "kind": "@kind",
}

pytestmark = pytest.mark.filterwarnings("ignore:parsing config_file")


@pytest.fixture(scope="module")
def cohort(bundles, tmp_path_factory):
    folder = write_cohort(tmp_path_factory.mktemp("cohort"), bundles / "lecl_gated_cnn", n_studies=20)
    rows = read_rows(folder / "labels.csv")
    sites = json.loads((bundles / LOCATION / "configs" / "train.json").read_text())["table"]["classes"]
    for number, row in enumerate(rows):
        row |= {column: (number + n) % 2 for n, column in enumerate(sites.values())}
    write_rows(folder / "labels.csv", rows)
    return folder


def train(head, cohort, output, **options):
    _, code = run_config(
        head / "configs" / "train.json",
        workflow_type="train",
        embeddings=cohort / "embeddings",
        labels=cohort / "labels.csv",
        output_bundle=output,
        device="cpu",
        max_epochs=1,
        **options,
    )
    return code


def test_boxes_teach_the_findings_of_the_config(bundles, cohort, tmp_path, clean_process):
    assert train(bundles / DISEASE, cohort, tmp_path / "out", boxes=cohort / "boxes.csv") == 0
    settings = read_metadata(tmp_path / "out")["radclear"]["weights"]["model.pt"]["settings"]
    assert settings["findings"] == ["nodule", "consolidation", "ground_glass", "emphysema", "effusion"]


@pytest.mark.parametrize(
    ("head", "options", "found"),
    [
        (
            DISEASE,
            {"aggregator": ONE_ATTENTION},
            "aggregator is MultiBranchMIL, and that of train.json Attention",
        ),
        (
            DISEASE,
            {"aggregator#hidden_dim": 64},
            "its finding.weight is [5, 128], and that of train.json [5, 64]",
        ),
        (
            DISEASE,
            {"aggregator#n_windows": 1},
            "its instance.1.weight is [128, 480], and that of train.json [128, 240]",
        ),
        (DISEASE, {"findings": []}, "would teach no findings, and the head has 5 attention branches"),
        (DISEASE, {"findings": ["nodule"]}, "would teach 1 findings, and the head has 5 attention branches"),
        (DISEASE, {"findings": ["cyst"] * 5}, "no box is of a finding of this head (found: consolidation"),
        (LOCATION, {}, "boxes.csv has tumor lesions (kind primary) and no column site"),
    ],
)
def test_nothing_is_trained_in_vain(head, options, found, bundles, cohort, tmp_path, capsys, clean_process):
    assert train(bundles / head, cohort, tmp_path / "out", boxes=cohort / "boxes.csv", **options) == 2
    said = capsys.readouterr().err
    assert found in said and said.count("error: ") == 1 and "Traceback" not in said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("taught", [{"boxes": "boxes.csv"}, {"auxiliary": ["stage"]}])
def test_an_ensemble_is_not_taught(taught, bundles, cohort, tmp_path, capsys, clean_process):
    head = tmp_path / "ensemble"
    shutil.copytree(bundles / DISEASE, head)
    aggregator = {"_target_": "radclear.aggregation.EnsembleMIL", "member": ONE_ATTENTION, "n_members": 2}
    for name in ("train", "inference", "evaluate"):
        path = head / "configs" / f"{name}.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"aggregator": aggregator}))
    options = {key: cohort / value if key == "boxes" else value for key, value in taught.items()}
    backbone = bundles / "lecl_gated_cnn"
    code = train(head, cohort, tmp_path / "out", backbone_bundle=backbone, findings=[], **options)
    said = capsys.readouterr().err
    assert code == 2 and "is EnsembleMIL, which --boxes and --auxiliary cannot teach" in said
    assert said.count("error: ") == 1 and not (tmp_path / "out").exists()


def test_a_bundle_of_another_aggregator_keeps_its_weights(bundles, cohort, tmp_path, capsys, clean_process):
    old = tmp_path / "old"
    shutil.copytree(bundles / DISEASE, old)
    path = old / "configs" / "inference.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"aggregator": ONE_ATTENTION}))
    before = {file: file.read_bytes() for file in old.rglob("*") if file.is_file()}
    assert train(bundles / DISEASE, cohort, old) == 2
    assert "aggregator is AttentionMIL" in (said := capsys.readouterr().err)
    assert "name a folder that is not there yet with --output_bundle" in said
    assert {file: file.read_bytes() for file in old.rglob("*") if file.is_file()} == before
