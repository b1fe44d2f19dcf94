"""The cube shows the three outer faces, each voxel where isometric projection puts it."""

import numpy as np
import pytest

from polymicros_jax.viz import canvas, cubes

SPACING = (1.0, 1.5, 2.0)


def isometric(point: np.ndarray) -> np.ndarray:
    """Right and up of a point seen from (+x, -y, +z) along the space diagonal: written out, not taken from the code."""
    x, y, z = point
    return np.array([(x + y) / np.sqrt(2), (-x + y + 2 * z) / np.sqrt(6)])


def test_faces_show_the_colours_of_the_outer_voxels() -> None:
    rgb = np.random.default_rng(0).random((4, 3, 5, 3))
    drawing = cubes.cube(rgb, spacing=SPACING, title="a cube")
    buffer = canvas.pixels(drawing)
    axes = drawing.axes[0]
    size = np.array(rgb.shape[:3]) * SPACING
    checked = 0
    for index in np.ndindex(rgb.shape[:3]):
        centre = (np.array(index) + 0.5) * SPACING
        for axis, outer, wall in ((0, 3, size[0]), (1, 0, 0.0), (2, 4, size[2])):
            if index[axis] != outer:
                continue
            place = centre.copy()
            place[axis] = wall
            column, row = axes.transData.transform(isometric(place))
            seen = buffer[round(buffer.shape[0] - 1 - row), round(column), :3] / 255
            np.testing.assert_allclose(seen, rgb[index], atol=1.01 / 255)  # bytes are truncated
            checked += 1
    assert checked == 3 * 5 + 4 * 5 + 4 * 3
    assert {text.get_text() for text in axes.texts} == {"x 4 µm", "y 4.5 µm", "z 10 µm"}
    assert axes.get_title() == "a cube"


def test_unknown_voxels_are_grey_and_volumes_may_differ_in_size() -> None:
    rgb = np.zeros((4, 4, 4, 3))
    known = np.ones((4, 4, 4), dtype=bool)
    known[:, :, 3] = False
    drawing = cubes.cubes({"gap": rgb, "whole": np.zeros((2, 6, 3, 3))}, known={"gap": known})
    top = np.asarray(drawing.axes[0].images[2].get_array())
    np.testing.assert_allclose(top, canvas.MISSING_GREY[0])
    assert np.asarray(drawing.axes[1].images[2].get_array()).max() == 0.0
    side = np.asarray(drawing.axes[0].images[0].get_array())
    np.testing.assert_allclose(side[3], canvas.MISSING_GREY[0])
    assert side[:3].max() == 0.0


def test_no_volume_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        cubes.cubes({})
