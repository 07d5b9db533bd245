"""Slices from DeepLesion as published, a cohort of series and a plain table; patients; the order of draws."""

from __future__ import annotations

import csv
import shutil
import sys
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import imagecodecs
import numpy as np
import pandas as pd
import pytest
import torch

from radclear.ct import DEFAULT_WINDOWS, find_studies, read_study, slice_stack
from radclear.errors import MissingDependencyError
from radclear.phantom import write_cohort
from radclear.pretraining import EpochBatches, RunData, SlicePairs, SliceViews, collate
from radclear.pretraining.decoded_series import DecodedSeries
from radclear.pretraining.errors import PretrainingDataError
from radclear.pretraining.slice_pairs import Draw
from radclear.pretraining.slice_rows import check_patients, describe, in_split, patient_key
from radclear.pretraining.slice_sources import read_slices

N_SLICES, SIZE = 24, 64
INFO_COLUMNS = (
    "File_name", "Patient_index", "Bounding_boxes", "Coarse_lesion_type", "Possibly_noisy", "Train_Val_Test",
)  # fmt: skip


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cohort")
    write_cohort(folder, n_studies=5, seed=4, n_slices=N_SLICES, size=SIZE)
    return folder


@pytest.fixture(scope="module")
def series(tmp_path_factory):
    return DecodedSeries(tmp_path_factory.mktemp("decoded"))


@pytest.fixture
def deeplesion(tmp_path):
    """Three series of three patients with six slices each, 16-bit with HU + 32768."""
    rows = [
        ("000001_01_01_003.png", 1, "10, 12, 20, 30", 5, 0, 1),
        ("000001_01_01_003.png", 1, "40.5, 41, 50, 52.5", 5, 0, 1),
        ("000001_01_01_005.png", 1, "1, 2, 3, 4", 3, 1, 1),  # noisy
        ("000002_01_01_002.png", 2, "5, 6, 25, 26", -1, 0, 2),
        ("000003_01_01_004.png", 3, "5, 6, 25, 26", 8, 0, 3),
    ]
    for patient in (1, 2, 3):
        folder = tmp_path / "Images_png" / f"{patient:06d}_01_01"
        folder.mkdir(parents=True)
        for z in range(1, 7):
            hu = np.full((64, 64), 100 * z - 1000 + patient, np.int32)
            (folder / f"{z:03d}.png").write_bytes(imagecodecs.png_encode((hu + 32768).astype(np.uint16)))
    write_info(tmp_path, rows)
    return tmp_path


def write_info(folder, rows):
    with (folder / "DL_info.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(INFO_COLUMNS)
        writer.writerows(rows)


def test_deeplesion_as_published(deeplesion, series):
    rows = read_slices(deeplesion, series=series, options={"other_slices_every": 1})
    key = [row for row in rows if row.is_lesion]
    assert [(r.path.name, r.patient, r.split, r.lesion_class) for r in key] == [
        ("003.png", "1", "train", "lung"),
        ("002.png", "2", "val", ""),
        ("004.png", "3", "test", "pelvis"),
    ]
    assert key[0].boxes == ((10, 12, 20, 30), (40.5, 41, 50, 52.5))
    others = Counter(row.study for row in rows if not row.is_lesion)
    assert others == {"000001_01_01": 4, "000002_01_01": 5, "000003_01_01": 5}
    assert not any(row.study == "000001_01_01" and row.path.name == "005.png" for row in rows), "noisy"


def test_deeplesion_values_are_hu(deeplesion, series):
    rows = read_slices(deeplesion, series=series)
    pairs = SlicePairs(rows, series=series, views=SliceViews(image_size=32))
    pixels, _ = pairs.pixels(0)
    assert pixels.dtype == torch.int16 and (pixels == 300 - 1000 + 1).all()
    assert rows[0].has_hu


def test_deeplesion_takes_every_nth_other_slice(deeplesion, series):
    rows = read_slices(deeplesion, series=series, options={"other_slices_every": 2})
    assert sum(r.study == "000002_01_01" and not r.is_lesion for r in rows) == 3
    none = read_slices(deeplesion, series=series, options={"other_slices_every": 0})
    assert all(row.is_lesion for row in none)


def test_absent_key_slices_are_an_error_unless_skipped(deeplesion, series):
    (deeplesion / "Images_png" / "000001_01_01" / "003.png").unlink()
    with pytest.raises(PretrainingDataError, match="1 of 3 key slices .* have no file"):
        read_slices(deeplesion, series=series)
    rows = read_slices(deeplesion, series=series, options={"missing": "skip"})
    assert sum(row.is_lesion for row in rows) == 2


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (("000001_01_01_003.png", 1, "10, 12, 20", 5, 0, 1), "line 2: box .* has 3 numbers"),
        (("000001_01_01_003.png", 1, "30, 12, 20, 30", 5, 0, 1), "has no area"),
        (("000001_01_01_003.png", 1, "a, 12, 20, 30", 5, 0, 1), "x1 is 'a'"),
        (("000001_01_01_003.png", 1, "1, 12, 20, 30", 5, 0, 4), "Train_Val_Test is '4'"),
    ],
)
def test_wrong_cells_are_named(deeplesion, series, row, message):
    write_info(deeplesion, [row])
    with pytest.raises(PretrainingDataError, match=message):
        read_slices(deeplesion, series=series)


def test_a_phantom_cohort_with_its_boxes(cohort, series):
    rows = read_slices(cohort, series=series)
    labels, boxes = pd.read_csv(cohort / "labels.csv"), pd.read_csv(cohort / "boxes.csv")
    assert len(rows) == 5 * N_SLICES
    assert {(r.study, r.split, r.patient) for r in rows} == set(
        labels[["study", "split", "patient"]].itertuples(index=False, name=None)
    )
    wanted = boxes.groupby(["study", "slice"]).size().to_dict()
    assert {(r.study, r.slice_index): len(r.boxes) for r in rows if r.boxes} == wanted
    lesions = boxes[boxes["kind"].isin(["primary", "satellite", "node", "metastasis"])]
    assert {(r.study, r.slice_index) for r in rows if r.lesion_or_not == "lesion"} == set(
        lesions[["study", "slice"]].itertuples(index=False, name=None)
    )
    assert sum(r.lesion_or_not == "none" for r in rows) == len(rows) - len(wanted)
    first = boxes.iloc[0]
    row = next(r for r in rows if (r.study, r.slice_index) == (first.study, first.slice))
    assert (first.x1, first.y1, first.x2, first.y2) in row.boxes


def test_the_probe_sees_what_the_embeddings_see(cohort, series):
    """All windows of a slice, as the reader and the windows of a bundle make them."""
    rows = read_slices(cohort, series=series)
    pairs = SlicePairs(rows, series=series, views=SliceViews(image_size=32))
    index = next(i for i, row in enumerate(rows) if row.slice_index == 9)
    stack = slice_stack(read_study(cohort / "studies" / rows[index].study), windows=DEFAULT_WINDOWS, size=32)[
        :, 9
    ]
    found = pairs.whole_views(index)
    assert found.shape == (2, 1, 32, 32) and not torch.equal(found[0], found[1])
    difference = (found[:, 0].int() - torch.as_tensor(stack).int()).abs()
    assert difference.max() <= 1  # greys are rounded before the resize there, after it here


def test_decoded_slices_are_those_of_the_reader(cohort, series, monkeypatch):
    rows = read_slices(cohort, series=series)
    pairs = SlicePairs(rows, series=series, views=SliceViews(image_size=32))
    study = read_study(cohort / "studies" / rows[30].study)
    pixels, spacing = pairs.pixels(30)
    np.testing.assert_array_equal(pixels.numpy(), study.hu[rows[30].slice_index])
    assert spacing == pytest.approx((study.spacing_mm[1], study.spacing_mm[0]))
    monkeypatch.setattr("radclear.pretraining.decoded_series.read_study", None)  # decoded once
    assert len(read_slices(cohort, series=DecodedSeries(series.folder))) == len(rows)


def test_processes_decode_each_series_once_whoever_starts_first(cohort, tmp_path, monkeypatch):
    """The second lists what is left to do when the first has done its part already."""
    decoded = []
    monkeypatch.setattr(
        "radclear.pretraining.decoded_series.read_study",
        lambda path: decoded.append(path) or read_study(path),
    )
    monkeypatch.setattr("radclear.pretraining.decoded_series.world_size", lambda: 2)
    monkeypatch.setattr("radclear.pretraining.decoded_series.barrier", lambda: None)
    sources = find_studies(cohort / "studies")
    monkeypatch.setattr("radclear.pretraining.decoded_series.rank", lambda: 0)
    with pytest.raises(FileNotFoundError):  # its barrier waits for nobody here
        DecodedSeries(tmp_path).prepare(sources)
    monkeypatch.setattr("radclear.pretraining.decoded_series.rank", lambda: 1)
    assert len(DecodedSeries(tmp_path).prepare(sources)) == 5
    assert sorted(decoded) == sorted(source.path for source in sources)


def test_two_runs_may_decode_into_one_folder_at_the_same_time(cohort, tmp_path, monkeypatch):
    """Both have found the first series undecoded before either has written it."""
    both = threading.Barrier(2, timeout=60)
    met = set()

    def read(path):
        if threading.current_thread() not in met:
            met.add(threading.current_thread())
            both.wait()
        return read_study(path)

    monkeypatch.setattr("radclear.pretraining.decoded_series.read_study", read)
    sources = find_studies(cohort / "studies")
    with ThreadPoolExecutor(2) as pool:
        depths = list(pool.map(lambda _: DecodedSeries(tmp_path).prepare(sources), range(2)))
    assert len(met) == 2 and depths[0] == depths[1] == {source.path: N_SLICES for source in sources}
    assert sorted(file.suffix for file in tmp_path.iterdir()) == [".json"] * 5 + [".npy"] * 5
    shared = DecodedSeries(tmp_path)
    shared.prepare(sources)
    hu, _ = shared.slice(sources[0].path, 7)
    np.testing.assert_array_equal(hu, read_study(sources[0].path).hu[7])


def run_data(cohort, folder, **options):
    return RunData(cohort, run_dir=folder / "run", views=SliceViews(image_size=32), seed=0, **options)


def test_a_second_run_decodes_nothing_and_no_run_decodes_splits_it_does_not_use(
    cohort, tmp_path, monkeypatch
):
    splits = pd.read_csv(cohort / "labels.csv")["split"].value_counts()
    first = run_data(cohort, tmp_path, decoded_dir=tmp_path / "shared", validation_split=None)
    assert len(list((tmp_path / "shared").glob("*.npy"))) == splits["train"] < 5
    monkeypatch.setattr("radclear.pretraining.decoded_series.read_study", None)
    second = run_data(cohort, tmp_path, decoded_dir=tmp_path / "shared", validation_split=None)
    assert second.fingerprint == first.fingerprint and not (tmp_path / "run").exists()
    monkeypatch.undo()
    run_data(cohort, tmp_path, validation_split=None)
    assert len(list((tmp_path / "run" / "decoded").glob("*.npy"))) == splits["train"]


@pytest.mark.parametrize("table", [False, True])
def test_a_patient_in_a_split_that_is_not_read_is_found_all_the_same(cohort, tmp_path, table):
    labels = pd.read_csv(cohort / "labels.csv").assign(split="test")
    labels.loc[0, "split"] = "train"
    labels["patient"] = ["1", "2", "0001", "4", "5"]
    labels["series"] = [str(cohort / "studies" / name) for name in labels["study"]]
    labels.to_csv(tmp_path / "labels.csv", index=False)
    (tmp_path / "studies").symlink_to(cohort / "studies")
    with pytest.raises(PretrainingDataError, match="1 patients are in more than one split .1 in test and"):
        run_data(tmp_path / "labels.csv" if table else tmp_path, tmp_path)
    labels.assign(patient=list("12345")).to_csv(tmp_path / "labels.csv", index=False)
    found = run_data(tmp_path / "labels.csv" if table else tmp_path, tmp_path)
    assert len(found.train) == N_SLICES and len(list((tmp_path / "run" / "decoded").glob("*.npy"))) == 1
    with pytest.raises(PretrainingDataError, match="no row is in split 'x'.*the data have: test, train"):
        run_data(tmp_path / "labels.csv" if table else tmp_path, tmp_path, train_split="x")


def test_a_series_that_cannot_be_read_is_left_out_and_named(cohort, tmp_path, caplog):
    copy = shutil.copytree(cohort, tmp_path / "cohort")
    broken = copy / "studies" / pd.read_csv(copy / "labels.csv")["study"][0]
    for file in broken.glob("*"):
        file.write_bytes(file.read_bytes()[:-2000])  # the pixels end early
    caplog.set_level("WARNING", logger="radclear")
    rows = read_slices(copy, series=DecodedSeries(tmp_path / "decoded"))
    assert broken.name not in {row.study for row in rows} and len(rows) == 4 * N_SLICES
    assert "is left out" in caplog.text


def test_a_missing_study_is_named(cohort, tmp_path):
    (tmp_path / "studies").symlink_to(cohort / "studies")
    (tmp_path / "labels.csv").write_text("study,patient,split\nnone,1,train\n")
    with pytest.raises(PretrainingDataError, match="1 of 1 studies .*'none'"):
        read_slices(tmp_path, series=DecodedSeries(tmp_path / "d"))


def test_a_cohort_without_patients_says_what_to_write(tmp_path):
    (tmp_path / "labels.csv").write_text("study,split\na,train\n")
    with pytest.raises(
        PretrainingDataError, match="lacks the columns patient. .* the name of the study in it"
    ):
        read_slices(tmp_path, series=DecodedSeries(tmp_path / "d"), data_format="cohort")


def test_a_plain_table_of_images_and_series(cohort, series, tmp_path):
    name = pd.read_csv(cohort / "labels.csv")["study"][0]
    (tmp_path / "a.png").write_bytes(imagecodecs.png_encode(np.arange(4096, dtype=np.uint8).reshape(64, 64)))
    (tmp_path / "b.png").write_bytes(imagecodecs.png_encode(np.full((64, 64), 1064, np.uint16)))
    table = tmp_path / "slices.csv"
    table.write_text(
        "file,series,slice,patient,split,x1,y1,x2,y2,hu_offset\n"
        "a.png,,,p1,train,,,,,\n"
        "b.png,,,p2,train,3,4,9,10,-1024\n"
        "b.png,,,p2,train,30,40,50,60,-1024\n"
        f",{cohort}/studies/{name},5,p3,val,1,2,30,40,\n"
    )
    rows = read_slices(table, series=series, columns={"image": "file"})
    assert [(r.path.name, r.patient, len(r.boxes), r.has_hu) for r in rows] == [
        ("a.png", "p1", 0, False),
        ("b.png", "p2", 2, True),
        (name, "p3", 1, True),
    ]
    pairs = SlicePairs(rows, series=series, views=SliceViews(image_size=32))
    assert (pairs.pixels(1)[0] == 40).all()
    np.testing.assert_array_equal(pairs.pixels(2)[0].numpy(), read_study(cohort / "studies" / name).hu[5])
    batch = collate([pairs[Draw(1, i, i)] for i in range(3)])
    assert batch["view_1"].shape == (3, 1, 32, 32) and batch["view_1"].dtype == torch.uint8
    assert batch["lesion"].tolist() == [False, True, True]
    assert "1 of them are 8-bit images without HU" in describe(rows)


def test_a_parquet_table_gives_the_rows_of_the_csv_table(tmp_path):
    """Read with pyarrow; numbers beside missing values are no longer whole numbers there."""
    for name in ("a", "b"):
        (tmp_path / f"{name}.png").write_bytes(imagecodecs.png_encode(np.full((64, 64), 1064, np.uint16)))
    (tmp_path / "slices.csv").write_text(
        "image,patient,split,x1,y1,x2,y2,lesion_class,hu_offset\n"
        "a.png,002648,train,,,,,,-1024\n"
        "b.png,17,train,3,4,9,10.5,lung,-1024\n"
    )
    frame = pd.read_csv(tmp_path / "slices.csv", dtype={"patient": str})
    assert frame["x1"].dtype == float
    frame.to_parquet(tmp_path / "slices.parquet")
    found = [
        read_slices(tmp_path / f"slices.{kind}", series=DecodedSeries(tmp_path))
        for kind in ("csv", "parquet")
    ]
    assert found[0] == found[1] and [len(row.boxes) for row in found[1]] == [0, 1]


def test_a_parquet_table_without_its_package_says_what_to_install(tmp_path, monkeypatch):
    (tmp_path / "slices.parquet").write_bytes(b"")
    for name in ("pyarrow", "fastparquet"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(
        MissingDependencyError, match="read slices.parquet. Install it with: pip install 'pyarrow'"
    ):
        read_slices(tmp_path / "slices.parquet", series=DecodedSeries(tmp_path))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image,patient\na.png,1\n", 'needed are image or series, patient and split.*…}"$'),
        ("image,split\na.png,train\n", "needed are image or series, .* repeat the name of the image in it"),
        ("series,split\na,train\n", "repeat the name of the series in it"),
        ("image,patient,split\nnone.png,1,train\n", "line 2: .*none.png does not exist"),
        ("image,series,patient,split\n,,1,train\n", "neither image and series"),
    ],
)
def test_wrong_tables_are_named(tmp_path, text, message):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(PretrainingDataError, match=message):
        read_slices(tmp_path / "t.csv", series=DecodedSeries(tmp_path / "d"))


def test_images_without_hu_must_say_so(tmp_path):
    (tmp_path / "b.png").write_bytes(imagecodecs.png_encode(np.zeros((9, 9), np.uint16)))
    (tmp_path / "t.csv").write_text("image,patient,split\nb.png,1,train\n")
    decoded = DecodedSeries(tmp_path / "d")
    pairs = SlicePairs(read_slices(tmp_path / "t.csv", series=decoded), series=decoded, views=SliceViews())
    with pytest.raises(PretrainingDataError, match="hu_offset"):
        pairs[0]
    with pytest.raises(PretrainingDataError, match="b.png has 16-bit values; say how .* hu_offset"):
        run_data(tmp_path / "t.csv", tmp_path, validation_split=None)  # before the first step


@pytest.mark.parametrize(
    "changed",
    ["1,2,9,9,cyst,q1,-1024", "1,2,8,9,mass,q1,-1024", "1,2,9,9,mass,q2,-1024", "1,2,9,9,mass,q1,-1000"],
)
def test_other_slices_boxes_patients_or_classes_have_another_fingerprint(tmp_path, changed):
    (tmp_path / "b.png").write_bytes(imagecodecs.png_encode(np.zeros((9, 9), np.uint16)))
    found = []
    for number, cells in enumerate(("1,2,9,9,mass,q1,-1024", "1,2,9,9,mass,q1,-1024", changed)):
        table = tmp_path / f"{number}.csv"
        table.write_text(f"image,split,x1,y1,x2,y2,lesion_class,patient,hu_offset\nb.png,train,{cells}\n")
        found.append(run_data(table, tmp_path, validation_split=None).fingerprint)
    assert found[0] == found[1] != found[2]


def test_an_unknown_folder_is_named(tmp_path):
    with pytest.raises(PretrainingDataError, match="none of the known data sets"):
        read_slices(tmp_path, series=DecodedSeries(tmp_path / "d"))
    with pytest.raises(PretrainingDataError, match="does not exist"):
        read_slices(tmp_path / "x", series=DecodedSeries(tmp_path / "d"))
    with pytest.raises(PretrainingDataError, match="data_options do not fit"):
        (tmp_path / "labels.csv").write_text("study,patient,split\n")
        read_slices(tmp_path, series=DecodedSeries(tmp_path / "d"), options={"nonsense": 1})


# Patients: pre-training on a patient whom an evaluation uses is an error that names them.


def test_training_on_an_evaluation_patient_is_an_error_that_names_them(cohort, series, tmp_path):
    rows = read_slices(cohort, series=series)
    trained = sorted({r.patient for r in rows if r.split == "train"})
    table = tmp_path / "evaluation.csv"
    table.write_text("study,patient,probability\n" + f"s,{trained[0]},0.5\nt,somebody,0.1\n")
    with pytest.raises(PretrainingDataError, match=f"1 of the patients .* {trained[0]}"):
        check_patients(rows, train_split="train", evaluation_tables=[table])
    table.write_text("study,patient,split\n" + f"s,{trained[0]},train\nt,somebody,test\n")
    check_patients(rows, train_split="train", evaluation_tables=[table])  # trained on there, too
    table.write_text("study,patient,split\n" + f"s,{trained[0]},test\n")
    with pytest.raises(PretrainingDataError, match="look too good"):
        check_patients(rows, train_split="train", evaluation_tables=[table])
    table.write_text("study,who\ns,1\n")
    with pytest.raises(PretrainingDataError, match="no column patient"):
        check_patients(rows, train_split="train", evaluation_tables=[table])


def test_a_patient_in_two_splits_is_an_error(deeplesion, series):
    write_info(
        deeplesion,
        [
            ("000001_01_01_003.png", "0001", "10, 12, 20, 30", 5, 0, 1),
            ("000002_01_01_003.png", "1.0", "10, 12, 20, 30", 5, 0, 2),
        ],
    )
    rows = read_slices(deeplesion, series=series)
    with pytest.raises(PretrainingDataError, match="1 in train and val"):
        check_patients(rows, train_split="train")


@pytest.mark.parametrize(("a", "b"), [("002648", "2648"), ("2648.0", "2648"), (" P-1 ", "P-1"), ("000", "0")])
def test_one_patient_under_two_spellings(a, b):
    assert patient_key(a) == patient_key(b)


def test_an_empty_split_is_named(cohort, series):
    with pytest.raises(PretrainingDataError, match="no slice is in split 'training'; the data have: .*train"):
        in_split(read_slices(cohort, series=series), "training")


# Draws


def lesions(n=20, every=4):
    return torch.arange(n) % every == 0


def taken(batches, count):
    iterator = iter(batches)
    return [next(iterator) for _ in range(count)]


def test_every_slice_is_drawn_once_an_epoch_in_another_order_each():
    batches = EpochBatches(lesions(), batch_size=5, seed=3)
    assert len(batches) == 4
    drawn = [[d.index for batch in taken(batches, 8)[e * 4 : e * 4 + 4] for d in batch] for e in (0, 1)]
    assert sorted(drawn[0]) == sorted(drawn[1]) == list(range(20)) and drawn[0] != drawn[1]
    assert taken(batches, 8) == taken(EpochBatches(lesions(), batch_size=5, seed=3), 8)
    assert taken(batches, 8) != taken(EpochBatches(lesions(), batch_size=5, seed=4), 8)


@pytest.mark.parametrize("done", [0, 3, 4, 6])
def test_a_resumed_order_goes_on_where_it_stood(done):
    whole = taken(EpochBatches(lesions(), batch_size=5), 10)
    batches = EpochBatches(lesions(), batch_size=5)
    batches.start_after(done)
    assert taken(batches, 10 - done) == whole[done:]


def test_processes_share_each_global_batch(monkeypatch):
    whole = taken(EpochBatches(lesions(), batch_size=6), 3)
    monkeypatch.setattr("radclear.pretraining.draws.world_size", lambda: 2)
    parts = []
    for rank in range(2):
        monkeypatch.setattr("radclear.pretraining.draws.rank", lambda rank=rank: rank)
        parts.append(taken(EpochBatches(lesions(), batch_size=3), 3))
    assert [a + b for a, b in zip(*parts, strict=True)] == whole


def test_lesion_share_is_kept():
    batches = EpochBatches(lesions(100, 10), batch_size=10, samples_per_epoch=60, lesion_share=0.5)
    drawn = [d.index for batch in taken(batches, 6) for d in batch]
    assert sum(index % 10 == 0 for index in drawn) == 30
    counts = Counter(index for index in drawn if index % 10 == 0)
    assert set(counts.values()) == {3}


@pytest.mark.parametrize(
    "wrong",
    [
        {"batch_size": 21},
        {"batch_size": 1},
        {"batch_size": 5, "accumulation": 5},
        {"batch_size": 5, "accumulation": 0},
        {"batch_size": 5, "lesion_share": 1.5},
    ],
)
def test_impossible_batches_are_refused(wrong):
    with pytest.raises(PretrainingDataError):
        EpochBatches(lesions(), **wrong)


def test_an_epoch_is_a_whole_number_of_optimiser_steps():
    batches = EpochBatches(lesions(23), batch_size=3, accumulation=3)
    assert len(batches) == 6 and batches.steps == 2 and batches.step_size == 9
