"""A network of six numbers in the UNet's place: it compiles at once, and every gradient has a closed form."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from polymicros_jax.models import unet3d
from polymicros_jax.training.prior import Prior

SIGMA_DATA = 0.5


@pytest.fixture
def linear_network(monkeypatch):
    """Makes ``F(x, c) = x w + c b``, and returns a prior of it."""

    def apply(config, params, x, c_noise, *, padding="replicate"):
        level = jnp.asarray(c_noise).reshape(-1, 1, 1, 1, 1)
        shift = level * params["shift"]["bias"].reshape(1, 1, 1, 1, 2)
        return jnp.einsum("bxyzh,hg->bxyzg", x, params["mix"]["kernel"]) + shift

    monkeypatch.setattr(unet3d, "apply", apply)
    rng = np.random.default_rng(0)
    params = {
        "mix": {"kernel": jnp.asarray(rng.normal(size=(2, 2)), jnp.float32)},
        "shift": {"bias": jnp.asarray(rng.normal(size=2), jnp.float32)},
    }
    network = unet3d.UNet3DConfig(channels=2, width=8, multipliers=(1,), blocks=1)
    return Prior(params=params, network=network, sigma_data=SIGMA_DATA, representation="rogsh3")


@pytest.fixture
def silent_network(linear_network):
    """The same with zeros: it answers as a fresh UNet does."""
    return linear_network.replace(params=jax.tree.map(jnp.zeros_like, linear_network.params))
