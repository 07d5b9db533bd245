"""A study whose sides are marked, answers of the three heads, and a result made from them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from radclear.ct.study import Finding, SeriesChoice, Study
from radclear.results import ModelProvenance, TaskAnswer, build_result

N_SLICES = 24
SPACING_MM = (0.8, 0.8, 5.0)
STUDY_UID = "1.2.826.0.1.3680043.8.498.1111"
SERIES_UID = "1.2.826.0.1.3680043.8.498.2222"
LOCATIONS = ("bone", "abdomen", "mediastinum", "liver", "lung", "kidney", "soft_tissue", "pelvis")


def marked_study(*, spacing_mm=SPACING_MM, shape=(N_SLICES, 96, 96)) -> Study:
    """An ellipse of tissue in air; bright at the patient's right, and in the top slice anterior too."""
    n_slices, n_rows, n_columns = shape
    y, x = np.ogrid[-1 : 1 : n_rows * 1j, -1 : 1 : n_columns * 1j]
    body = (x / 0.9) ** 2 + (y / 0.7) ** 2 < 1
    hu = np.full(shape, -1000, np.int16)
    hu[:, body] = 40
    hu[:, body & (x < -0.5)] = 400  # x grows to the patient's left
    hu[-1, body & (y < -0.3)] = 1000  # y grows to posterior, z to the head
    affine = np.diag([*spacing_mm, 1.0])
    affine[:3, 3] = (-38.4, -38.4, -60.0)
    return Study(
        hu=hu,
        affine=affine,
        z_mm=-60.0 + spacing_mm[2] * np.arange(n_slices),
        sop_instance_uids=tuple(f"{SERIES_UID}.{k}" for k in range(n_slices)),
        findings=(Finding("gap", "warning", "One slice is missing above slice 12.", (11, 12)),),
        series=SeriesChoice(SERIES_UID, STUDY_UID, "the only axial CT series", 1, "dicom"),
        path=Path("/archive/DOE_JOHN_19611224"),
    )


def provenance(**changes) -> ModelProvenance:
    given = ModelProvenance(
        bundle="tumor_location_classification",
        bundle_version="0.1.0",
        weights_sha256="a1" * 32,
        backbone_bundle="lecl_gated_cnn",
        backbone_version="0.1.0",
        backbone_weights_sha256="b2" * 32,
        config_sha256="c3" * 32,
        precision="bfloat16",
        demonstration=True,
    )
    return replace(given, **changes)


def peaked_attention(index: int, n_slices: int = N_SLICES) -> np.ndarray:
    weights = np.exp(-((np.arange(n_slices) - index) ** 2) / 8.0) + 0.01
    return weights / weights.sum()


def location_answer(**changes) -> TaskAnswer:
    given = {
        "task": "tumor_location",
        "kind": "multilabel",
        "classes": LOCATIONS,
        "probabilities": (0.04, 0.003, 0.41, 0.08, 0.93, 0.02, 0.11, 0.01),
        "attention": peaked_attention(16),
        "key_slices": (16, 17, 4),
        "operating_points": {"lung": 0.4, "mediastinum": 0.5},
        "calibrated": True,
        "model": provenance(),
    }
    return TaskAnswer(**(given | changes))


def staging_answer(**changes) -> TaskAnswer:
    given = {
        "task": "staging",
        "kind": "multiclass",
        "classes": ("I", "II", "III", "IV"),
        "probabilities": (0.08, 0.16, 0.61, 0.15),
        "attention": peaked_attention(5),
        "key_slices": (5,),
        "operating_points": None,
        "calibrated": False,
        "model": provenance(bundle="staging_classification", demonstration=False),
    }
    return TaskAnswer(**(given | changes))


SECONDS = {"read": 0.5, "embed": 2.25}


@pytest.fixture
def study() -> Study:
    return marked_study()


@pytest.fixture
def result(study) -> dict:
    return build_result(
        study, [location_answer(), staging_answer()], study_key="study-0123456789abcdef", seconds=SECONDS
    )


@pytest.fixture
def make():
    """The builders, for tests that need something other than the default."""

    class Make:
        study = staticmethod(marked_study)
        provenance = staticmethod(provenance)
        location = staticmethod(location_answer)
        staging = staticmethod(staging_answer)
        attention = staticmethod(peaked_attention)

        @staticmethod
        def result(study, *answers, **options):
            options = {"study_key": "study-0123456789abcdef", "seconds": SECONDS} | options
            return build_result(study, answers or [location_answer()], **options)

    return Make
