"""What is written as NRRD lies voxel on voxel over the source, whatever way the source is stored."""

from __future__ import annotations

from itertools import permutations, product

import numpy as np
import pytest

from radclear.ct import read_study
from radclear.ct.axes import Axes, canonical_affine
from radclear.ct.source_grid import SourceGrid
from radclear.results import write_nrrd

itk = pytest.importorskip("itk")
WAYS = list(product(permutations(range(3)), product((1, -1), repeat=3)))
HU = np.random.default_rng(0).integers(-1000, 1000, (40, 48, 56), dtype=np.int16)


def stored_file(path, order, signs):
    """HU as a volume file whose axis n runs along canonical axis order[n], reversed at -1."""
    values = HU.transpose(2, 1, 0).transpose(order)
    values = values[tuple(slice(None, None, sign) for sign in signs)]
    directions = np.eye(3)[:, order] * signs
    image = itk.image_from_array(np.ascontiguousarray(values.transpose(2, 1, 0)))
    image.SetSpacing([2.0, 2.5, 3.0])
    image.SetOrigin([11.0, -7.0, 5.0])
    image.SetDirection(itk.matrix_from_array(np.ascontiguousarray(directions)))
    itk.imwrite(image, str(path))
    return image


@pytest.mark.parametrize(("order", "signs"), WAYS)
def test_values_written_on_the_source_grid_are_the_source_again(tmp_path, order, signs):
    source = stored_file(tmp_path / "source.nrrd", order, signs)
    study = read_study(tmp_path / "source.nrrd")
    written = itk.imread(str(write_nrrd(tmp_path / "again.nrrd", study.hu, study.source_grid)))
    np.testing.assert_array_equal(itk.array_from_image(written), itk.array_from_image(source))
    assert list(written.GetSpacing()) == pytest.approx(list(source.GetSpacing()))
    assert list(written.GetOrigin()) == pytest.approx(list(source.GetOrigin()))
    np.testing.assert_allclose(
        itk.array_from_matrix(written.GetDirection()), itk.array_from_matrix(source.GetDirection()), atol=1e-9
    )


def test_the_canonical_grid_is_read_back_as_the_study(tmp_path):
    affine = np.array([[0.7, 0, 0, -20], [0, 0.8, 0, -30], [0, 0, 3, 100], [0, 0, 0, 1.0]])
    values = np.arange(24 * 40 * 50, dtype=np.int16).reshape(24, 40, 50) % 500
    write_nrrd(tmp_path / "v.nrrd", values, SourceGrid.canonical(affine, values.shape))
    image = itk.imread(str(tmp_path / "v.nrrd"))
    np.testing.assert_array_equal(itk.array_from_image(image), values)
    assert list(image.GetSpacing()) == pytest.approx([0.7, 0.8, 3])
    assert list(image.GetOrigin()) == pytest.approx([-20, -30, 100])


def test_another_grid_and_another_type_are_refused(tmp_path):
    axes = Axes((1, 0, 2), (False, False, False))
    grid = SourceGrid((4, 3, 2), np.eye(3), np.zeros(3), axes)
    assert canonical_affine(grid.steps, grid.origin, grid.shape, axes).shape == (4, 4)
    with pytest.raises(ValueError, match="canonical grid of the same study"):
        write_nrrd(tmp_path / "v.nrrd", np.zeros((2, 3, 4), np.uint8), grid)
    with pytest.raises(ValueError, match="float32"):
        write_nrrd(tmp_path / "v.nrrd", np.zeros((2, 4, 3), np.float32), grid)
    assert not list(tmp_path.iterdir())
