"""Bags of stored embeddings, thinned and batched, through a MONAI trainer too."""

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from radclear.aggregation import AttentionMIL, build_loss
from radclear.cohort import (
    BagDataset,
    EmbeddingStore,
    EmbeddingStoreError,
    LabelTable,
    collate_bags,
    instance_coords,
    prepare_bag_batch,
)
from radclear.ct import study_key

ATTRIBUTES = {
    "encoder": "tiny",
    "weight_sha256": "w",
    "series_hash": "s",
    "precision": "float32",
    "windows": ("abdomen", "lung"),
    "image_size": 8,
    "fingerprint": "f",
}
DEPTHS = {"s0": 3, "s1": 20, "s2": 7, "s3": 5, "s4": 4, "s5": 6}


@pytest.fixture
def store(tmp_path):
    store, rng = EmbeddingStore(tmp_path / "store"), np.random.default_rng(0)
    for study, depth in DEPTHS.items():
        feats = rng.normal(size=(2 * depth, 4))
        feats[:, 0] = np.arange(2 * depth)
        store.write(study_key(study), feats, instance_coords(np.arange(depth) * 5.0, 2), ATTRIBUTES)
    return store


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "labels.csv"
    rows = "".join(
        f"{s},p{s},{'test' if s == 's5' else 'train'},{i % 2},1,{'I' if i % 2 else 'II'}\n"
        for i, s in enumerate([*DEPTHS, "absent"])
    )
    path.write_text("study,patient,split,lung,liver,stage\n" + rows)
    return LabelTable.read(path, classes=["lung", "liver"])


@pytest.fixture
def stage_table(table):
    return LabelTable.read(table.path, classes=["I", "II"], kind="multiclass", column="stage")


def test_items(store, table):
    bags = BagDataset(store, table, "train")
    assert len(bags) == 5 and bags.embedding_dim == 4 and bags.n_windows == 2
    assert [study for study, _ in bags.excluded] == ["absent"]
    item = bags[1]
    stored = store.read(study_key("s1"))
    assert item["feats"].equal(stored.feats) and item["coords"].equal(stored.coords)
    assert item["label"].tolist() == [1.0, 1.0] and item["label"].dtype == torch.float32
    assert (item["study"], item["key"]) == ("s1", study_key("s1"))
    assert (item["patient"], item["split"]) == ("ps1", "train")


def test_multiclass_labels_are_indices(store, stage_table):
    item = BagDataset(store, stage_table, "train")[0]
    assert item["label"].tolist() == 1 and item["label"].dtype == torch.int64


def test_batches_are_padded_and_masked(store, table):
    bags = BagDataset(store, table, "train")
    batch = collate_bags([bags[0], bags[1], bags[2]])
    assert batch["feats"].shape == (3, 40, 4) and batch["coords"].shape == (3, 40, 3)
    assert batch["mask"].sum(dim=1).tolist() == [6, 40, 14]
    assert batch["feats"][0, :6].equal(bags[0]["feats"]) and not batch["feats"][0, 6:].any()
    assert (batch["coords"][~batch["mask"]] == -1).all()
    assert batch["label"].tolist() == [[0, 1], [1, 1], [0, 1]]
    assert batch["study"] == ["s0", "s1", "s2"]


def test_even_thinning_keeps_whole_slices_and_is_the_same_every_time(store, table):
    bags = BagDataset(store, table, "train", 9)
    first = bags[1]
    assert first["feats"][:, 0].tolist() == [4, 5, 14, 15, 24, 25, 34, 35]  # slices 2, 7, 12, 17 of 20
    assert first["coords"][:, 1].tolist() == [0, 1] * 4
    assert bags[1]["feats"].equal(first["feats"])
    assert len(bags[0]["feats"]) == 6  # short bags stay


def test_random_thinning_draws_from_torch_generator(store, table):
    bags = BagDataset(store, table, "train", 8, sampling="random")
    torch.manual_seed(0)
    draws = [bags[1]["feats"][:, 0].long() for _ in range(40)]
    torch.manual_seed(0)
    assert bags[1]["feats"][:, 0].long().equal(draws[0])
    assert len({tuple(draw.tolist()) for draw in draws}) > 30
    for draw in draws:
        assert (draw.diff() > 0).all() and (draw[1::2] == draw[::2] + 1).all() and (draw[::2] % 2 == 0).all()
    assert len(torch.cat(draws).unique()) == 40  # every slice gets its turn


def test_bags_can_be_kept_in_memory(store, table):
    bags = BagDataset(store, table, "train", in_memory=True)
    first = bags[2]["feats"]
    for study in DEPTHS:
        store.path(study_key(study)).unlink()
    assert bags[2]["feats"].equal(first)
    with pytest.raises(EmbeddingStoreError, match="no embeddings"):
        bags[1]


@pytest.mark.parametrize("name", ["encoder", "weight_sha256", "windows", "image_size"])
def test_embeddings_of_two_kinds_are_refused(store, table, name):
    study = store.read(study_key("s2"))
    store.write(study_key("s2"), study.feats, study.coords, {**ATTRIBUTES, name: "other"})
    with pytest.raises(
        EmbeddingStoreError,
        match=f"{study_key('s2')} of encoder .* have {name} 'other'.*that of {study_key('s0')}",
    ):
        BagDataset(store, table, "train")
    BagDataset(store, table, "test")


def test_embeddings_of_another_backbone_than_expected_are_refused(store, table):
    BagDataset(store, table, "train", expected={"weight_sha256": "w", "windows": ("abdomen", "lung")})
    with pytest.raises(EmbeddingStoreError, match="weight_sha256 'w', but 'v' is expected"):
        BagDataset(store, table, "train", expected={"weight_sha256": "v"})


def test_wrong_options_are_named(store, table):
    with pytest.raises(EmbeddingStoreError, match="max_instances is 1; expected 2"):
        BagDataset(store, table, "train", 1)
    with pytest.raises(EmbeddingStoreError, match="even or random"):
        BagDataset(store, table, "train", sampling="first")


@pytest.mark.parametrize("kind", ["multilabel", "multiclass"])
def test_a_monai_trainer_takes_bags(store, table, stage_table, kind):
    from monai.engines import SupervisedTrainer

    labels = table if kind == "multilabel" else stage_table
    torch.manual_seed(0)
    network = AttentionMIL(4, 2, hidden_dim=8)
    bags = BagDataset(store, labels, "train", in_memory=True)
    losses = []
    loss = build_loss(kind)

    def noted_loss(logits, target):
        value = loss(logits, target)
        losses.append(float(value.detach()))
        return value

    SupervisedTrainer(
        device=torch.device("cpu"),
        max_epochs=15,
        train_data_loader=DataLoader(bags, batch_size=5, collate_fn=collate_bags),
        network=network,
        optimizer=torch.optim.Adam(network.parameters(), 1e-2),
        loss_function=noted_loss,
        prepare_batch=prepare_bag_batch,
    ).run()
    assert len(losses) == 15 and losses[-1] < 0.8 * losses[0]
    assert network.attention.shape == (5, 40)
