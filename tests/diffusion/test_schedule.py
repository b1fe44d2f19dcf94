"""Golden values of the noise schedule."""

import numpy as np
import pytest

from polymicros_jax.diffusion.schedule import karras


def test_levels_equal_the_closed_form():
    found = np.asarray(karras(18))
    index = np.arange(18)
    root = 80.0 ** (1 / 7) + index / 17 * (0.002 ** (1 / 7) - 80.0 ** (1 / 7))
    # Single precision: a root of relative error 1e-7 raised to the seventh power.
    np.testing.assert_allclose(found[:-1], root**7, rtol=5e-6)
    assert found[-1] == 0.0
    assert found.shape == (19,)
    assert (np.diff(found) < 0).all()


def test_golden_values():
    # 80^(1/7) = 1.870167, 0.002^(1/7) = 0.411579; their mean to the seventh power.
    np.testing.assert_allclose(np.asarray(karras(3)), [80.0, 2.5152, 0.002, 0.0], rtol=2e-5)


def test_another_rho_spaces_evenly():
    np.testing.assert_allclose(np.asarray(karras(5, 1.0, 5.0, rho=1.0)), [5, 4, 3, 2, 1, 0], rtol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"steps": 1}, "at least 2"),
        ({"steps": 5, "sigma_min": 0.0}, "sigma_min"),
        ({"steps": 5, "sigma_min": 90.0}, "sigma_max"),
    ],
)
def test_bad_arguments_are_refused(arguments, reason):
    with pytest.raises(ValueError, match=reason):
        karras(**arguments)
