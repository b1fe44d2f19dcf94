"""What a person sees: the pixels of rendered sections are the colours of the voxels, gaps look like gaps."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from polymicros_jax.viz import canvas, slices

SPACING = (0.5, 1.0, 2.0)
# Colours become bytes by truncation; blending of rectangle edges does not reach voxel centres.
BYTE = 1.01 / 255


def pixel(drawing: Figure, buffer: np.ndarray, axes: Axes, right: float, up: float) -> np.ndarray:
    """Colour of the rendered figure at a place in data coordinates."""
    column, row = axes.transData.transform((right, up))
    return buffer[round(buffer.shape[0] - 1 - row), round(column), :3] / 255


def random_colours(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).random((*shape, 3))


def test_every_voxel_shows_its_colour_at_its_place() -> None:
    """All three planes of an uneven grid, so that a swapped or mirrored axis shows."""
    rgb = random_colours(4, 5, 6)
    drawing = slices.orthogonal(rgb, spacing=SPACING, indices=(1, 2, 3))
    buffer = canvas.pixels(drawing)
    planes = [rgb[1], rgb[:, 2], rgb[:, :, 3]]
    for axis, (axes, plane) in enumerate(zip(drawing.axes, planes, strict=True)):
        right, up = (a for a in range(3) if a != axis)
        assert axes.get_xlabel() == f"{'xyz'[right]} (µm)"
        assert axes.get_ylabel() == f"{'xyz'[up]} (µm)"
        assert axes.yaxis_inverted() == (axis == 2)  # a map is shown as the microscope shows it
        for i, j in np.ndindex(plane.shape[:2]):
            seen = pixel(drawing, buffer, axes, (i + 0.5) * SPACING[right], (j + 0.5) * SPACING[up])
            np.testing.assert_allclose(seen, plane[i, j], atol=BYTE)


def test_missing_sections_are_grey_and_hatched_and_hide_the_truth() -> None:
    rgb = np.zeros((6, 6, 9, 3))
    rgb[..., 0] = 1.0
    known = np.zeros((6, 6, 9), dtype=bool)
    known[:, :, ::4] = True
    drawing = slices.comparison([slices.Panel("reference", rgb), slices.Panel("input", rgb, known)], axis=0)
    buffer = canvas.pixels(drawing)
    full, gaps = drawing.axes
    assert not full.patches
    boxes = [(p.get_y(), p.get_height()) for p in gaps.patches if isinstance(p, Rectangle) and p.get_hatch()]
    assert boxes == [(1.0, 3.0), (5.0, 3.0)]
    x0, y0 = gaps.transData.transform((0.1, 1.1))
    x1, y1 = gaps.transData.transform((5.9, 3.9))
    top = buffer.shape[0] - 1
    area = buffer[round(top - y1) : round(top - y0), round(x0) : round(x1), :3].astype(int)
    # Grey throughout: no red leaks; two shades: the ground and the strokes over it.
    assert (np.ptp(area, axis=-1) <= 1).all()
    ground = round(255 * canvas.MISSING_GREY[0])
    assert (np.abs(area[..., 0] - ground) <= 1).mean() > 0.4
    assert (area[..., 0] < ground - 40).mean() > 0.05
    np.testing.assert_allclose(pixel(drawing, buffer, gaps, 3.0, 4.5), [1, 0, 0], atol=BYTE)
    np.testing.assert_allclose(pixel(drawing, buffer, full, 3.0, 2.5), [1, 0, 0], atol=BYTE)


def test_scattered_missing_voxels_are_plain_grey() -> None:
    rgb = random_colours(5, 5, 5)
    known = np.random.default_rng(1).random((5, 5, 5)) > 0.4
    drawing = slices.orthogonal(rgb, known=known)
    axes = drawing.axes[2]
    shown = np.asarray(axes.images[0].get_array())
    expected = np.where(known[:, :, 2, None], rgb[:, :, 2], canvas.MISSING_GREY[0])
    np.testing.assert_allclose(shown, np.swapaxes(expected, 0, 1))


def test_panels_share_plane_titles_and_wrap() -> None:
    rgb = random_colours(4, 4, 4)
    drawing = slices.comparison([slices.Panel(f"panel {i}", rgb) for i in range(5)], axis=2, index=0, columns=3)
    assert [axes.get_title() for axes in drawing.axes] == [f"panel {i}" for i in range(5)]
    for axes in drawing.axes:
        np.testing.assert_array_equal(axes.images[0].get_array(), np.swapaxes(rgb[:, :, 0], 0, 1))
    rows = {round(axes.get_subplotspec().rowspan.start) for axes in drawing.axes}
    assert rows == {0, 1}


def test_degree_maps_share_one_bar_in_degrees() -> None:
    small, large = np.full((4, 4, 4), 2.0), np.full((4, 4, 4), 30.0)
    large[0, 0, 0] = np.nan
    known = np.zeros((4, 4, 4), dtype=bool)
    known[:, :, 3] = True
    drawing = slices.degree_maps({"a": small, "b": large}, axis=0, index=0, known=known)
    panels = [axes for axes in drawing.axes if axes.images and axes.get_title()]
    norms = {(axes.images[0].norm.vmin, axes.images[0].norm.vmax) for axes in panels}
    assert norms == {(0.0, 30.0)}
    bars = [axes for axes in drawing.axes if axes not in panels]
    assert len(bars) == 1
    assert bars[0].get_ylabel() == "disorientation (°)"
    buffer = canvas.pixels(drawing)
    grey = np.array(canvas.MISSING_GREY)
    np.testing.assert_allclose(pixel(drawing, buffer, panels[1], 0.5, 0.5), grey, atol=BYTE)  # not a number
    np.testing.assert_allclose(pixel(drawing, buffer, panels[0], 1.5, 3.5), grey, atol=BYTE)  # known
    assert pixel(drawing, buffer, panels[1], 1.5, 1.5).mean() > pixel(drawing, buffer, panels[0], 1.5, 1.5).mean() + 0.2


def test_degree_maps_do_not_blow_up_noise_and_mark_a_cut_scale() -> None:
    quiet = np.full((3, 3, 3), 0.01)
    assert slices.degree_maps({"a": quiet}).axes[0].images[0].norm.vmax == 1.0
    loud = np.random.default_rng(0).random((3, 3, 3)) * 60
    cut = slices.degree_maps({"a": loud}, limit=20.0)
    assert cut.axes[0].images[0].norm.vmax == 20.0
    assert cut.axes[-1]._colorbar.extend == "max"
    assert slices.degree_maps({"a": loud}, limit=90.0).axes[-1]._colorbar.extend == "neither"


def test_wrong_input_is_named() -> None:
    rgb = random_colours(3, 3, 3)
    with pytest.raises(ValueError, match="at least one"):
        slices.comparison([])
    with pytest.raises(ValueError, match=r"share one grid.*'b': \(4, 3, 3\)"):
        slices.comparison([slices.Panel("a", rgb), slices.Panel("b", random_colours(4, 3, 3))])
    with pytest.raises(ValueError, match="index along y: got 3, the volume has 3 planes"):
        slices.comparison([slices.Panel("a", rgb)], axis=1, index=3)
    with pytest.raises(ValueError, match="axis: got 3"):
        slices.comparison([slices.Panel("a", rgb)], axis=3)


def test_saved_files_appear_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawing = slices.orthogonal(random_colours(3, 3, 3))
    path = canvas.save(drawing, tmp_path / "new" / "a.png")
    before = path.read_bytes()
    assert before.startswith(b"\x89PNG")
    assert canvas.save(drawing, path).read_bytes() == before  # no time stamp inside

    def full_disk(self: Path, content: bytes) -> int:
        raise OSError("no space left on device")

    monkeypatch.setattr(Path, "write_bytes", full_disk)
    with pytest.raises(OSError, match="no space"):
        canvas.save(drawing, path)
    monkeypatch.undo()
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]
    with pytest.raises(ValueError, match=r"ending '\.jpg'"):
        canvas.save(drawing, tmp_path / "a.jpg")
