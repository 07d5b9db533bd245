"""Windows are exact, and resizing gives PIL's numbers."""

from __future__ import annotations

from fractions import Fraction
from math import floor

import numpy as np
import pytest
from ct_synthetic import torso

from radclear.ct import ABDOMEN, DEFAULT_WINDOWS, LUNG, SeriesChoice, Study, Window, apply_window, slice_stack
from radclear.ct.windows import fitted_shape

torch = pytest.importorskip("torch")


def study(hu: np.ndarray, spacing=(0.8, 0.8, 5.0)) -> Study:
    affine = np.diag([*spacing, 1.0])
    return Study(hu, affine, np.arange(len(hu)) * spacing[2], (), (), SeriesChoice("", "", "", 1, "dicom"))


@pytest.mark.parametrize(
    "window", [ABDOMEN, LUNG, Window("odd", 35, 81), Window("fine", 0.5, 3.3), Window("all", 0, 60000)]
)
def test_the_window_is_exact_for_every_value(window):
    values = np.arange(-32768, 32768).astype(np.int16)
    low, width = Fraction(window.level_hu) - Fraction(window.width_hu) / 2, Fraction(window.width_hu)
    expected = [floor(255 * min(max((int(v) - low) / width, 0), 1) + Fraction(1, 2)) for v in values]
    np.testing.assert_array_equal(apply_window(values, window), expected)


@pytest.mark.parametrize("window", DEFAULT_WINDOWS)
def test_the_window_agrees_with_float64(window):
    """Away from exact halves, where the order of operations decides, float64 gives the same."""
    values = np.arange(-1024, 3072)
    exact = 255 * (values - (window.level_hu - window.width_hu / 2)) / window.width_hu
    clear = np.abs(exact % 1 - 0.5) > 1e-9
    expected = np.rint(exact.clip(0, 255))
    np.testing.assert_array_equal(apply_window(values.astype(np.int16), window)[clear], expected[clear])
    assert apply_window(np.int16([-160, -161, 240, 241, 40]), ABDOMEN).tolist() == [0, 0, 255, 255, 128]


def test_defaults_and_validation():
    assert [(w.name, w.level_hu, w.width_hu) for w in DEFAULT_WINDOWS] == [
        ("abdomen", 40, 400),
        ("lung", -600, 1500),
    ]
    assert LUNG.floor_hu == -1350
    with pytest.raises(ValueError, match="width 0 HU"):
        Window("flat", 40, 0)


@pytest.mark.parametrize("side", [512, 448, 224, 100, 300, 616, 768])
def test_the_stack_is_what_pil_makes_of_the_windows(side):
    """Bit for bit where the weights are exact in torch's fixed point, within one grey level elsewhere."""
    image = pytest.importorskip("PIL.Image")
    hu = torso((11 if side == 512 else 2, side, side))
    stack = slice_stack(study(hu))
    assert stack.shape == (2, len(hu), 224, 224) and stack.dtype == torch.uint8
    exact = side in (512, 448, 224) and torch.backends.cpu.get_cpu_capability().startswith("AVX")
    for w, window in enumerate(DEFAULT_WINDOWS):
        for k in range(len(hu)):
            picture = image.fromarray(apply_window(hu[k], window))
            expected = np.asarray(picture.resize((224, 224), image.Resampling.BILINEAR)).astype(int)
            off = np.abs(stack[w, k].numpy() - expected)
            assert off.max() <= (0 if exact else 1) and (off > 0).mean() < 0.05


@pytest.mark.parametrize(
    ("shape", "spacing", "fitted"),
    [
        ((2, 512, 512), (0.8, 0.8, 1.0), (64, 64)),
        ((2, 400, 512), (0.8, 0.8, 1.0), (50, 64)),
        ((2, 512, 400), (0.8, 0.8, 1.0), (64, 50)),
        ((2, 512, 512), (0.5, 1.0, 1.0), (64, 32)),
        ((2, 256, 512), (0.5, 1.0, 1.0), (64, 64)),
        ((2, 4, 512), (0.1, 0.1, 1.0), (1, 64)),
    ],
)
def test_the_aspect_ratio_in_millimetres_is_kept(shape, spacing, fitted):
    assert fitted_shape(shape[1] * spacing[1], shape[2] * spacing[0], 64) == fitted
    stack = slice_stack(study(np.full(shape, 3000, np.int16), spacing), size=64)
    rows, columns = (stack[0, 0] == 255).any(1), (stack[0, 0] == 255).any(0)
    assert (int(rows.sum()), int(columns.sum())) == fitted
    assert int((stack[0, 0] == 255).sum()) == fitted[0] * fitted[1], "the rest is the window's floor"
    top = int(rows.nonzero()[0])
    assert abs(top - (64 - fitted[0] - top)) <= 1, "centred"


@pytest.mark.parametrize(
    "window",
    [
        ABDOMEN, LUNG, Window("narrow", 40, 1), Window("odd", 35.5, 81), Window("none", 40.25, 0.1),
        Window("half", 40.5, 400), Window("all", 0, 70000), Window("above", 40000, 100),
        Window("below", -40000, 9),
    ],
)  # fmt: skip
def test_the_stack_holds_the_exact_window(window):
    hu = np.arange(-2048, 2048).astype(np.int16).reshape(1, 64, 64)
    stack = slice_stack(study(hu), windows=(window,), size=64)
    np.testing.assert_array_equal(stack[0].numpy(), apply_window(hu, window))


@pytest.mark.parametrize("n_slices", [1, 3, 4, 5, 7, 13])
def test_each_slice_of_any_number_is_resized_by_itself(n_slices):
    hu = np.random.default_rng(n_slices).integers(-1500, 1500, (n_slices, 96, 80)).astype(np.int16)
    together = slice_stack(study(hu), size=64)
    for k in range(n_slices):
        assert torch.equal(together[:, k], slice_stack(study(hu[k : k + 1]), size=64)[:, 0])


def test_windows_can_be_chosen_and_read_only_volumes_used():
    hu = torso((3, 64, 64))
    hu.setflags(write=False)
    bone = Window("bone", 400, 1800)
    stack = slice_stack(study(hu), windows=(bone,), size=64)
    np.testing.assert_array_equal(stack[0].numpy(), apply_window(hu, bone))
