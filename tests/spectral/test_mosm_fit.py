"""Fits of the MOSM kernel: known parameters, measured volumes, more mixtures."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from polymicros_jax.data import samples
from polymicros_jax.orientation import quaternion, rogsh
from polymicros_jax.spectral import mosm, two_point


def measured_covariances():
    volume = samples.load("in100")
    euler = quaternion.to_euler(jnp.asarray(volume.quaternions)[:60:5, :60:5, :60:5])
    return two_point.covariances(rogsh.from_euler(euler).astype(jnp.float32))


@pytest.mark.slow
def test_error_of_a_measured_volume_falls_with_the_mixtures():
    """As in Fig. 7. One mixture cannot hold the cross-correlations; four times as many must do clearly better."""
    target = measured_covariances()
    errors = [float(mosm.fit(target, q, steps=150, starts=1, learning_rate=0.06).error) for q in (1, 4, 12)]
    assert errors[1] < 0.9 * errors[0]
    assert errors[2] < errors[1]
    assert errors[0] < 1  # better than no kernel at all


def test_a_kernel_of_one_mixture_is_found_again():
    truth = jax.tree.map(lambda leaf: leaf[0], mosm.sample_params(2, 1, mixtures=1, channels=2))
    target = mosm.covariance(truth, (10, 10, 10))
    result = mosm.fit(target, 1, steps=600, starts=6, learning_rate=0.05)
    assert float(result.error) < 0.02
    # The reported error is that of the parameters returned.
    assert float(mosm.relative_error(result.params, target)) == pytest.approx(float(result.error), rel=1e-3)
    assert float(result.history.min()) == pytest.approx(float(result.error), rel=1e-5)


def test_missing_lags_do_not_count_and_fits_are_reproducible():
    truth = jax.tree.map(lambda leaf: leaf[0], mosm.sample_params(0, 1, channels=2))
    holed = mosm.covariance(truth, (8, 7, 6)).at[2, :, 3].set(jnp.nan)
    assert float(mosm.relative_error(truth, holed)) < 1e-5
    first, second = (mosm.fit(holed, 2, steps=20, starts=2) for _ in range(2))
    assert np.isfinite(first.history).all()
    assert first.history[-1] < first.history[0]
    np.testing.assert_array_equal(first.history, second.history)


def test_bad_input_is_named():
    target = mosm.covariance(jax.tree.map(lambda leaf: leaf[0], mosm.sample_params(0, 1, channels=2)), (6, 5, 4))
    with pytest.raises(ValueError, match="mixtures: found 17"):
        mosm.fit(target, 17)
    with pytest.raises(ValueError, match="no variance at zero lag"):
        mosm.fit(jnp.zeros((4, 4, 4, 2, 2)), 1)
    with pytest.raises(ValueError, match="infinite"):
        mosm.fit(target.at[0, 0, 1].set(jnp.inf), 1)
    with pytest.raises(ValueError, match="not Hermitian"):
        mosm.fit(jnp.swapaxes(target, -1, -2).at[0, 0, 1, 0, 1].add(target[0, 0, 0, 0, 0]), 1)
