"""Heads, limbs and handfuls of slices are flagged; torsos of any size are not."""

from __future__ import annotations

import numpy as np
import pytest
from ct_synthetic import codes, torso, write_series

from radclear.ct import CTInputError, read_study
from radclear.ct.plausibility import cross_section_cm2, plausibility_findings


def ellipse(shape, width, height) -> np.ndarray:
    """Mask of a centred ellipse; sizes in pixels."""
    y, x = (np.arange(n) - (n - 1) / 2 for n in shape)
    return (y[:, None] / (height / 2)) ** 2 + (x[None] / (width / 2)) ** 2 <= 1


def body(width_mm, height_mm, *, lungs=False, skull=False, table=False, spacing=1.0, size=400, n_slices=16):
    shape = (int(size / spacing),) * 2
    hu = np.full((n_slices, *shape), -1000, np.int16)
    hu[:, ellipse(shape, width_mm / spacing, height_mm / spacing)] = 40
    if skull:
        hu[:, ellipse(shape, width_mm / spacing, height_mm / spacing)] = 1000
        hu[:, ellipse(shape, (width_mm - 16) / spacing, (height_mm - 16) / spacing)] = 35
    if lungs:
        middle = shape[1] // 2
        for side in (-1, 1):
            shifted = np.roll(
                ellipse(shape, width_mm / 3.2 / spacing, height_mm / 1.6 / spacing),
                int(side * width_mm / 4.4 / spacing),
                axis=1,
            )
            assert shifted[:, :middle].any() or shifted[:, middle:].any()
            hu[:, shifted] = -850
    if table:
        hu[:, -int(60 / spacing) : -int(54 / spacing)] = -100
    return hu


@pytest.mark.parametrize("spacing", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("table", [False, True])
def test_a_head_is_flagged(spacing, table):
    hu = body(150, 195, skull=True, table=table, spacing=spacing)
    (found,) = plausibility_findings(hu, (spacing, spacing, 5.0))
    assert (found.code, found.severity) == ("field_of_view", "warning")


@pytest.mark.parametrize(
    "options",
    [
        dict(width_mm=360, height_mm=240, lungs=True),
        dict(width_mm=330, height_mm=220),
        dict(width_mm=330, height_mm=220, table=True),
        dict(width_mm=220, height_mm=150, lungs=True),
        dict(width_mm=900, height_mm=900),
    ],
)
def test_a_torso_is_not(options):
    assert plausibility_findings(body(**options), (1.0, 1.0, 5.0)) == []


def test_the_cross_section_is_measured_in_square_centimetres():
    area, lung = cross_section_cm2(body(300, 200), (1.0, 1.0, 5.0))
    assert area == pytest.approx(np.pi / 4 * 30 * 20, rel=0.05) and lung == 0
    area, lung = cross_section_cm2(body(360, 240, lungs=True), (1.0, 1.0, 5.0))
    assert area == pytest.approx(np.pi / 4 * 36 * 24, rel=0.05)
    assert lung == pytest.approx(2 * np.pi / 4 * (36 / 3.2) * (24 / 1.6), rel=0.05)


def test_few_slices_and_empty_slices_are_flagged():
    hu = body(330, 220, n_slices=7)
    assert [f.code for f in plausibility_findings(hu, (1, 1, 5))] == ["few_slices"]
    air = np.full((16, 400, 400), -1000, np.int16)
    assert [f.code for f in plausibility_findings(air, (1, 1, 5))] == ["implausible_values"]


@pytest.mark.parametrize(
    ("n_slices", "spacing", "expected"),
    [
        (16, 5.0, []),
        (15, 5.0, ["short_coverage"]),
        (80, 1.0, []),
        (79, 1.0, ["short_coverage"]),
        (8, 9.0, ["short_coverage"]),
        (7, 1.0, ["few_slices"]),
        (7, 20.0, ["few_slices"]),
    ],
)
def test_little_of_the_body_is_flagged_in_millimetres(n_slices, spacing, expected):
    hu = np.broadcast_to(body(330, 220, n_slices=1, spacing=4), (n_slices, 100, 100))
    found = plausibility_findings(hu, (4.0, 4.0, spacing))
    assert [f.code for f in found] == expected
    if expected == ["short_coverage"]:
        assert f"cover {n_slices * spacing:.0f} mm of the body" in found[0].message
        assert found[0].severity == "warning" and "at least 80 mm" in found[0].message


def test_strict_refuses_what_is_flagged(tmp_path):
    write_series(tmp_path, torso((3, 128, 128)))
    assert codes(read_study(tmp_path)) == {"few_slices"}
    with pytest.raises(CTInputError, match="few_slices: 3 slices"):
        read_study(tmp_path, policy="strict")
