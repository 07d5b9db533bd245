"""Slices of phantoms drawn while training goes on."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from monai.data import DataLoader

from radclear.ct import DEFAULT_WINDOWS, slice_stack
from radclear.phantom import make_phantom, write_cohort
from radclear.pretraining import AnnotatedSlices, AnnotatedViews, PhantomSlices, phantom_slices
from radclear.pretraining.annotated_views import CohortError

N_SLICES, SIZE = 24, 64


def _stream(**options) -> PhantomSlices:
    views = AnnotatedViews(windows=DEFAULT_WINDOWS, image_size=SIZE, window_shares=[1, 0])
    settings = {"seed": 4, "studies_per_epoch": 3, "samples_per_study": 5, "n_slices": N_SLICES, "size": SIZE}
    return PhantomSlices(views, **(settings | options))


def _slices_of(seeds) -> torch.Tensor:
    """Every slice of these phantoms under the first window, as (n, S, S) uint8."""
    phantoms = [make_phantom(seed, n_slices=N_SLICES, size=SIZE) for seed in seeds]
    return torch.cat([slice_stack(p, windows=DEFAULT_WINDOWS[:1], size=SIZE)[0] for p in phantoms])


def _is_in(items, slices) -> list[bool]:
    grey = [(item["image"][0] * 255).round().to(torch.uint8) for item in items]
    return [bool((slices == one).flatten(1).all(dim=1).any()) for one in grey]


def test_an_epoch_has_the_promised_length_and_goes_on_where_the_last_one_ended():
    torch.manual_seed(0)
    stream = _stream(kept_studies=1, epochs=2)
    first, second = list(stream), list(stream)
    assert len(first) == len(second) == len(stream) == 15
    assert stream.n_studies == 6
    assert all(_is_in(first, _slices_of(range(4_000_000, 4_000_003))))
    assert all(_is_in(second, _slices_of(range(4_000_003, 4_000_006))))


def test_slices_of_the_latest_phantoms_only():
    torch.manual_seed(0)
    items = list(_stream(studies_per_epoch=4, samples_per_study=40, kept_studies=2))
    seeds = range(4_000_000, 4_000_004)
    last = items[-40:]
    assert all(_is_in(last, _slices_of(seeds[2:])))
    # Both phantoms that are kept are drawn from.
    assert any(_is_in(last, _slices_of(seeds[2:3]))) and any(_is_in(last, _slices_of(seeds[3:])))


def test_processes_share_the_phantoms_of_an_epoch(monkeypatch):
    monkeypatch.setattr(phantom_slices, "world_size", lambda: 2)
    shares = []
    for number in range(2):
        monkeypatch.setattr(phantom_slices, "rank", lambda number=number: number)
        stream = _stream(studies_per_epoch=4, kept_studies=1)
        shares.append(list(stream))
        assert len(shares[-1]) == len(stream) == 10
    for first, items in enumerate(shares):
        assert all(_is_in(items, _slices_of(range(4_000_000 + first, 4_000_004, 2))))
        assert not any(_is_in(items, _slices_of(range(4_000_001 - first, 4_000_004, 2))))
    with pytest.raises(CohortError, match="studies_per_epoch is 3; expected a multiple of the 2 processes"):
        _stream(studies_per_epoch=3)


def test_images_and_labels_are_those_of_the_cohort_on_disk(tmp_path):
    write_cohort(tmp_path, n_studies=3, seed=4, n_slices=N_SLICES, size=SIZE)
    written = AnnotatedSlices(tmp_path, split=None, image_size=SIZE, window_shares=[1, 0])
    items = [written[n] for n in range(len(written))]
    known = {item["image"].numpy().tobytes(): item["label"] for item in items}
    stream = _stream()
    columns = [stream.findings.index(name) for name in written.findings]
    absent = [f for f in range(stream.n_findings) if f not in columns]
    torch.manual_seed(0)
    for item in stream:
        expected = known[item["image"].numpy().tobytes()]
        np.testing.assert_allclose(item["label"][:, columns], expected, atol=1e-5)
        assert not item["label"][:, absent].any()


def test_patients_are_called_as_in_the_cohort_on_disk(tmp_path):
    write_cohort(tmp_path, n_studies=3, seed=4, n_slices=N_SLICES, size=SIZE)
    stream = _stream()
    assert stream.patients == tuple(pd.read_csv(tmp_path / "labels.csv")["patient"])


def test_annotated_share():
    torch.manual_seed(0)
    items = list(_stream(studies_per_epoch=1, samples_per_study=2000, annotated_share=0.8))
    shows = np.mean([bool((item["label"][0, :, 0] != 0).any()) for item in items])
    assert abs(shows - 0.8) < 0.04


def test_workers_share_the_phantoms_and_keep_their_place():
    loader = DataLoader(_stream(studies_per_epoch=4), batch_size=5, num_workers=2, persistent_workers=True)
    for epoch in range(2):
        images = torch.cat([batch["image"] for batch in loader])
        assert len(images) == 20
        own = _slices_of(range(4_000_000 + 4 * epoch, 4_000_004 + 4 * epoch))
        found = _is_in([{"image": image} for image in images], own)
        # Kept phantoms of the first epoch may come again; each epoch brings its own.
        assert all(found) if epoch == 0 else any(found)
