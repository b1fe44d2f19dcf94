"""The UNet: size, symmetry, precision."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from polymicros_jax.models import averaging, layers, unet3d
from polymicros_jax.models.unet3d import UNet3DConfig

TINY = UNet3DConfig(channels=3, width=8, multipliers=(1, 2), heads=2, head_width=4)
SHALLOW = dataclasses.replace(TINY, blocks=1)  # where gradients are compiled


def randomised(config, seed=0):
    """Parameters with nothing at zero: a fresh head is zero and would hide every mistake."""
    rng = np.random.default_rng(seed)
    params = unet3d.init(jax.random.key(seed), config)
    return jax.tree.map(lambda leaf: leaf + 0.1 * rng.normal(size=leaf.shape).astype(np.float32), params)


PARAMS = randomised(TINY)
FIELD = jax.random.normal(jax.random.key(7), (2, 8, 8, 8, 3))
LEVEL = jnp.array([-0.5, 0.2])
evaluate = jax.jit(unet3d.apply, static_argnums=0, static_argnames="padding")


@pytest.mark.parametrize(("multipliers", "millions"), [((4, 8, 16), 94.6), ((8, 16, 24), 259.0)])
def test_parameter_counts_of_the_paper(multipliers, millions):
    config = UNet3DConfig(channels=3, multipliers=multipliers)
    shapes = jax.eval_shape(lambda key: unet3d.init(key, config), jax.random.key(0))
    assert unet3d.parameter_count(shapes) / 1e6 == pytest.approx(millions, abs=0.05)


def test_a_fresh_network_is_silent():
    assert float(jnp.abs(evaluate(TINY, unet3d.init(jax.random.key(0), TINY), FIELD, LEVEL)).max()) == 0.0


def test_kernels_are_drawn_with_the_spread_of_their_inputs():
    leaves, _ = jax.tree.flatten_with_path(unet3d.init(jax.random.key(0), TINY))
    kernels = [np.asarray(leaf) for path, leaf in leaves if path[-1].key == "kernel"]
    drawn = [kernel for kernel in kernels if kernel.any()]
    assert len(drawn) == len(kernels) - 1  # the head alone is zero
    for kernel in drawn:
        scaled = kernel * np.sqrt(np.prod(kernel.shape[:-1]))
        # Kurtosis of a normal number cut at 2 is below 3: the variance of n of them is known to less than 2 / n.
        assert abs(np.var(scaled) - 1.0) < 5.0 * np.sqrt(2.0 / kernel.size)
        assert np.abs(scaled).max() < 2.0 / 0.8796 + 1e-3
    # Each number is used once.
    numbers = np.concatenate([(kernel * np.sqrt(np.prod(kernel.shape[:-1]))).ravel() for kernel in drawn])
    assert len(np.unique(numbers)) > 0.99 * len(numbers)


def test_space_to_depth_and_back():
    x = jax.random.normal(jax.random.key(0), (1, 4, 6, 2, 3))
    np.testing.assert_array_equal(layers.depth_to_space(layers.space_to_depth(x, 2), 2), x)


def test_standardised_kernels_have_unit_variance():
    kernel = layers.standardised(5 + 3 * jax.random.normal(jax.random.key(0), (3, 3, 3, 8, 4)))
    np.testing.assert_allclose(jnp.mean(kernel, axis=(0, 1, 2, 3)), 0, atol=1e-6)
    np.testing.assert_allclose(jnp.std(kernel, axis=(0, 1, 2, 3)), 1, rtol=1e-5)


def shift_error(padding, shift, config=TINY, params=PARAMS):
    moved = evaluate(config, params, jnp.roll(FIELD, shift, (1, 2, 3)), LEVEL, padding=padding)
    still = jnp.roll(evaluate(config, params, FIELD, LEVEL, padding=padding), shift, (1, 2, 3))
    return float(jnp.max(jnp.abs(moved - still)) / jnp.std(still))


def test_periodic_output_follows_shifts_by_the_stride():
    # Exact in exact arithmetic; the norms and the attention sum in another order.
    assert shift_error("periodic", (2, 4, -2)) < 1e-4


@pytest.mark.parametrize(("padding", "shift"), [("periodic", (1, 0, 0)), ("replicate", (2, 4, -2))])
def test_neither_other_shifts_nor_replicate_do(padding, shift):
    assert shift_error(padding, shift) > 1e-2


def test_output_depends_on_the_noise_level():
    low, high = (evaluate(TINY, PARAMS, FIELD, jnp.full(2, level)) for level in (-1.5, 1.0))
    assert float(jnp.std(low - high)) > 0.05 * float(jnp.std(low))


def test_batch_entries_do_not_mix():
    single = evaluate(TINY, PARAMS, FIELD[1], LEVEL[1])
    np.testing.assert_allclose(evaluate(TINY, PARAMS, FIELD, LEVEL)[1], single, rtol=1e-4, atol=1e-4)


def test_bfloat16_is_close_to_float32():
    config = dataclasses.replace(TINY, compute_dtype="bfloat16")
    full, half = evaluate(TINY, PARAMS, FIELD, LEVEL), evaluate(config, PARAMS, FIELD, LEVEL)
    assert half.dtype == jnp.float32
    # Eight bits of mantissa, 2^-9 a rounding, through about 20 layers whose errors add in squares and are amplified by
    # the norms: 2^-9 * sqrt(20) = 0.9 %, times a factor of ten for the norms.
    error = float(jnp.std(full - half) / jnp.std(full))
    assert 1e-5 < error < 0.1


@pytest.mark.parametrize("name", ["float16", "float61"])
def test_other_types_to_compute_in_are_refused(name):
    with pytest.raises(ValueError, match=f"compute_dtype: found '{name}', accepted are float32, bfloat16"):
        UNet3DConfig(channels=3, compute_dtype=name)


def test_remat_gives_the_same_gradients():
    def gradient(config):
        def loss(params):
            return jnp.mean(jnp.square(unet3d.apply(config, params, FIELD, LEVEL) - FIELD))

        return jax.jit(jax.grad(loss))(params)

    level = dataclasses.replace(SHALLOW, multipliers=(1,))
    params = randomised(level)
    plain, remat = gradient(level), gradient(dataclasses.replace(level, remat=True))
    scale = max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(plain))
    assert scale > 0
    for one, other in zip(jax.tree.leaves(plain), jax.tree.leaves(remat), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5 * scale)


FOLDED = dataclasses.replace(SHALLOW, patch=2)
FINE = randomised(FOLDED)
ROUNDED = dataclasses.replace(FOLDED, detail=4, averaging=2)


def test_patches_of_two():
    assert FOLDED.stride == 4
    assert shift_error("periodic", (4, 0, -4), FOLDED, FINE) < 1e-4
    assert shift_error("periodic", (2, 0, 0), FOLDED, FINE) > 1e-2


def test_rounds_on_the_full_grid_are_added_to_a_trained_network():
    config, params = unet3d.grow(jax.random.key(3), FOLDED, FINE, detail=4, rounds=1, averaging=2)
    assert config == ROUNDED
    # Stem 2 * 3 * 4 + 4; block: FiLM 32 * 8 + 8, two convolutions 27 * 4 * 4 + 4, two norms 2 * 4; correction
    # 4 * 3 + 3; boundary (4 + 3) * 12 + 12; share and strength 4 + 1 each; gain 32 + 1; orbit (3 + 6) * 3 + 3.
    added = 28 + 264 + 2 * (436 + 8) + 15 + 96 + 2 * 5 + 33 + 30
    assert unet3d.parameter_count(params) - unet3d.parameter_count(FINE) == added
    # What is averaged is at first the output of the trained network and a little of the noisy field: averaging keeps
    # their sum.
    before, after = evaluate(FOLDED, FINE, FIELD, LEVEL), evaluate(config, params, FIELD, LEVEL)
    share = jax.nn.sigmoid(averaging.INITIAL_LOGIT)
    assert 0.005 < share < 0.01
    expected = jnp.sum(share * FIELD + (1.0 - share) * before, (1, 2, 3))
    np.testing.assert_allclose(jnp.sum(after, (1, 2, 3)), expected, rtol=1e-4, atol=1e-3)
    more, further = unet3d.grow(jax.random.key(4), config, params, detail=4, rounds=2, averaging=2)
    assert more == dataclasses.replace(ROUNDED, rounds=2)
    assert jax.tree.all(jax.tree.map(jnp.array_equal, further["rounds"]["0"], params["rounds"]["0"]))
    for wrong in ({"detail": 8, "rounds": 2}, {"detail": 4, "rounds": 0}, {"detail": 0, "rounds": 1}):
        with pytest.raises(ValueError, match="the network has 1 of 4 channels and 2 steps"):
            unet3d.grow(jax.random.key(3), config, params, **wrong, averaging=2)


def test_a_round_sees_single_voxels():
    params = randomised(ROUNDED)
    silent = jax.tree.map(jnp.zeros_like, params["rounds"]["0"]["correction"])
    without = {**params, "rounds": {"0": {**params["rounds"]["0"], "correction": silent}}}
    change = evaluate(ROUNDED, params, FIELD, LEVEL) - evaluate(ROUNDED, without, FIELD, LEVEL)
    blocks = layers.space_to_depth(change, 2).reshape(2, 4, 4, 4, 8, 3)
    # Its answer varies inside the blocks that the folded network takes as one.
    assert float(jnp.std(blocks, axis=-2).mean()) > 0.1 * float(jnp.std(change))


COARSE = dataclasses.replace(FOLDED, coarse=1, averaging=2)


def test_coarse_rounds_are_added_to_a_trained_network():
    config, params = unet3d.grow(jax.random.key(3), FOLDED, FINE, detail=0, rounds=1, averaging=2, coarse=1)
    assert config == COARSE
    # As above with 8 channels in place of 4 and groups of the norm as in the rest of the network.
    added = 56 + 528 + 2 * (1736 + 16) + 27 + 12 * (8 + 3) + 12 + 2 * 9 + 33 + 30
    assert unet3d.parameter_count(params) - unet3d.parameter_count(FINE) == added
    # Averaging on the half grid keeps the sum of the means over blocks.
    before, after = evaluate(FOLDED, FINE, FIELD, LEVEL), evaluate(config, params, FIELD, LEVEL)
    share = jax.nn.sigmoid(averaging.INITIAL_LOGIT)
    expected = jnp.sum(share * FIELD + (1.0 - share) * before, (1, 2, 3))
    np.testing.assert_allclose(jnp.sum(after, (1, 2, 3)), expected, rtol=1e-4, atol=1e-3)
    # What it changes is the same for all voxels of a block.
    blocks = layers.space_to_depth(after - before, 2).reshape(2, 4, 4, 4, 8, 3)
    np.testing.assert_allclose(blocks - blocks[..., :1, :], 0.0, atol=1e-5)
    assert float(jnp.std(blocks)) > 1e-3
    with pytest.raises(ValueError, match="found averaging of 4 steps: the network has coarse rounds trained with 2"):
        unet3d.grow(jax.random.key(3), config, params, detail=0, rounds=1, averaging=4, coarse=1)
    with pytest.raises(ValueError, match="found 0 coarse rounds: the network has 1"):
        unet3d.grow(jax.random.key(3), config, params, detail=0, rounds=1, averaging=2)


def test_a_network_for_other_channels_keeps_what_does_not_meet_them():
    config = dataclasses.replace(ROUNDED, coarse=1)
    params = randomised(config)
    exchanged, new = unet3d.exchange_channels(jax.random.key(5), config, params, 2)
    assert exchanged == dataclasses.replace(config, channels=2)
    output = jax.eval_shape(lambda params: unet3d.apply(exchanged, params, FIELD[..., :2], LEVEL), new)
    assert output.shape == (2, 8, 8, 8, 2)
    fresh = unet3d.init(jax.random.key(5), exchanged)
    meets = {"stem", "head", "correction", "boundary", "orbit"}  # first and last layers, of the rounds too
    for (path, leaf), old, begun in zip(
        jax.tree.leaves_with_path(new), jax.tree.leaves(params), jax.tree.leaves(fresh), strict=True
    ):
        anew = leaf.shape != old.shape
        np.testing.assert_array_equal(leaf, begun if anew else old)
        assert not anew or any(key.key in meets for key in path)
    kept = sum(jax.tree.leaves(jax.tree.map(lambda a, b: a.size * (a.shape == b.shape), new, params)))
    assert kept > 0.9 * unet3d.parameter_count(new)


def test_rounds_follow_shifts_and_have_a_gradient():
    config = dataclasses.replace(ROUNDED, coarse=1, multipliers=(1,))
    params = randomised(config)
    assert shift_error("periodic", (4, 0, -4), config, params) < 1e-4

    def loss(params):
        return jnp.sum(jnp.sin(unet3d.apply(config, params, FIELD, LEVEL)))

    gradient = jax.jit(jax.grad(loss))(params)
    for kind in ("rounds", "coarse"):
        for part in ("boundary", "share", "correction", "strength", "orbit"):
            assert float(jnp.abs(gradient[kind]["0"][part]["linear"]["kernel"]).max()) > 0


@pytest.mark.parametrize(
    ("shape", "padding", "reason"),
    [
        ((8, 8, 8, 4), "replicate", "4 channels"),
        ((8, 7, 8, 3), "replicate", "multiple of 2"),
    ],
)
def test_what_it_cannot_take_is_refused(shape, padding, reason):
    with pytest.raises(ValueError, match=reason):
        unet3d.apply(TINY, PARAMS, jnp.zeros(shape), 0.0, padding=padding)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"head": {"linear": {"bias": PARAMS["head"]["linear"]["bias"]}}}, "head/linear/kernel is missing"),
        ({"tail": jnp.ones(3)}, "found tail"),
    ],
)
def test_what_params_lack_is_not_taken_from_the_call_before(change, reason):
    network = functools.partial(unet3d.apply, TINY)
    jax.eval_shape(network, PARAMS, FIELD, LEVEL)
    with pytest.raises(ValueError, match=reason):
        jax.eval_shape(network, {**PARAMS, **change}, FIELD, LEVEL)


@pytest.mark.gpu
@pytest.mark.parametrize("side", [32, 128])
def test_bfloat16_shapes_of_the_paper_on_an_accelerator(side):
    # jax issue 37922: some bfloat16 shapes find no cuDNN algorithm.
    config = UNet3DConfig(channels=9, multipliers=(8, 16, 24), compute_dtype="bfloat16")
    params = unet3d.init(jax.random.key(0), config)
    out = evaluate(config, params, jnp.ones((1, side, side, side, 9)), jnp.zeros(1))
    assert bool(jnp.isfinite(out).all())
