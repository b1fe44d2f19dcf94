"""Orientations to a picture in one call: the colours are those of the key, gaps are grey, the scale is the spacing."""

import jax.numpy as jnp
import numpy as np
import pytest

import polymicros_jax as pm
from polymicros_jax.data.volume import OrientationVolume
from polymicros_jax.orientation import ipf, quaternion
from polymicros_jax.viz import canvas

BYTE = 0.51 / 255  # colours are rounded to bytes
RNG = np.random.default_rng(0)
Q = np.asarray(quaternion.normalise(RNG.normal(size=(3, 4, 5, 4)).astype(np.float32)))


def volume(group: str = "432") -> OrientationVolume:
    mask = np.ones((3, 4, 5), bool)
    mask[1, 2] = False
    return OrientationVolume(Q, mask.astype(int), mask, (0.5, 1.0, 2.0), group)


def planes(figure: object) -> list[np.ndarray]:
    """The images of a figure with the axes of the volume, not of the page."""
    return [np.swapaxes(np.asarray(axes.images[0].get_array()), 0, 1) for axes in figure.axes]


@pytest.mark.parametrize("group", ["432", "622"])
@pytest.mark.parametrize("direction", ["y", (1.0, -2.0, 0.5)])
def test_a_volume_shows_its_colours_its_gaps_and_its_scale(group: str, direction: str | tuple[float, ...]) -> None:
    shown = volume(group)
    figure = pm.plot(shown, direction=direction, indices=(1, 2, 3), title="made up")
    expected = np.array(ipf.colours(Q, direction, group))
    expected[~shown.mask] = canvas.MISSING_GREY
    for seen, wanted in zip(planes(figure), (expected[1], expected[:, 2], expected[:, :, 3]), strict=True):
        np.testing.assert_allclose(seen, wanted, atol=BYTE)
    assert [axes.images[0].get_extent() for axes in figure.axes] == [[0, 4, 0, 10], [0, 1.5, 0, 10], [0, 1.5, 0, 4]]
    assert figure.get_suptitle() == "made up"


def test_quaternions_are_cubic_on_a_grid_of_one_micrometre_unless_said() -> None:
    """What `decode` returns goes straight into a picture."""
    figure = pm.plot(jnp.asarray(Q))
    np.testing.assert_allclose(planes(figure)[0], ipf.colours(Q[1], "z", "432"), atol=BYTE)
    assert figure.axes[0].images[0].get_extent() == [0, 4, 0, 5]
    known = np.zeros((3, 4, 5), bool)
    known[:, :, ::4] = True
    figure = pm.plot(Q, group="622", spacing=(1.0, 2.0, 3.0), known=known)
    wanted = np.where(known[1, ..., None], ipf.colours(Q[1], "z", "622"), canvas.MISSING_GREY[0])
    np.testing.assert_allclose(planes(figure)[0], wanted, atol=BYTE)
    assert figure.axes[0].images[0].get_extent() == [0, 8, 0, 15]


def test_a_map_is_one_plane() -> None:
    figure = pm.plot(volume().crop((0, 0, 2), (3, 4, 3)), title="section")
    (seen,) = planes(figure)
    expected = np.array(ipf.colours(Q[:, :, 2], "z"))
    expected[1, 2] = canvas.MISSING_GREY
    np.testing.assert_allclose(seen, expected, atol=BYTE)
    assert figure.axes[0].get_title() == "section"


def test_a_notebook_shows_the_figure() -> None:
    # Two figures: drawing one a second time moves its parts by a fraction of a pixel.
    assert pm.plot(Q)._repr_png_() == canvas.to_png(pm.plot(Q))


def test_wrong_input_is_named() -> None:
    with pytest.raises(ValueError, match=r"volume: found shape \(3, 4, 4\), accepted are quaternions"):
        pm.plot(Q[:, :, 0])
    with pytest.raises(ValueError, match=r"known: found shape \(3, 4, 1\), accepted is \(3, 4, 5\)"):
        pm.plot(Q, known=np.ones((3, 4, 1), bool))
    with pytest.raises(ValueError, match="group: found '622' beside a volume"):
        pm.plot(volume(), group="622")
    with pytest.raises(ValueError, match="group: found 222; colour keys exist for 432, 622"):
        pm.plot(Q, group="222")
    with pytest.raises(ValueError, match="direction: found 'w'"):
        pm.plot(Q, direction="w")
