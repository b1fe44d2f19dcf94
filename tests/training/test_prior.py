"""A prior's file: what goes in comes out, and what is wrong is named."""

import dataclasses
import json

import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from polymicros_jax.data.errors import DataError
from polymicros_jax.diffusion.preconditioning import coefficients
from polymicros_jax.models import unet3d
from polymicros_jax.training import prior as module
from polymicros_jax.training.prior import Prior, load_prior, read_card, save_prior, shipped

NETWORK = unet3d.UNet3DConfig(channels=9, width=8, multipliers=(1,), blocks=1, heads=1, head_width=4, patch=2)


@pytest.fixture(scope="module")
def prior():
    shapes = jax.eval_shape(lambda key: unet3d.init(key, NETWORK), jax.random.key(0))
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape), jnp.float32), shapes)
    return Prior(params=params, network=NETWORK, sigma_data=0.437, representation="gsh4", sigma_skip=0.1)


def assert_same(found, expected, rtol):
    assert jax.tree.structure(found.params) == jax.tree.structure(expected.params)
    for one, other in zip(jax.tree.leaves(found.params), jax.tree.leaves(expected.params), strict=True):
        assert one.dtype == jnp.float32
        np.testing.assert_allclose(one, other, rtol=rtol, atol=2.0**-25)
    for name in ("network", "sigma_data", "sigma_skip", "representation"):
        assert getattr(found, name) == getattr(expected, name)


# Half precision: 11 bits of mantissa, rounded to nearest; below 2^-14 steps of 2^-24.
@pytest.mark.parametrize(("storage", "rtol"), [("float32", 0.0), ("float16", 2.0**-11)])
def test_round_trip(prior, tmp_path, storage, rtol):
    weights, card = save_prior(tmp_path / "new" / "a.safetensors", prior, {"steps": 7}, storage)
    assert (weights.name, card.name) == ("a.safetensors", "a.json")
    assert sorted(path.name for path in weights.parent.iterdir()) == ["a.json", "a.safetensors"]
    assert_same(load_prior(str(weights)), prior, rtol)
    if rtol:
        with pytest.raises(AssertionError):
            assert_same(load_prior(weights), prior, rtol / 4)
    found = read_card(weights)
    assert found["training"] == {"steps": 7}
    assert found["parameters"] == sum(leaf.size for leaf in jax.tree.leaves(prior.params))
    assert found["network"]["multipliers"] == [1]


def test_priors_by_name(prior, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "WEIGHTS", tmp_path)
    for name in ("steel", "copper"):
        save_prior(tmp_path / f"{name}.safetensors", prior, {"name": name})
    assert shipped() == ("copper", "steel")
    assert read_card("steel")["training"] == {"name": "steel"}
    assert_same(load_prior("copper"), prior, 0.0)
    for unknown in ("gold", tmp_path / "steel.npz"):
        with pytest.raises(DataError, match=r"prior: found '.*', accepted are copper, steel or the path"):
            load_prior(unknown)


@pytest.fixture
def saved(prior, tmp_path):
    return save_prior(tmp_path / "a.safetensors", prior, {})


def test_a_missing_file_is_named(saved):
    weights, card = saved
    weights.unlink()
    with pytest.raises(DataError, match=r"a\.safetensors: no such file"):
        load_prior(weights)
    card.unlink()
    with pytest.raises(DataError, match=r"a\.json: no such file; weights come with a card"):
        load_prior(weights)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b'{"format": "other"}', r"format is 'other', accepted is 'polymicros_jax\.Prior/1'"),
        (b"{}", "format is None"),
        (b'{"format": "poly', "accepted is a card written by save_prior"),
        (b"\xff\xfe\x00", "accepted is a card written by save_prior"),
        (b"[1, 2]", "found list, accepted is a card"),
    ],
)
def test_a_card_that_is_none(saved, content, reason):
    weights, card = saved
    card.write_bytes(content)
    with pytest.raises(DataError, match=rf"a\.json: .*{reason}"):
        load_prior(weights)


def test_damaged_weights(saved):
    weights, _ = saved
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(DataError, match=r"a\.safetensors: .*accepted are weights"):
        load_prior(weights)


def test_tensors_of_another_network(prior, saved):
    weights, card = saved
    header = json.loads(card.read_text())
    header["network"]["channels"] = 3
    card.write_text(json.dumps(header))
    # Nine channels in 2^3 blocks are 72 rows of the stem; three are 24. The head has as many columns, and its bias.
    with pytest.raises(
        DataError, match=r"'head/linear/bias' has shape \(72,\), the card's network has \(24,\) \(3 such"
    ):
        load_prior(weights)


@pytest.mark.parametrize("key", ["network", "sigma_data", "representation"])
def test_a_card_that_lacks_a_key_is_refused_by_name(saved, key):
    weights, card = saved
    header = json.loads(card.read_text())
    del header[key]
    card.write_text(json.dumps(header))
    with pytest.raises(DataError, match=rf"a\.json: has no '{key}'"):
        load_prior(weights)


def test_a_card_of_a_network_unknown_here_is_refused(saved):
    weights, card = saved
    header = json.loads(card.read_text())
    for change, reason in (({"kernel": 5}, "found network.kernel, accepted are .*width"), (None, "has no 'width'")):
        changed = {**header, "network": {**header["network"], **(change or {})}}
        if change is None:
            del changed["network"]["width"]
        card.write_text(json.dumps(changed))
        with pytest.raises(DataError, match=rf"a\.json: .*{reason}"):
            load_prior(weights)


def test_a_card_older_than_a_setting_means_what_it_was_before(saved, prior):
    weights, card = saved
    header = json.loads(card.read_text())
    del header["sigma_skip"], header["network"]["detail"], header["network"]["rounds"]
    card.write_text(json.dumps(header))
    found = load_prior(weights)
    # EDM's preconditioning: None, which `diffusion.preconditioning.denoiser` takes for sigma_data.
    assert found.sigma_skip is None
    assert prior.sigma_skip == 0.1
    assert found.network == prior.network


def test_a_flipped_bit_in_the_weights_is_seen(saved):
    weights, card = saved
    content = bytearray(weights.read_bytes())
    content[-2] ^= 0x01
    weights.write_bytes(content)
    with pytest.raises(DataError, match=r"a\.safetensors: is damaged, or not what its card was written for"):
        load_prior(weights)
    header = json.loads(card.read_text())
    del header["sha256"]
    card.write_text(json.dumps(header))
    load_prior(weights)


def test_a_missing_tensor(prior, saved):
    weights, _ = saved
    tensors = safetensors.numpy.load_file(weights)
    name = sorted(tensors)[0]
    safetensors.numpy.save_file({key: leaf for key, leaf in tensors.items() if key != name}, weights)
    with pytest.raises(DataError, match=rf"'{name}' has shape None"):
        load_prior(weights)


def test_weights_that_cannot_be_written_leave_nothing(prior, tmp_path):
    with pytest.raises(TypeError):
        save_prior(tmp_path / "a.safetensors", prior, {"device": object()})
    assert not (tmp_path / "a.json").exists()
    assert not list(tmp_path.glob("*.part"))


def test_weights_are_stored_as_floats(prior, tmp_path):
    with pytest.raises(ValueError, match="storage: found 'int8', accepted are float32, float16"):
        save_prior(tmp_path / "a.safetensors", prior, {}, storage="int8")
    assert not list(tmp_path.iterdir())


def test_a_prior_is_a_pytree_of_its_parameters(prior):
    leaves, tree = jax.tree.flatten(prior)
    assert len(leaves) == len(flax.traverse_util.flatten_dict(prior.params))
    doubled = jax.jit(lambda p: jax.tree.map(lambda leaf: 2 * leaf, p))(prior)
    assert_same(doubled, prior.replace(params=jax.tree.map(lambda leaf: 2 * leaf, prior.params)), 0.0)
    assert jax.tree.unflatten(tree, leaves).sigma_data == 0.437
    assert dataclasses.is_dataclass(prior)


def test_the_denoiser_without_noise_returns_its_input(linear_network):
    denoise = linear_network.denoiser()
    x = jax.random.normal(jax.random.key(0), (2, 4, 4, 4, 2))
    for sigma in (1e-2, 1e-3, 1e-4):
        c = coefficients(jnp.float32(sigma), linear_network.sigma_data)
        raw = unet3d.apply(linear_network.network, linear_network.params, c.into * x, jnp.full(2, jnp.log(sigma) / 4))
        found = denoise(x, jnp.full(2, sigma))
        # D - x = c_out F - (1 - c_skip) x, with c_out -> s and 1 - c_skip -> (s / d)^2; float32 rounding of x.
        bound = sigma * float(jnp.abs(raw).max()) + (sigma / 0.5) ** 2 * float(jnp.abs(x).max()) + 1e-6
        assert float(jnp.abs(found - x).max()) < bound
        np.testing.assert_allclose(found, c.skip * x + c.out * raw, rtol=1e-5, atol=1e-6)
    assert float(jnp.abs(denoise(x, jnp.full(2, 1.0)) - x).max()) > 0.5
