"""The skip scale of a prior reaches the step, the loss, the file and the denoiser that is read back."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from polymicros_jax import train as module
from polymicros_jax.data.patches import MemoryFields
from polymicros_jax.diffusion.loss import NoiseLaw
from polymicros_jax.experiment.training import Training
from polymicros_jax.training.ema import EmaLaw
from polymicros_jax.training.prior import load_prior, read_card
from polymicros_jax.training.step import Optimisation, build_step, create_state

KEY = jax.random.key(3)
OPTIMISATION = Optimisation(steps=20, batch=4, learning_rate=0.0, warmup=0, weight_decay=0.0, noise=NoiseLaw(-0.5, 1.0))
PATCHES = jnp.asarray(0.5 * np.random.default_rng(1).normal(size=(4, 6, 6, 6, 2)), jnp.float32)
SKIP = 0.05


def by_hand(prior, skip, step):
    """Loss of one step in NumPy: D = c_skip x + c_out F(c_in x), its squared error times EDM's weight."""
    _, loss_key = jax.random.split(jax.random.fold_in(KEY, step))
    level_key, noise_key = jax.random.split(jax.random.fold_in(loss_key, 0))
    s = np.exp(-0.5 + np.float64(jax.random.normal(level_key, (4,))))
    s = s.reshape(4, 1, 1, 1, 1)
    clean, d = np.float64(PATCHES), prior.sigma_data
    x = clean + s * np.float64(jax.random.normal(noise_key, PATCHES.shape))
    kept = skip**2 / (s**2 + skip**2)
    out = np.sqrt(((1 - kept) * d) ** 2 + (kept * s) ** 2)
    raw = (x / np.sqrt(s**2 + d**2)) @ np.float64(prior.params["mix"]["kernel"])
    raw = raw + np.log(s) / 4 * np.float64(prior.params["shift"]["bias"])
    return float(np.mean((s**2 + d**2) / (s * d) ** 2 * (kept * x + out * raw - clean) ** 2))


def loss_of(prior, skip, step):
    function = build_step(prior.network, prior.sigma_data, prior.representation, OPTIMISATION, KEY, sigma_skip=skip)
    state = create_state(prior.params, OPTIMISATION).replace(step=jnp.asarray(step))
    return float(function(state, PATCHES)[1]["loss"])


def test_the_step_minimises_the_error_of_its_skip_scale(linear_network):
    # float32 sums of 1728 squares. Without a scale it is EDM's, the standard deviation of the data.
    assert loss_of(linear_network, SKIP, 7) == pytest.approx(by_hand(linear_network, SKIP, 7), rel=1e-5)
    assert loss_of(linear_network, None, 7) == pytest.approx(
        by_hand(linear_network, linear_network.sigma_data, 7), rel=1e-5
    )
    assert abs(by_hand(linear_network, SKIP, 7) / by_hand(linear_network, 0.5, 7) - 1) > 0.01


def trained(prior, folder):
    field = np.random.default_rng(2).normal(size=(8, 8, 8, 2)).astype(np.float32)
    objects = Training(
        seed=3,
        initial=prior,
        previous=None,
        source=MemoryFields((field,)),
        # No average: it would take 1000 steps to follow.
        optimisation=Optimisation(steps=3, batch=4, learning_rate=0.1, warmup=0, ema=EmaLaw(0.0)),
        patch=4,
        symmetries=None,
        weights=None,
        rotate=None,
        validation=None,
        validate_every=10,
        checkpoint_every=10,
        sheet_every=0,
        mesh=None,
        name="tiny",
        storage="float32",
        data={"initial": "random"},
    )
    module.run(objects, folder)
    return folder / "tiny.safetensors"


def test_a_training_hands_its_skip_scale_to_step_and_card(linear_network, tmp_path, monkeypatch):
    asked = []

    def recorded(*arguments, **options):
        asked.append(options["sigma_skip"])
        return build_step(*arguments, **options)

    monkeypatch.setattr(module, "build_step", recorded)
    files = [trained(linear_network.replace(sigma_skip=skip), tmp_path / str(skip)) for skip in (SKIP, None)]
    assert asked == [SKIP, None]
    assert [read_card(path)["sigma_skip"] for path in files] == [SKIP, None]
    kernels = []
    for path, skip in zip(files, (SKIP, None), strict=True):
        # The network is a stand-in, whose parameters are not those of the card's architecture.
        monkeypatch.setattr("polymicros_jax.models.unet3d.init", lambda key, config: linear_network.params)
        found = load_prior(path)
        assert found.sigma_skip == skip
        kernels.append(np.asarray(found.params["mix"]["kernel"]))
    # Another loss leads elsewhere.
    assert np.abs(kernels[0] - kernels[1]).max() > 1e-3
