"""The data, network and loss of the supervised warm-up."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F

from radclear.backbones import build
from radclear.phantom import write_cohort
from radclear.pretraining import AnnotatedSlices, SliceAndTokenLoss, SliceClassifier, balanced_sampler
from radclear.pretraining.annotated_slices import CohortError


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cohort")
    write_cohort(folder, n_studies=5, seed=4, n_slices=24, size=64)
    return folder


@pytest.fixture(scope="module")
def slices(cohort):
    return AnnotatedSlices(cohort, image_size=56, grid=7)


def test_reads_the_training_studies_only(cohort, slices):
    table = pd.read_csv(cohort / "labels.csv")
    assert slices.n_studies == (table["split"] == "train").sum()
    assert len(slices) == 24 * slices.n_studies


def test_labels_are_the_boxes_of_the_table(cohort, slices):
    boxes = pd.read_csv(cohort / "boxes.csv")
    train = pd.read_csv(cohort / "labels.csv").query("split == 'train'")["study"].tolist()
    boxes = boxes[boxes["study"].isin(train)]
    annotated = {(train.index(study), z) for study, z in zip(boxes["study"], boxes["slice"], strict=True)}
    found = {divmod(int(i), 24) for i in np.flatnonzero(slices.labels[:, -1])}
    assert found == annotated
    assert slices.labels[:, :-1].any(dim=1).equal(slices.labels[:, -1].bool())


def test_cells_of_a_box_cover_its_centre(cohort, slices):
    boxes = pd.read_csv(cohort / "boxes.csv")
    train = pd.read_csv(cohort / "labels.csv").query("split == 'train'")["study"].tolist()
    for box in boxes[boxes["study"].isin(train)].itertuples():
        row = train.index(box.study) * 24 + box.slice
        grid = slices.grids[row, 1:, slices.classes.index(f"{box.site} {box.kind}")].view(7, 7)
        y, x = (int((low + high) / 2 * 7 / 64) for low, high in ((box.y1, box.y2), (box.x1, box.x2)))
        assert grid[min(y, 6), min(x, 6)]


def test_sampler_keeps_the_annotated_share(slices):
    torch.manual_seed(0)
    drawn = torch.tensor(list(balanced_sampler(slices, n_samples=4000, annotated_share=0.7)))
    assert slices.labels[drawn, -1].mean().item() == pytest.approx(0.7, abs=0.03)


def test_network_gives_the_slice_before_its_tokens_and_embeds_as_the_backbone(slices):
    network = SliceClassifier(build("mambaout_nano"), slices.n_classes, precision="float32").eval()
    x = torch.rand(2, 1, 224, 224)
    with torch.no_grad():
        logits = network(x)
        embedding = network.backbone.embed(x.expand(-1, 3, -1, -1).sub(_MEAN).div(_STD))
    assert logits.shape == (2, 1 + 49, slices.n_classes)
    torch.testing.assert_close(logits[:, 0], network.slice_linear(embedding), rtol=1e-4, atol=1e-4)


def test_loss_is_the_sum_of_its_parts():
    torch.manual_seed(0)
    logits, labels = torch.randn(3, 5, 4), torch.randint(0, 2, (3, 5, 4)).float()
    tokens = F.binary_cross_entropy_with_logits(
        logits[:, 1:], labels[:, 1:], weight=torch.where(labels[:, 1:] > 0, 5.0, 1.0)
    )
    expected = F.binary_cross_entropy_with_logits(logits[:, 0], labels[:, 0]) + 2 * tokens
    loss = SliceAndTokenLoss(token_weight=2.0, positive_weight=5.0)(logits, labels)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)


def test_a_folder_that_is_no_cohort_says_what_to_do(tmp_path):
    with pytest.raises(CohortError, match="radclear phantom --output"):
        AnnotatedSlices(tmp_path)


def test_a_split_without_boxes_is_named(cohort):
    with pytest.raises(CohortError, match="'nosuch'"):
        AnnotatedSlices(cohort, split="nosuch")


_MEAN = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
_STD = torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)
