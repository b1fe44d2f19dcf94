"""One optimisation step against its definition, written out part by part."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from polymicros_jax.diffusion.loss import NoiseLaw, edm_loss
from polymicros_jax.training.ema import EmaLaw
from polymicros_jax.training.step import Optimisation, build_step, create_state

KEY = jax.random.key(3)
OPTIMISATION = Optimisation(
    steps=50,
    batch=8,
    accumulate=4,
    learning_rate=0.01,
    warmup=10,
    final_rate=0.1,
    weight_decay=0.02,
    clip=0.2,
    beta2=0.99,
    noise=NoiseLaw(-0.5, 1.0),
    ema=EmaLaw(0.8),
)
RNG = np.random.default_rng(1)
PATCHES = [jnp.asarray(0.5 * RNG.normal(size=(8, 4, 4, 4, 2)), jnp.float32) for _ in range(4)]


def random_sign(key, patches):
    sign = jnp.where(jax.random.bernoulli(key, shape=(patches.shape[0], 1, 1, 1, 1)), 1.0, -1.0)
    return patches * sign


def build(prior, optimisation=OPTIMISATION, **options):
    return build_step(prior.network, prior.sigma_data, prior.representation, optimisation, KEY, **options)


def advanced(prior, count, optimisation=OPTIMISATION, **options):
    """States after 0 to ``count`` steps, copied because each step consumes the one before, and the metrics."""
    step, states, metrics = build(prior, optimisation, **options), [create_state(prior.params, optimisation)], []
    for patches in PATCHES[:count]:
        state, found = step(jax.tree.map(jnp.copy, states[-1]), patches)
        states.append(state)
        metrics.append(found)
    return states, metrics


def by_hand(prior, steps, rotate=None, accumulate=4):
    """Parameters, averages, losses and gradient norms of Adam with decoupled decay, in NumPy double precision."""

    def loss(params, key, portion):
        return edm_loss(key, prior.replace(params=params).denoiser(), portion, OPTIMISATION.noise, prior.sigma_data)

    differentiate = jax.jit(jax.value_and_grad(loss))
    flat, tree = jax.tree.flatten(prior.params)
    p = [np.float64(leaf) for leaf in flat]
    m, v, ema = [np.zeros_like(a) for a in p], [np.zeros_like(a) for a in p], list(p)
    history = []
    for t in range(steps):
        rotate_key, loss_key = jax.random.split(jax.random.fold_in(KEY, t))
        patches = PATCHES[t] if rotate is None else rotate(rotate_key, PATCHES[t])
        params = jax.tree.unflatten(tree, [jnp.asarray(a, jnp.float32) for a in p])
        values, gradients = [], []
        for part in range(accumulate):
            portion = jnp.asarray(np.asarray(patches)[part::accumulate])
            value, gradient = differentiate(params, jax.random.fold_in(loss_key, part), portion)
            values.append(float(value))
            gradients.append([np.float64(leaf) for leaf in jax.tree.leaves(gradient)])
        g = [np.mean(leaf, axis=0) for leaf in zip(*gradients, strict=True)]
        norm = np.sqrt(sum((a**2).sum() for a in g))
        g = [a * min(1.0, OPTIMISATION.clip / norm) for a in g]
        rate = OPTIMISATION.learning_rate * t / OPTIMISATION.warmup
        m = [0.9 * a + 0.1 * b for a, b in zip(m, g, strict=True)]
        v = [OPTIMISATION.beta2 * a + (1 - OPTIMISATION.beta2) * b**2 for a, b in zip(v, g, strict=True)]
        for i in range(len(p)):
            direction = m[i] / (1 - 0.9 ** (t + 1)) / (np.sqrt(v[i] / (1 - OPTIMISATION.beta2 ** (t + 1))) + 1e-8)
            p[i] = p[i] - rate * (direction + OPTIMISATION.weight_decay * p[i])
            ema[i] = 0.8 * ema[i] + 0.2 * p[i]
        history.append((list(p), list(ema), np.mean(values), norm))
    return history


@pytest.mark.parametrize("backend", ["cpu", "gpu"], ids=["unrolled", "rolled"])
def test_steps_are_adam_on_the_mean_of_the_parts(linear_network, monkeypatch, backend):
    # The loop over the parts is unrolled on CPU and rolled elsewhere: both are compiled here.
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    states, metrics = advanced(linear_network, 4, rotate=random_sign)
    history = by_hand(linear_network, 4, random_sign)
    for state, found, (params, ema, loss, norm) in zip(states[1:], metrics, history, strict=True):
        # float32 sums of 1024 squares; no gradient entry is so small that Adam's quotient would enlarge its error.
        np.testing.assert_allclose(found["loss"], loss, rtol=1e-5)
        np.testing.assert_allclose(found["gradient_norm"], norm, rtol=1e-4)
        assert norm > 2 * OPTIMISATION.clip
        for one, other in zip(jax.tree.leaves((state.params, state.ema)), [*params, *ema], strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5 * OPTIMISATION.learning_rate)
    # The first step of the warm-up has rate zero, the others move by about their rate.
    first, last = np.asarray(states[1].params["mix"]["kernel"]), np.asarray(states[4].params["mix"]["kernel"])
    np.testing.assert_array_equal(first, linear_network.params["mix"]["kernel"])
    assert 0.001 < np.abs(last - first).max() < 0.01
    assert int(states[4].step) == 4


def test_the_average_counts_its_steps_from_one(linear_network):
    """The power law forgets the start at the first step; later ones weigh t^3 - (t-1)^3 over T^3."""
    law = dataclasses.replace(OPTIMISATION, ema=EmaLaw(1.0, 2.0), warmup=0)
    states, _ = advanced(linear_network, 3, law)
    kernels = [np.asarray(state.params["mix"]["kernel"], np.float64) for state in states]
    assert np.abs(kernels[1] - kernels[0]).min() > 0.001
    for last, state in enumerate(states[1:], 1):
        weights = np.diff(np.arange(last + 1.0) ** 3) / last**3
        expected = np.tensordot(weights, np.stack(kernels[1 : last + 1]), 1)
        np.testing.assert_allclose(state.ema["mix"]["kernel"], expected, rtol=1e-6)


def test_the_parts_have_noise_of_their_own(linear_network):
    once = dataclasses.replace(OPTIMISATION, accumulate=1)
    _, (whole,) = advanced(linear_network, 1, once)
    _, (parts,) = advanced(linear_network, 1)
    np.testing.assert_allclose(whole["loss"], by_hand(linear_network, 1, accumulate=1)[0][2], rtol=1e-5)
    assert abs(float(whole["loss"] - parts["loss"])) > 0.01


def test_parts_equal_one_batch_where_the_noise_is_the_same(linear_network, monkeypatch):
    def loss(key, denoise, x, noise_law, sigma_data):
        # Noise that depends on the patch alone: no part draws its own.
        sigma = 0.2 + jnp.abs(x[:, 0, 0, 0, 0])
        noise = sigma.reshape(-1, 1, 1, 1, 1) * jnp.sin(100.0 * x)
        return jnp.mean(jnp.square(denoise(x + noise, sigma) - x))

    monkeypatch.setattr("polymicros_jax.training.step.edm_loss", loss)
    found = {
        parts: advanced(linear_network, 3, dataclasses.replace(OPTIMISATION, accumulate=parts)) for parts in (1, 2, 8)
    }
    states, metrics = found.pop(1)
    for others, values in found.values():
        for name in ("loss", "gradient_norm"):
            # Sums of 1024 terms in another order; the gradients of the parts partly cancel.
            np.testing.assert_allclose([m[name] for m in values], [m[name] for m in metrics], rtol=1e-5)
        for one, other in zip(jax.tree.leaves(others[-1].params), jax.tree.leaves(states[-1].params), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5 * OPTIMISATION.learning_rate)
    moved = np.asarray(states[-1].params["mix"]["kernel"]) - np.asarray(states[0].params["mix"]["kernel"])
    assert np.abs(moved).min() > 0.001


def test_a_gradient_below_the_limit_is_not_clipped(linear_network):
    gentle = dataclasses.replace(OPTIMISATION, clip=1e6)
    for optimisation, limit in ((OPTIMISATION, OPTIMISATION.clip), (gentle, np.inf)):
        states, metrics = advanced(linear_network, 1, optimisation)
        # Adam's first moment is a tenth of what came through the clipping.
        moment = jax.tree.leaves(states[1].optimiser[1][0].mu)
        norm = 10 * np.sqrt(sum(float(jnp.sum(leaf**2)) for leaf in moment))
        assert norm == pytest.approx(min(limit, float(metrics[0]["gradient_norm"])), rel=1e-5)


def test_loss_of_a_silent_network_is_one(silent_network):
    step, count = build(silent_network), 0
    losses = []
    for number in range(60):
        state = create_state(silent_network.params, OPTIMISATION).replace(step=jnp.asarray(number))
        patches = 0.5 * jax.random.normal(jax.random.key(number), (8, 6, 6, 6, 2))
        losses.append(float(step(state, patches)[1]["loss"]))
        count += patches.size
    # On white data the weighted error is chi-squared with one degree a value: standard error sqrt(2 / count), 0.0044.
    assert abs(np.mean(losses) - 1.0) < 5 * np.sqrt(2 / count)


def test_schedule():
    schedule = OPTIMISATION.schedule()
    rates = [float(schedule(step)) for step in (0, 5, 10, 30, 50)]
    # Linear to the end of the warm-up, then half a cosine to a tenth: at its middle, the mean of both ends.
    np.testing.assert_allclose(rates, [0.0, 0.005, 0.01, 0.0055, 0.001], rtol=1e-5)
    constant = dataclasses.replace(OPTIMISATION, final_rate=1.0, warmup=0).schedule()
    np.testing.assert_allclose([float(constant(step)) for step in (0, 20, 49)], 0.01, rtol=1e-6)
    # A training shorter than its warm-up still reaches the full rate.
    assert float(dataclasses.replace(OPTIMISATION, steps=5).schedule()(4)) == pytest.approx(0.01)


def test_one_trace_and_donated_states(linear_network):
    traces = []

    def counted(key, patches):
        traces.append(patches.shape)
        return patches

    step = build(linear_network, rotate=counted)
    state = create_state(linear_network.params, OPTIMISATION)
    for patches in PATCHES:
        old = state
        state, _ = step(state, patches)
        assert all(leaf.is_deleted() for leaf in jax.tree.leaves((old.params, old.ema, old.optimiser)))
    assert traces == [(8, 4, 4, 4, 2)]
    # The prior a training starts from stays usable: only copies are consumed.
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(linear_network.params))


def test_steps_differ_by_their_number_alone(linear_network):
    step = build(linear_network)

    def loss(number):
        state = create_state(linear_network.params, OPTIMISATION).replace(step=jnp.asarray(number))
        return float(step(state, PATCHES[0])[1]["loss"])

    assert loss(7) == loss(7)
    assert loss(7) != loss(8)


@pytest.mark.parametrize("name", ["steps", "batch", "accumulate"])
def test_a_training_of_nothing_is_refused(name):
    with pytest.raises(ValueError, match=f"{name} = 0: at least 1"):
        dataclasses.replace(OPTIMISATION, **{name: 0})


def test_a_batch_that_cannot_be_split_is_refused():
    with pytest.raises(ValueError, match="batch = 10, accumulate = 4"):
        dataclasses.replace(OPTIMISATION, batch=10)
