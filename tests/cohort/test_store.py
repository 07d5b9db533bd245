"""The embedding store: what goes in comes out, and nothing half, foreign or stale is taken for it."""

import json
import os
import pickle

import h5py
import numpy as np
import pytest
import torch

import radclear
from radclear.cohort import EmbeddingStore, EmbeddingStoreError, instance_coords
from radclear.ct import ABDOMEN, LUNG

KEY = "study-0123456789abcdef"
ATTRIBUTES = {
    "encoder": "tiny",
    "weight_sha256": "ab" * 32,
    "series_hash": "cd" * 32,
    "precision": "float32",
    "windows": (ABDOMEN, LUNG),
    "image_size": 224,
    "fingerprint": "f1",
}
FEATS = np.random.default_rng(0).normal(size=(14, 6)).astype(np.float32)
COORDS = instance_coords([0.5, 3.0, 5.5, 8.0, 13.0, 15.5, 18.0], 2)


@pytest.fixture
def store(tmp_path):
    return EmbeddingStore(tmp_path / "store")


def write(store, key=KEY, feats=FEATS, coords=COORDS, **changed):
    return store.write(key, feats, coords, {**ATTRIBUTES, **changed})


def files(store):
    return sorted(path.name for path in store.folder.iterdir())


def test_coordinates_of_interleaved_windows():
    assert instance_coords([10.0, 12.5], 2).tolist() == [[0, 0, 10], [0, 1, 10], [1, 0, 12.5], [1, 1, 12.5]]


def test_round_trip(store):
    assert not store.has(KEY) and store.keys() == [] and store.clean() == []
    path = write(store, feats=torch.from_numpy(FEATS))
    assert path == store.path(KEY) and files(store) == [f"{KEY}.h5"]
    study = store.read(KEY)
    assert study.feats.equal(torch.from_numpy(FEATS)) and study.coords.equal(torch.from_numpy(COORDS))
    assert study.n_windows == 2
    assert study.attributes == store.attributes(KEY)
    assert study.attributes["radclear_version"] == radclear.__version__
    assert study.attributes["image_size"] == 224
    assert json.loads(study.attributes["windows"]) == [
        {"name": "abdomen", "level_hu": 40, "width_hu": 400},
        {"name": "lung", "level_hu": -600, "width_hu": 1500},
    ]
    assert store.has(KEY) and store.keys() == [KEY]


def test_other_pipelines_find_feats_and_coords(store):
    with h5py.File(write(store), "r") as file:
        assert set(file) == {"feats", "coords"}
        assert file["feats"].dtype == file["coords"].dtype == np.float32
        np.testing.assert_array_equal(file["feats"][:], FEATS)
        np.testing.assert_array_equal(file["coords"][:], COORDS)


@pytest.mark.parametrize(
    "changed",
    [
        {"weight_sha256": "ff" * 32},
        {"windows": (ABDOMEN,)},
        {"windows": (LUNG, ABDOMEN)},
        {"precision": "bfloat16"},
        {"image_size": 256},
        {"fingerprint": "f2"},
        {"never_written": 1},
    ],
)
def test_other_provenance_counts_as_not_there_and_is_replaced(store, changed):
    write(store)
    expected = {**ATTRIBUTES, **changed}
    assert store.has(KEY, **ATTRIBUTES) and not store.has(KEY, **expected)
    write(store, feats=FEATS + 1, **changed)
    assert store.has(KEY, **expected)
    np.testing.assert_array_equal(store.read(KEY).feats, FEATS + 1)


def test_windows_compare_by_value(store):
    write(store, windows=[{"width_hu": 400.0, "name": "abdomen", "level_hu": 40.0}])
    assert store.has(KEY, windows=(ABDOMEN,))


@pytest.mark.parametrize("kept", [0, 8, 100, 0.5, -1])
def test_truncated_file_is_an_error_and_stays(store, kept):
    path = write(store)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * kept) if isinstance(kept, float) else kept])
    damaged = path.read_bytes()
    for action in (
        lambda: store.has(KEY),
        lambda: store.has(KEY, fingerprint="other"),
        lambda: store.read(KEY),
        lambda: write(store),
    ):
        with pytest.raises(EmbeddingStoreError, match=f"{KEY}.h5 is damaged.*delete it"):
            action()
    assert path.read_bytes() == damaged and files(store) == [f"{KEY}.h5"]


def test_flipped_bits_in_the_embeddings_are_found(store):
    path = write(store)
    content = bytearray(path.read_bytes())
    content[content.index(FEATS.tobytes()) + 5] ^= 1
    path.write_bytes(content)
    with pytest.raises(EmbeddingStoreError, match="damaged"):
        store.read(KEY)


def test_foreign_files_are_an_error_and_stay(store):
    store.folder.mkdir()
    with h5py.File(store.path(KEY), "w") as file:
        file["feats"], file["coords"] = FEATS, COORDS
    store.path("notes").write_text("not HDF5")
    for key, message in ((KEY, "not written by radclear: it lacks encoder"), ("notes", "damaged")):
        before = store.path(key).read_bytes()
        for action in (store.has, store.read, lambda key: write(store, key)):
            with pytest.raises(EmbeddingStoreError, match=message):
                action(key)
        assert store.path(key).read_bytes() == before


def test_absent_study_is_an_error_that_says_what_to_do(store):
    with pytest.raises(EmbeddingStoreError, match="no embeddings of study-x.*radclear embed"):
        store.read("study-x")


@pytest.mark.parametrize("key", ["", "../study", "a/b", ".hidden", "a.b", "a b"])
def test_keys_cannot_leave_the_folder(store, key):
    with pytest.raises(EmbeddingStoreError, match="is no key"):
        write(store, key)
    with pytest.raises(EmbeddingStoreError, match="is no key"), store.claim(key):
        pass


def test_wrong_contents_are_refused(store):
    broken = FEATS.copy()
    broken[3, 1] = np.nan
    for change, message in (
        ({"feats": broken}, "1 of 14 embeddings are not finite"),
        ({"feats": FEATS[0]}, r"feats have shape \[6\]"),
        ({"coords": COORDS[1:]}, r"coords \[13, 3\]"),
        ({"encoder": None}, "attribute value None"),
    ):
        with pytest.raises(EmbeddingStoreError, match=message):
            write(store, **change)
    with pytest.raises(EmbeddingStoreError, match="lack series_hash, fingerprint"):
        attributes = {k: v for k, v in ATTRIBUTES.items() if k not in ("series_hash", "fingerprint")}
        store.write(KEY, FEATS, COORDS, attributes)
    assert not store.has(KEY)


def test_a_write_that_fails_leaves_what_was_there(store, monkeypatch):
    write(store)

    def full_disk(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full_disk)
    with pytest.raises(OSError, match="No space left"):
        write(store, feats=FEATS + 1)
    assert files(store) == [f"{KEY}.h5"]
    np.testing.assert_array_equal(store.read(KEY).feats, FEATS)


def test_same_contents_make_the_same_bytes(store, tmp_path):
    assert write(store).read_bytes() == write(EmbeddingStore(tmp_path / "other")).read_bytes()


def test_a_claim_is_exclusive_and_leaves_nothing(store):
    other = EmbeddingStore(store.folder)
    with store.claim(KEY) as claimed, other.claim(KEY) as second, other.claim("another") as free:
        assert (claimed, second, free) == (True, False, True)
        write(store)
    assert files(store) == [f"{KEY}.h5"]
    with other.claim(KEY) as claimed:
        assert claimed


def test_a_store_travels_to_workers_without_its_claims(store):
    with store.claim(KEY):
        copy = pickle.loads(pickle.dumps(store))
        with copy.claim(KEY) as claimed:
            assert not claimed
    assert copy.folder == store.folder
