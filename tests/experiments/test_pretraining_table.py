"""The table that demonstration encoders are pre-trained from."""

import pandas as pd
import pytest

from radclear.errors import RadclearError
from radclear.experiments.pretraining_table import main
from radclear.phantom import write_cohort
from radclear.pretraining.decoded_series import DecodedSeries
from radclear.pretraining.slice_table import read_slice_table


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cohort")
    return write_cohort(folder, n_studies=5, seed=4, n_slices=24, size=64, crowded=True)


def test_the_table_is_read_as_slices_with_the_boxes_of_the_cohort(cohort, tmp_path, capsys):
    assert main(["--cohort", str(cohort), "--output", str(tmp_path / "slices.csv")]) == 0
    assert "of 5 patients, 4 of them to train on" in capsys.readouterr().out
    rows = read_slice_table(tmp_path / "slices.csv", series=DecodedSeries(tmp_path / "decoded"))
    assert len(rows) == 5 * 24
    boxes = pd.read_csv(cohort / "boxes.csv")
    tumors = boxes[boxes["kind"].isin(("primary", "satellite", "node", "metastasis"))]
    assert sum(len(row.boxes) for row in rows) == len(tumors)
    assert {row.split for row in rows} == {"train", "val"}


def test_real_slices_are_those_whose_licence_allows_it(cohort, tmp_path, shared_data):
    options = ["--cohort", str(cohort), "--data", str(shared_data), "--output", str(tmp_path / "slices.csv")]
    assert main(options) == 0
    table = pd.read_csv(tmp_path / "slices.csv", dtype=str, keep_default_na=False)
    places = table["image"] + table["series"]
    real = places[places.str.startswith(str(shared_data.resolve()))]
    folders = {place.removeprefix(str(shared_data.resolve())).split("/")[1] for place in real}
    assert folders == {"deeplesion", "lung_pet_ct_dx", "lung_fused_ct_pathology"}
    slices = table[table["image"] != ""]
    assert slices["image"].nunique() == 34 and set(slices["hu_offset"]) == {"-32768"}


def test_missing_data_is_named(cohort, tmp_path):
    options = ["--cohort", str(cohort), "--data", str(tmp_path), "--output", str(tmp_path / "slices.csv")]
    with pytest.raises(RadclearError, match="lesions.csv does not exist"):
        main(options)
