"""The two views of a slice: where they are cut, how their greys change, what they depend on."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from radclear.ct import Window
from radclear.pretraining.crops import lesion_crop, random_crop
from radclear.pretraining.errors import PretrainingDataError, PretrainingError
from radclear.pretraining.photometric import (
    UNCHANGED,
    Photometric,
    change_hu,
    gaussian_blur,
    jitter_window,
    to_grey,
)
from radclear.pretraining.views import SliceViews, draw_generator, fit_whole

WIDE = Window("wide", 0, 2000)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@st.composite
def slice_and_box(draw):
    rows, columns = draw(st.integers(20, 600)), draw(st.integers(20, 600))
    x1, y1 = draw(st.floats(-5, columns - 2)), draw(st.floats(-5, rows - 2))
    x2, y2 = draw(st.floats(max(x1, 0) + 0.5, columns + 5)), draw(st.floats(max(y1, 0) + 0.5, rows + 5))
    return (rows, columns), (x1, y1, x2, y2)


@given(slice_and_box(), st.integers(0, 10**6))
@settings(max_examples=300, deadline=None)
def test_the_lesion_is_inside_and_the_crop_inside_the_slice(case, seed):
    (rows, columns), (x1, y1, x2, y2) = case
    crop = lesion_crop((rows, columns), (x1, y1, x2, y2), generator(seed))
    assert crop.left <= max(0, x1) and crop.left + crop.width >= min(columns, x2)
    assert crop.top <= max(0, y1) and crop.top + crop.height >= min(rows, y2)
    assert 0 <= crop.left and crop.left + crop.width <= columns
    assert 0 <= crop.top and crop.top + crop.height <= rows


@given(st.integers(0, 10**6))
@settings(max_examples=100, deadline=None)
def test_the_crop_is_centred_on_the_middle_of_the_box_not_on_a_corner(seed):
    box = (220.0, 230.0, 300.0, 270.0)  # far from the border: half a crop of the smallest size fits around it
    crop = lesion_crop((512, 512), box, generator(seed), min_area=0.08)
    if crop.left > 0 and crop.left + crop.width < 512:
        assert crop.left + crop.width / 2 == pytest.approx(260, abs=1)
    if crop.top > 0 and crop.top + crop.height < 512:
        assert crop.top + crop.height / 2 == pytest.approx(250, abs=1)


def test_sides_of_the_crop_are_uniform_and_independent():
    g = generator()
    crops = [lesion_crop((512, 512), (250, 250, 260, 260), g) for _ in range(4000)]
    sides = np.array([[c.width, c.height] for c in crops], float)
    shortest = math.sqrt(0.08) * 512
    assert sides.min() >= shortest and sides.max() < 512
    for side in sides.T:
        expected = (shortest + 512) / 2
        assert side.mean() == pytest.approx(expected, abs=4 * (512 - shortest) / math.sqrt(12 * len(side)))
        assert side.std() == pytest.approx((512 - shortest) / math.sqrt(12), rel=0.05)
    assert abs(np.corrcoef(sides.T)[0, 1]) < 0.07


def test_a_box_beside_the_slice_is_an_error():
    with pytest.raises(PretrainingDataError, match="does not overlap"):
        SliceViews(image_size=32)(torch.zeros(64, 64, dtype=torch.int16), [(70, 3, 80, 9)], generator())


@given(st.integers(8, 400), st.integers(8, 400), st.integers(0, 10**6))
@settings(max_examples=200, deadline=None)
def test_random_crops_lie_inside_with_allowed_area(rows, columns, seed):
    crop = random_crop((rows, columns), generator(seed))
    assert 0 <= crop.left and crop.left + crop.width <= columns
    assert 0 <= crop.top and crop.top + crop.height <= rows
    if max(rows, columns) <= 1.3 * min(rows, columns):  # a long slice has no large crop of an allowed shape
        assert crop.width * crop.height >= 0.05 * rows * columns


def marked() -> torch.Tensor:
    """Air with a bright lesion at columns 40 to 56 and rows 20 to 28, and a bright pixel block far left."""
    hu = torch.full((128, 128), -1000, dtype=torch.int16)
    hu[20:28, 40:56] = 900
    return hu


def test_first_view_shows_the_lesion_and_second_the_whole_slice():
    views = SliceViews(image_size=128, windows=(WIDE,), first=UNCHANGED, second=UNCHANGED)
    for seed in range(20):
        first, second = views(marked(), [(40, 20, 56, 28)], generator(seed))
        crop = lesion_crop((128, 128), (40, 20, 56, 28), generator(seed))
        lesion = (first > 128).sum().item()
        share = 16 * 8 / (crop.width * crop.height)
        assert lesion == pytest.approx(share * 128 * 128, rel=0.25)
        assert torch.equal(second, views.whole(marked()))
        assert (second > 128).sum() == 16 * 8


def test_of_several_boxes_each_is_drawn():
    hu = torch.full((200, 200), -1000, dtype=torch.int16)
    hu[10:14, 10:14], hu[180:190, 180:190] = 200, 900
    views = SliceViews(image_size=64, windows=(WIDE,), first=UNCHANGED, second=UNCHANGED, min_area=0.001)
    boxes = [(10, 10, 14, 14), (180, 180, 190, 190)]
    seen = {
        (bool((v > 230).any()), bool(((v > 140) & (v < 180)).any()))
        for v in (views(hu, boxes, generator(s))[0] for s in range(200))
    }
    assert (True, False) in seen and (False, True) in seen


def test_slices_without_lesion_give_two_crops():
    views = SliceViews(image_size=32, windows=(WIDE,), first=UNCHANGED, second=UNCHANGED)
    hu = (torch.arange(64 * 64, dtype=torch.int32).view(64, 64) % 1800 - 900).to(torch.int16)
    first, second = views(hu, [], generator(3))
    whole = views.whole(hu)
    assert not torch.equal(first, second)
    assert not torch.equal(first, whole) and not torch.equal(second, whole)


def test_lesions_can_be_cut_as_other_slices():
    views = SliceViews(image_size=32, lesion_centred=False)
    plain = views(marked(), [], generator(5))
    boxed = views(marked(), [(40, 20, 56, 28)], generator(5))
    assert all(torch.equal(a, b) for a, b in zip(plain, boxed, strict=True))


def test_sides_are_never_swapped_by_default():
    assert SliceViews().first.flip_probability == 0 == SliceViews().second.flip_probability
    hu = torch.full((64, 64), -1000, dtype=torch.int16)
    hu[:, :20] = 500  # bright left
    change = Photometric()
    views = SliceViews(image_size=32, windows=(WIDE,), first=change, second=change, min_area=0.9)
    for seed in range(40):
        for view in views(hu, [(30, 30, 34, 34)], generator(seed)):
            assert view[..., :4].float().mean() > view[..., -4:].float().mean()
    flipped = SliceViews(
        image_size=32, windows=(WIDE,), first=Photometric(flip_probability=1), second=UNCHANGED, min_area=0.9
    )
    first, _ = flipped(hu, [(30, 30, 34, 34)], generator())
    assert first[..., :4].float().mean() < first[..., -4:].float().mean()


def test_draws_depend_on_seed_epoch_and_position_alone():
    def views(*place):
        return torch.stack(SliceViews(image_size=32)(marked(), [], draw_generator(*place)))

    torch.manual_seed(1)
    one = views(0, 1, 2)
    torch.manual_seed(2)
    assert torch.equal(one, views(0, 1, 2))
    for other in ((1, 1, 2), (0, 2, 2), (0, 1, 3)):
        assert not torch.equal(one, views(*other))


def test_noise_and_blur_act_on_hu_before_the_window_cuts_off():
    narrow = Window("narrow", 0, 100)
    hu = torch.full((64, 64), 1000.0)  # far above the window: noise of 20 HU must not be seen
    noisy = change_hu(hu, Photometric(noise_probability=1, blur_probability=0, noise_hu=20), generator())
    assert noisy.std() > 0.1
    assert (to_grey(noisy, narrow) == 1).all()


def test_noise_has_the_drawn_deviation():
    change = Photometric(noise_probability=1, noise_hu=40, blur_probability=0)
    g, twin = generator(4), generator(4)
    deviation = 40 * float(torch.rand((), generator=twin, dtype=torch.float64))
    noise = change_hu(torch.zeros(300, 300), change, g)
    assert noise.std().item() == pytest.approx(deviation, rel=0.02)


def test_blur_equals_scipy():
    from scipy.ndimage import gaussian_filter

    x = torch.randn(30, 20, generator=generator())
    radius = math.ceil(3 * 0.8)
    expected = gaussian_filter(x.double().numpy(), 0.8, mode="nearest", radius=radius)
    np.testing.assert_allclose(gaussian_blur(x, 0.8).numpy(), expected, atol=1e-5)


def test_window_jitter_stays_in_its_range():
    base, g = Window("a", 40, 400), generator()
    change = Photometric(window_probability=1, level_jitter=0.2, width_jitter=0.4)
    jittered = [jitter_window(base, change, g) for _ in range(500)]
    levels, widths = (np.array([getattr(w, n) for w in jittered]) for n in ("level_hu", "width_hu"))
    assert abs(levels - 40).max() <= 80 and abs(levels - 40).max() > 70
    assert 400 / 1.4 <= widths.min() < 300 and 540 < widths.max() <= 560
    assert jitter_window(base, UNCHANGED, g) == base


def test_a_whole_slice_is_what_the_embeddings_see(tmp_path):
    from radclear.ct import read_study, slice_stack
    from radclear.phantom import make_phantom, write_dicom

    write_dicom(make_phantom(0, n_slices=24, size=64), tmp_path / "study")
    study = read_study(tmp_path / "study")
    window = Window("abdomen", 40, 400)
    stack = slice_stack(study, windows=(window,), size=48)
    z = 12
    between_columns, between_rows, _ = study.spacing_mm
    ours = SliceViews(image_size=48, windows=(window,)).whole(
        torch.from_numpy(np.ascontiguousarray(study.hu[z])), spacing_mm=(between_rows, between_columns)
    )
    difference = (ours.int() - stack[0, z].int()).abs()
    assert difference.max() <= 1  # greys are rounded before the resize there, after it here


def test_pixels_of_unequal_sides_keep_their_shape():
    whole = fit_whole(torch.ones(64, 64), 32, (1.0, 2.0))
    assert whole.sum(dim=0).gt(0).sum() == 32 and whole.sum(dim=1).gt(0).sum() == 16


def test_images_without_hu_get_no_window():
    grey = torch.arange(256, dtype=torch.int16).repeat(256, 1)
    views = SliceViews(image_size=256, first=UNCHANGED, second=UNCHANGED)
    _, whole = views(grey, [(3, 3, 9, 9)], generator(), has_hu=False)
    assert torch.equal(whole[0, 0], torch.arange(256, dtype=torch.uint8))


@pytest.mark.parametrize("wrong", [{"flip_probability": 1.5}, {"noise_hu": -1}])
def test_impossible_changes_are_refused(wrong):
    with pytest.raises(PretrainingError, match="expected 0"):
        Photometric(**wrong)
