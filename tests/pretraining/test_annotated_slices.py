"""The data, network and loss of the supervised warm-up."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from monai.data import DataLoader
from monai.engines import SupervisedTrainer
from torch import nn

from radclear.backbones import build
from radclear.ct import read_study
from radclear.phantom import make_phantom, write_cohort, write_nifti
from radclear.phantom.labels import DISEASE_CLASSES, LESION_KINDS, LOCATION_CLASSES
from radclear.pretraining import AnnotatedSlices, ClipGradients, RegionLoss, SliceClassifier, balanced_sampler
from radclear.pretraining.annotated_views import CohortError
from radclear.pretraining.region_labels import COVERAGE, EXTENT, PRESENT, UNIT_MM, UNSURE, region_labels


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cohort")
    write_cohort(folder, n_studies=5, seed=4, n_slices=24, size=64)
    return folder


@pytest.fixture(scope="module")
def slices(cohort):
    return AnnotatedSlices(cohort, image_size=64)


@pytest.fixture(scope="module")
def boxes(cohort):
    """The boxes of the training studies, with their finding and the number of their slice."""
    train = pd.read_csv(cohort / "labels.csv").query("split == 'train'")["study"].tolist()
    table = pd.read_csv(cohort / "boxes.csv").query("study in @train")
    return table.assign(
        finding=np.where(table["kind"].isin(LESION_KINDS), table["site"], table["kind"]),
        row=[train.index(study) * 24 + z for study, z in zip(table["study"], table["slice"], strict=True)],
    )


def test_reads_the_studies_of_a_split_or_all(cohort, slices):
    table = pd.read_csv(cohort / "labels.csv")
    assert slices.n_studies == (table["split"] == "train").sum()
    assert len(slices) == 24 * slices.n_studies
    assert slices.patients == tuple(sorted(table.loc[table["split"] == "train", "patient"]))
    assert AnnotatedSlices(cohort, split=None, image_size=64).n_studies == len(table)


def test_patients_are_unknown_where_the_table_does_not_tell(cohort, tmp_path):
    (tmp_path / "studies").symlink_to(cohort / "studies")
    (tmp_path / "boxes.csv").write_text((cohort / "boxes.csv").read_text())
    pd.read_csv(cohort / "labels.csv").drop(columns="patient").to_csv(tmp_path / "labels.csv", index=False)
    assert AnnotatedSlices(tmp_path, image_size=64).patients is None
    some = pd.read_csv(cohort / "labels.csv")
    some.loc[some["split"] == "train", "patient"] = [None, *some.loc[some["split"] == "train", "patient"][1:]]
    some.to_csv(tmp_path / "labels.csv", index=False)
    assert AnnotatedSlices(tmp_path, image_size=64).patients is None
    assert AnnotatedSlices([cohort, tmp_path], image_size=64).patients is None


def test_several_cohorts_are_one(cohort, slices):
    both = AnnotatedSlices([cohort, cohort], image_size=64)
    assert both.n_studies == 2 * slices.n_studies and both.findings == slices.findings
    assert torch.equal(both.shown, slices.shown.repeat(2, 1))
    assert torch.equal(both.stacks[slices.n_studies], slices.stacks[0])
    row = len(slices) + int(slices.shown.any(1).nonzero()[0])
    assert (both[row]["label"][0, :, PRESENT] == 1).any()


def test_findings_are_tumor_sites_and_signs_of_lung_disease(slices, boxes):
    assert set(slices.findings) <= {*LOCATION_CLASSES, *DISEASE_CLASSES}
    shown = {(row, slices.findings[f]) for row, f in slices.shown.nonzero().tolist()}
    assert shown == set(zip(boxes["row"], boxes["finding"], strict=True))


def test_a_whole_slice_has_the_labels_of_its_boxes(slices, boxes):
    for row, own in boxes.groupby("row"):
        item = slices[row]
        assert item["image"].shape == (1, 64, 64) and 0 <= item["image"].min() <= item["image"].max() <= 1
        table = own[["x1", "y1", "x2", "y2"]].assign(f=own["finding"].map(slices.findings.index))
        options = {"view_size": 64, "strides": (32, 16), "n_findings": slices.n_findings}
        pixel_mm = slices.pixel_mm[row // 24]
        expected = region_labels(table.to_numpy(np.float32), pixel_mm=pixel_mm, **options)
        np.testing.assert_allclose(item["label"], expected, atol=1e-5)


def test_lengths_are_millimetres_of_the_study_whatever_the_size_of_the_slices(cohort, slices, boxes):
    """A box of n pixels of the study is n times its pixel spacing long, in units of 30 mm."""
    halved = AnnotatedSlices(cohort, image_size=32)
    train = pd.read_csv(cohort / "labels.csv").query("split == 'train'")["study"].tolist()
    spacing = [read_study(cohort / "studies" / name).spacing_mm[0] for name in train]
    assert slices.pixel_mm == pytest.approx(spacing) and len(set(spacing)) > 1
    assert halved.pixel_mm == pytest.approx([2 * mm for mm in spacing])
    for row, own in boxes.groupby("row"):
        sides = np.maximum(own["x2"] - own["x1"], own["y2"] - own["y1"]) * spacing[row // 24] / UNIT_MM
        longest = sides.groupby(own["finding"]).max()
        for data in (slices, halved):
            found = data[row]["label"][0, [data.findings.index(name) for name in longest.index], EXTENT]
            np.testing.assert_allclose(found, longest, rtol=1e-5)


def test_several_processes_read_what_one_reads(cohort, slices):
    both = AnnotatedSlices(cohort, image_size=64, workers=2)
    assert both.n_studies == slices.n_studies and both.pixel_mm == slices.pixel_mm
    assert all(torch.equal(a, b) for a, b in zip(both.stacks, slices.stacks, strict=True))
    assert all(np.array_equal(a, b) for a, b in zip(both.boxes, slices.boxes, strict=True))


def test_a_wrong_box_ends_the_reading_of_several_processes_with_a_sentence(cohort, tmp_path):
    (tmp_path / "studies").symlink_to(cohort / "studies")
    (tmp_path / "labels.csv").symlink_to(cohort / "labels.csv")
    boxes = pd.read_csv(cohort / "boxes.csv")
    boxes.assign(slice=99).to_csv(tmp_path / "boxes.csv", index=False)
    with pytest.raises(CohortError, match="boxes.csv names slice 99 of phantom-"):
        AnnotatedSlices(tmp_path, image_size=64, workers=2)


def test_slices_of_oblong_pixels_are_refused(tmp_path):
    """Lengths in millimetres would depend on the direction."""
    phantom = make_phantom(3, n_slices=24, size=64)
    affine = phantom.affine.copy()
    affine[1, 1] *= 1.5
    (tmp_path / "studies").mkdir()
    write_nifti(replace(phantom, affine=affine), tmp_path / "studies" / "a.nii")
    (tmp_path / "labels.csv").write_text("study,split\na.nii,train\n")
    (tmp_path / "boxes.csv").write_text("study,slice,x1,y1,x2,y2,site,kind\na.nii,3,1,1,9,9,lung,primary\n")
    with pytest.raises(CohortError, match=r"a.nii has slices of 64 x 64 pixels of .*; expected square ones"):
        AnnotatedSlices(tmp_path, image_size=64)


def test_crops_hold_the_middle_of_a_box_of_their_slice_and_show_the_slice_there(cohort, slices):
    crops = AnnotatedSlices(cohort, image_size=64, view_size=32, strides=(16,))
    torch.manual_seed(0)
    for row in crops.shown.any(dim=1).nonzero().squeeze(1).tolist():
        item = crops[row]
        view = (item["image"][0] * 255).round().to(torch.uint8)
        study, z = divmod(row, 24)
        windows = crops.stacks[study][:, z].unfold(1, 32, 1).unfold(2, 32, 1)
        places = (windows == view).all(dim=-1).all(dim=-1).nonzero()
        middles = (crops.boxes[row][:, :2] + crops.boxes[row][:, 2:4]) / 2
        assert any(
            ((middles >= [x - 1, y - 1]) & (middles <= [x + 33, y + 33])).all(axis=1).any()
            for _, y, x in places.tolist()
        )


@pytest.fixture(scope="module")
def twins(tmp_path_factory):
    folder = tmp_path_factory.mktemp("twins")
    write_cohort(folder, n_studies=6, seed=4, n_slices=24, size=64, twins=True, splits=(1, 0, 0))
    return folder


def test_twins_show_one_place_with_and_without_its_lesion(twins):
    pairs = AnnotatedSlices(twins, image_size=64, view_size=32, strides=(16,), twins=True)
    torch.manual_seed(0)
    alone = 0
    for row in pairs.shown.any(dim=1).nonzero().squeeze(1).tolist():
        first, second = pairs[row]
        alone += bool(((first["label"][0] == 1) & (second["label"][0] == 0))[:, PRESENT].any())
        study, z = divmod(row, 24)
        places = []
        for item, number in ((first, study), (second, study ^ 1)):
            view = (item["image"][0] * 255).round().to(torch.uint8)
            windows = pairs.stacks[number][:, z].unfold(1, 32, 1).unfold(2, 32, 1)
            places.append({tuple(place) for place in (windows == view).flatten(3).all(3).nonzero().tolist()})
        assert places[0] & places[1]
    assert alone > 20


def test_a_batch_of_twins_holds_both(twins):
    pairs = AnnotatedSlices([twins, twins], image_size=64, twins=True)
    batch = next(iter(DataLoader(pairs, batch_size=3, shuffle=True)))
    assert pairs.views_per_item == 2 and batch["image"].shape == (6, 1, 64, 64) and len(batch["label"]) == 6
    first, second = pairs[24 * 8 + 3], pairs[24 * 9 + 3]  # of the second cohort
    assert torch.equal(first[1]["image"], pairs.stacks[9][_window(first, pairs, 8)][3][None] / 255)
    assert torch.equal(first[0]["label"], second[1]["label"])


def _window(pair, slices, study):
    shown = (pair[0]["image"] * 255).round().to(torch.uint8)
    return next(n for n in range(2) if torch.equal(slices.stacks[study][n, 3][None], shown))


def test_studies_that_are_no_twins_are_refused(cohort, twins, tmp_path):
    with pytest.raises(
        CohortError, match=r"patient PHANTOM-4000.* is no pair of twins \(.*: 24\); expected two studies"
    ):
        AnnotatedSlices(cohort, image_size=64, twins=True)
    for name in ("studies", "boxes.csv"):
        (tmp_path / name).symlink_to(twins / name)
    pd.read_csv(twins / "labels.csv").drop(columns="patient").to_csv(tmp_path / "labels.csv", index=False)
    with pytest.raises(CohortError, match="no column patient"):
        AnnotatedSlices(tmp_path, image_size=64, twins=True)


def test_a_window_without_a_share_is_never_drawn(cohort):
    lung = AnnotatedSlices(cohort, image_size=64, window_shares=[0, 1])
    for row in range(0, len(lung), 7):
        study, z = divmod(row, 24)
        assert lung[row]["image"][0].mul(255).round().to(torch.uint8).equal(lung.stacks[study][1, z])


def test_sampler_keeps_the_annotated_share_and_prefers_rare_findings(slices):
    torch.manual_seed(0)
    drawn = torch.tensor(list(balanced_sampler(slices, n_samples=6000, annotated_share=0.7)))
    assert slices.shown[drawn].any(dim=1).float().mean().item() == pytest.approx(0.7, abs=0.03)
    counts = slices.shown.sum(dim=0)
    rarest, commonest = counts.argmin(), counts.argmax()
    ratio = slices.shown[drawn].sum(dim=0) / counts
    assert ratio[rarest] > 1.5 * ratio[commonest]


def test_network_rows_are_the_slice_and_the_cells_of_two_maps():
    torch.manual_seed(0)
    network = SliceClassifier(build("mambaout_nano"), 4, precision="float32").eval()
    x = torch.rand(2, 1, 96, 96)
    with torch.no_grad():
        outputs = network(x)
        normalized = x.expand(-1, 3, -1, -1).sub(_MEAN).div(_STD)
        embedding, tokens = network.backbone.embed(normalized), network.backbone.tokens(normalized)
    assert outputs.shape == (2, 1 + 9 + 36, 4, 3)
    torch.testing.assert_close(
        outputs[:, 0].flatten(1), network.slice_linear(embedding), rtol=1e-4, atol=1e-4
    )
    cells = network.last_linear(network.backbone.norm(tokens))
    torch.testing.assert_close(outputs[:, 1:10].flatten(2), cells, rtol=1e-4, atol=1e-4)


def test_loss_is_the_sum_of_its_parts():
    torch.manual_seed(0)
    outputs, labels = torch.randn(3, 5, 4, 3), torch.rand(3, 5, 4, 3) + 0.01
    labels[..., PRESENT] = torch.randint(-1, 2, (3, 5, 4)).float()

    def presence(rows):
        total = 0.0
        for o, y in zip(outputs[:, rows].flatten(0, 2), labels[:, rows].flatten(0, 2), strict=True):
            p = torch.sigmoid(o[PRESENT].double())
            if y[PRESENT] != UNSURE:
                total -= 5 * p.log() if y[PRESENT] == 1 else (1 - p).log()
        return total / labels[:, rows, :, 0].numel()

    def distance(found, wanted):  # a parabola up to 0.25, a line from there
        error = (found - wanted).abs().double()
        return torch.where(error < 0.25, error**2 / 0.5, error - 0.125)

    def extent(rows):
        present = labels[:, rows, :, PRESENT] == 1
        found, wanted = outputs[:, rows][present], labels[:, rows][present]
        return distance(found[:, EXTENT], wanted[:, EXTENT].log()).mean()

    sizes = extent(slice(0, 1)) + distance(outputs[:, 0, :, COVERAGE], labels[:, 0, :, COVERAGE]).mean()
    expected = 2 * presence(slice(0, 1)) + 3 * presence(slice(1, None))
    expected = expected + 0.5 * sizes + 0.25 * extent(slice(1, None))
    loss = RegionLoss(cell_weight=3.0, size_weight=0.5, cell_size_weight=0.25)(outputs, labels)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)


def test_gradients_are_clipped_before_the_step():
    network = nn.Linear(4, 1)
    before = network.weight.detach().clone()
    trainer = SupervisedTrainer(
        device=torch.device("cpu"),
        max_epochs=1,
        train_data_loader=[{"image": 1000 * torch.ones(2, 4), "label": torch.zeros(2, 1)}],
        network=network,
        optimizer=torch.optim.SGD(network.parameters(), lr=1.0),
        loss_function=nn.MSELoss(),
        train_handlers=[ClipGradients(network, max_norm=0.01)],
        decollate=False,
    )
    trainer.run()
    assert 0 < (network.weight.detach() - before).norm().item() <= 0.01 + 1e-6


def test_a_folder_that_is_no_cohort_says_what_to_do(tmp_path):
    with pytest.raises(CohortError, match="radclear phantom --output"):
        AnnotatedSlices(tmp_path)


def test_a_split_without_boxes_is_named(cohort):
    with pytest.raises(CohortError, match="'nosuch'"):
        AnnotatedSlices(cohort, split="nosuch")


@pytest.mark.parametrize("options", [{"view_size": 72}, {"view_size": 40}, {"window_shares": [1.0]}])
def test_sizes_and_shares_that_do_not_fit_are_refused(cohort, options):
    with pytest.raises(CohortError, match="expected"):
        AnnotatedSlices(cohort, image_size=64, **options)


_MEAN = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
_STD = torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)


def test_frozen_stages_stay_as_they_are_and_the_others_learn():
    torch.manual_seed(0)
    network = SliceClassifier(build("mambaout_nano"), 4, precision="float32", frozen_stages=3)
    free = SliceClassifier(build("mambaout_nano"), 4, precision="float32")
    free.load_state_dict(network.state_dict())
    x = torch.rand(2, 1, 64, 64)
    torch.testing.assert_close(network(x), free(x))
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    network(x).square().mean().backward()
    optimizer.step()
    changed = {name for name, tensor in network.state_dict().items() if not torch.equal(tensor, before[name])}
    frozen = tuple(
        f"backbone.{part}.{number}." for part in ("downsample_layers", "stages") for number in range(3)
    )
    assert not any(name.startswith(frozen) for name in changed)
    assert {"backbone.stages.3.0.fc1.weight", "backbone.norm.weight", "slice_linear.weight"} <= changed


@pytest.mark.parametrize("stages", [-1, 5])
def test_more_frozen_stages_than_the_backbone_has_are_refused(stages):
    with pytest.raises(CohortError, match="expected 0 to 4"):
        SliceClassifier(build("mambaout_nano"), 4, frozen_stages=stages)
