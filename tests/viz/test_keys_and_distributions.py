"""The IPF key shows the corner colours in their corners; histograms have unit area on common bins."""

import numpy as np
import pytest

from polymicros_jax.orientation import ipf
from polymicros_jax.viz import distributions, ipf_key

VERTICES = {
    "432": [(0.0, 0.0, 1.0), (np.sqrt(0.5), 0.0, np.sqrt(0.5)), (np.sqrt(1 / 3),) * 3],
    "622": [(0.0, 0.0, 1.0), (1.0, 0.0, 0.0), (np.sqrt(0.75), 0.5, 0.0)],
}


@pytest.mark.parametrize("group", ["432", "622"])
def test_key_shows_the_colour_of_each_direction(group: str) -> None:
    """At directions well inside the sector the image holds the colour of that direction, to the width of a pixel."""
    image = ipf_key.ipf_key(group).axes[0].images[0]
    values, (left, right, bottom, top) = np.asarray(image.get_array()), image.get_extent()
    corners = np.array(VERTICES[group])
    for weights in ([0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.1, 0.1, 0.8], [1 / 3] * 3):
        direction = np.asarray(weights) @ corners
        direction /= np.linalg.norm(direction)
        x, y = direction[:2] / (1 + direction[2])
        column = round((x - left) / (right - left) * (values.shape[1] - 1))
        row = round((y - bottom) / (top - bottom) * (values.shape[0] - 1))
        assert values[row, column, 3] == 1.0
        expected = np.asarray(ipf.direction_colours(direction.astype(np.float32), group))
        # Colours run through their range within some 400 pixels; near the centre the hue turns faster.
        np.testing.assert_allclose(values[row, column, :3], expected, atol=0.03)
    assert values[-1, 0, 3] == 0.0  # above [001] there is no sector
    assert 0.2 < values[..., 3].mean() < 0.9


def test_key_corners_are_red_green_and_blue() -> None:
    image = ipf_key.ipf_key("432").axes[0].images[0]
    values, (left, right, bottom, top) = np.asarray(image.get_array()), image.get_extent()
    for channel, vertex in enumerate(VERTICES["432"]):
        direction = 0.97 * np.array(vertex) + 0.03 * np.mean(VERTICES["432"], axis=0)
        x, y = direction[:2] / (np.linalg.norm(direction) + direction[2])
        column = round((x - left) / (right - left) * (values.shape[1] - 1))
        row = round((y - bottom) / (top - bottom) * (values.shape[0] - 1))
        assert values[row, column, :3].argmax() == channel
        assert np.delete(values[row, column, :3], channel).max() < 0.5


def test_densities_have_unit_area_on_common_bins() -> None:
    rng = np.random.default_rng(0)
    samples = {"reference": rng.normal(5, 1, 500), "made": np.append(rng.normal(6, 2, 90), np.nan)}
    axes = distributions.densities(samples, xlabel="diameter (µm)", bins=20).axes[0]
    first, second = (patch.get_data() for patch in axes.patches)
    np.testing.assert_array_equal(first.edges, second.edges)
    for data in (first, second):
        assert float(np.sum(data.values * np.diff(data.edges))) == pytest.approx(1.0)
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["reference (n = 500)", "made (n = 90)"]
    with pytest.raises(ValueError, match="sample 'a'"):
        distributions.densities({"a": np.array([np.nan])}, xlabel="x")
