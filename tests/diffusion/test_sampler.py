"""The sampler against exactly Gaussian data, for which the probability flow has a closed form."""

import itertools

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from polymicros_jax.diffusion.conditioning import Step, compose, guided
from polymicros_jax.diffusion.sampler import EDM_CHURN, Churn, evaluations, sample
from polymicros_jax.diffusion.schedule import karras

D = 0.5


def gaussian(x, sigma):
    """Exact denoiser of white Gaussian data with standard deviation D."""
    return jnp.asarray(x) * (D**2 / (D**2 + jnp.asarray(sigma) ** 2))


def flow_error(steps: int) -> float:
    """Error of the deterministic solver from its start to the last level above zero, relative to the exact flow."""
    sigmas = karras(steps, sigma_min=0.1, sigma_max=10.0)
    start = 3.0 * jnp.ones(1)
    end = sample(jax.random.key(0), gaussian, start, sigmas, skip=1, churn=None)
    noise = sigmas[1] * jax.random.normal(jax.random.split(jax.random.key(0))[0], (1,))
    # dx/ds = x s / (s^2 + D^2) keeps x / sqrt(s^2 + D^2); the last step is the denoiser.
    exact = (start + noise) * jnp.sqrt((sigmas[-2] ** 2 + D**2) / (sigmas[1] ** 2 + D**2))
    exact = gaussian(exact, sigmas[-2])
    return float(jnp.abs(end - exact)[0] / jnp.abs(exact)[0])


def test_solver_is_second_order(x64):
    errors = [flow_error(steps) for steps in (40, 80, 160)]
    orders = np.log2(np.array(errors[:-1]) / np.array(errors[1:]))
    # The leading term is of order 2; the next one bends the slope by a few per cent at these step counts.
    np.testing.assert_allclose(orders, 2.0, atol=0.15)


def exact_bias(steps: int, churn: Churn | None) -> float:
    """Standard deviation out over true for `gaussian`: every step is linear, so variances follow a recursion."""
    sigmas = np.append((80 ** (1 / 7) + np.linspace(0, 1, steps) * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7, 0.0)
    variance = sigmas[0] ** 2
    for now, after in itertools.pairwise(sigmas):
        inside = churn is not None and churn.sigma_min <= now <= churn.sigma_max
        raised = now * (1 + min(churn.amount / steps, 2**0.5 - 1)) if inside else now
        variance += (raised**2 - now**2) * (churn.noise**2 if churn else 1)
        wiener = [D**2 / (D**2 + level**2) for level in (raised, after)]
        slope = (1 - wiener[0]) / raised
        euler = 1 + (after - raised) * slope
        heun = wiener[0] if after == 0 else 1 + (after - raised) * (slope + euler * (1 - wiener[1]) / after) / 2
        variance *= heun**2
    return variance**0.5 / D


@pytest.mark.parametrize(("steps", "expected"), [(18, 1.055), (32, 1.016), (64, 1.0037), (128, 1.0009)])
def test_bias_of_the_deterministic_solver(steps, expected):
    out = sample(jax.random.key(steps), gaussian, jnp.zeros(8), karras(steps), churn=None)
    start = 80.0 * jax.random.normal(jax.random.split(jax.random.key(steps))[0], (8,))
    # Linear, so one number is the whole law: no Monte Carlo. The start has standard deviation 80.
    ratio = float(out[0] / start[0]) * 80.0 / D
    assert ratio == pytest.approx(exact_bias(steps, None), rel=2e-4)
    assert ratio == pytest.approx(expected, abs=5e-4)


@pytest.mark.parametrize(("steps", "expected"), [(18, 1.1281), (32, 1.0543), (64, 1.0238), (128, 1.0106)])
def test_churn_biases_the_standard_deviation_more(steps, expected):
    count = 30_000
    ratio = float(jnp.std(sample(jax.random.key(steps), gaussian, jnp.zeros(count), karras(steps)))) / D
    assert exact_bias(steps, EDM_CHURN) == pytest.approx(expected, abs=5e-5)
    # Relative standard error of a standard deviation from independent draws.
    assert abs(ratio / expected - 1) < 4 / np.sqrt(2 * count)


def test_churn_makes_more_of_what_a_denoiser_falls_short_of():
    # White data, and a denoiser a tenth short: each step loses a little, and churn makes the way back longer.
    spreads = [
        float(jnp.std(sample(jax.random.key(0), each, jnp.zeros(20_000), karras(25), churn=churn)))
        for each in (gaussian, lambda x, sigma: 0.9 * gaussian(x, sigma))
        for churn in (None, EDM_CHURN)
    ]
    exact, exact_churned, short, short_churned = spreads
    # Beside an exact denoiser on the same schedule. Each spread has a relative standard error of 1 / sqrt(2 * 20,000).
    loss, loss_churned = short / exact, short_churned / exact_churned
    assert loss < 0.9
    assert loss_churned < (1.0 - 4 * 2 / np.sqrt(2 * 20_000)) * loss


def nothing(x, sigma):
    """A denoiser that takes nothing off: every slope is zero, so that a draw is the sum of the noise that was added."""
    return jnp.asarray(x)


def test_churn_adds_the_noise_it_names_at_every_level_of_its_window():
    """Both ends belong to the window, the last step to zero too: s^2 and S_noise^2 ((1 + gamma)^2 - 1) s^2 a level."""
    count, sigmas = 40_000, jnp.array([0.5, 0.25, 0.0])  # exact in binary
    churn = Churn(amount=8.0, sigma_min=0.25, sigma_max=0.5, noise=2.0)  # gamma = sqrt(2) - 1, the most: s^2 is added
    draw = sample(jax.random.key(0), nothing, jnp.zeros(count), sigmas, churn=churn)
    expected = 0.5**2 + 2.0**2 * (0.5**2 + 0.25**2)
    # Relative standard error of a variance from independent draws.
    assert float(jnp.var(draw)) == pytest.approx(expected, rel=4 * np.sqrt(2 / count))


@pytest.mark.parametrize("repeats", [1, 3])
def test_repeats_go_back_by_fresh_noise(repeats):
    """A repeat adds what the step took away, s_i^2 - s_{i+1}^2, from a key of its own: variances add up."""
    count, sigmas = 40_000, jnp.array([0.5, 0.25, 0.0])
    draw = sample(jax.random.key(0), nothing, jnp.zeros(count), sigmas, repeats=repeats, churn=None)
    expected = 0.5**2 + (repeats - 1) * (0.5**2 - 0.25**2)
    assert float(jnp.var(draw)) == pytest.approx(expected, rel=4 * np.sqrt(2 / count))


def test_no_churn_is_a_scaling():
    out = sample(jax.random.key(3), gaussian, jnp.zeros(1000), karras(12), churn=None)
    noise = jax.random.normal(jax.random.split(jax.random.key(3))[0], (1000,))
    np.testing.assert_allclose(out / noise, np.full(1000, float(out[0] / noise[0])), rtol=1e-4)


def test_churn_gamma_uses_the_steps_taken():
    assert float(EDM_CHURN.gamma(jnp.asarray(1.0), 200)) == pytest.approx(0.2)
    assert float(EDM_CHURN.gamma(jnp.asarray(1.0), 18)) == pytest.approx(2**0.5 - 1)
    assert float(EDM_CHURN.gamma(jnp.asarray(0.04), 18)) == 0.0
    assert float(EDM_CHURN.gamma(jnp.asarray(51.0), 18)) == 0.0


def test_gradient_through_the_sampler_is_finite_and_right(x64):
    def end(scale):
        def denoise(x, sigma):
            return x * (scale**2 / (scale**2 + jnp.asarray(sigma) ** 2))

        return jnp.sum(sample(jax.random.key(0), denoise, jnp.zeros(4), karras(10)) ** 2)

    gradient = float(jax.grad(end)(0.5))
    step = 1e-5
    difference = float(end(0.5 + step) - end(0.5 - step)) / (2 * step)
    assert np.isfinite(gradient)
    assert gradient == pytest.approx(difference, rel=1e-6)


def test_gradient_of_the_levels_is_finite_where_no_noise_is_added(x64):
    levels = karras(4)  # the first and the last before zero lie outside EDM's range of churn
    end = jax.jit(lambda sigmas: jnp.sum(sample(jax.random.key(0), gaussian, jnp.zeros(4), sigmas) ** 2))
    gradient = np.asarray(jax.jit(jax.grad(end))(levels))
    for index in (0, 3):
        step = 1e-3 * levels[index]
        difference = (end(levels.at[index].add(step)) - end(levels.at[index].add(-step))) / (2 * step)
        # Central differences are right to the square of the step; ten times that for the rounding of a smaller level.
        assert gradient[index] == pytest.approx(float(difference), rel=1e-5)
    assert np.isfinite(gradient).all()


@flax.struct.dataclass
class Spy:
    """Replaces the state by what it was told, so that the last step shows in the result."""

    target: jax.Array

    def __call__(self, x, step: Step):
        return jnp.where(step.index == step.count - 1, self.target + step.sigma, x)


def test_condition_runs_after_the_last_step():
    out = sample(jax.random.key(0), gaussian, jnp.zeros(3), karras(5), condition=Spy(jnp.full(3, 7.0)))
    # Run before the step, the denoiser would have shrunk it, if by little, and sigma would not be zero.
    np.testing.assert_array_equal(out, np.full(3, 7.0))


def test_condition_sees_every_step_once_with_its_level():
    seen = []

    @flax.struct.dataclass
    class Recorder:
        def __call__(self, x, step):
            jax.debug.callback(
                lambda i, n, s: seen.append((int(i), int(n), float(s))), step.index, step.count, step.sigma
            )
            return x

    sigmas = karras(6)
    sample(jax.random.key(0), gaussian, jnp.zeros(3), sigmas, skip=2, condition=Recorder())
    jax.effects_barrier()
    assert sorted(seen) == [(i, 6, float(sigmas[i + 1])) for i in range(2, 6)]


def test_step_keys_differ():
    keys = []

    @flax.struct.dataclass
    class Recorder:
        def __call__(self, x, step):
            jax.debug.callback(lambda k: keys.append(tuple(k.tolist())), jax.random.key_data(step.key))
            return x

    sample(jax.random.key(0), gaussian, jnp.zeros(3), karras(4), condition=compose(Recorder(), Recorder()), repeats=2)
    jax.effects_barrier()
    # Three steps taken twice and a last one, seen by two parts.
    assert len(set(keys)) == len(keys) == 2 * (3 * 2 + 1)


def test_noise_of_a_projection_is_none_of_the_sampler():
    @flax.struct.dataclass
    class Noise:
        def __call__(self, x, step):
            return x + step.sigma * jax.random.normal(step.key, x.shape)

    count = 20_000
    sigmas = jnp.array([1.0, 0.6, 0.0])
    # Nothing is denoised, so that all noise adds up: of the start, of the way back and, twice, of the projection.
    draw = {"condition": compose(Noise()), "churn": None, "repeats": 2}
    out = sample(jax.random.key(0), lambda x, sigma: x, jnp.zeros(count), sigmas, **draw)
    # Noise that is used twice adds in its deviation: 2 x 0.6 x 0.8 more.
    assert abs(float(jnp.var(out)) / (1.0 + 0.8**2 + 2 * 0.6**2) - 1) < 4 * np.sqrt(2 / count)


def test_skip_starts_from_the_field_plus_noise_of_its_level():
    sigmas = karras(10)
    field = jnp.full(20_000, 3.0)
    states = []

    def denoise(x, sigma):
        jax.debug.callback(lambda x, s: states.append((np.asarray(x), float(s))), x, sigma)
        return jnp.asarray(x)

    sample(jax.random.key(0), denoise, field, sigmas, skip=6, churn=None)
    jax.effects_barrier()
    first, level = max(states, key=lambda pair: pair[1])
    assert level == float(sigmas[6])
    assert abs(float((first - 3.0).std()) / level - 1) < 5 / np.sqrt(4e4)
    assert abs(float(first.mean()) - 3.0) < 5 * level / np.sqrt(2e4)


def test_skip_zero_ignores_the_values_of_init():
    key, sigmas = jax.random.key(0), karras(5)
    np.testing.assert_array_equal(
        sample(key, gaussian, jnp.zeros(9), sigmas), sample(key, gaussian, jnp.full(9, 5.0), sigmas)
    )


@pytest.mark.parametrize("skip", [-1, 5])
def test_skip_out_of_range_is_refused(skip):
    with pytest.raises(ValueError, match="skip"):
        sample(jax.random.key(0), gaussian, jnp.zeros(3), karras(5), skip=skip)


@pytest.mark.parametrize("sigmas", [karras(20)[:10], karras(20)[::-1], jnp.array([1.0, 1.0, 0.0])])
def test_levels_that_do_not_fall_to_nothing_are_refused(sigmas):
    with pytest.raises(ValueError, match="accepted are levels that fall to exactly 0"):
        sample(jax.random.key(0), lambda x, sigma: x, jnp.zeros(3), sigmas)


def test_repeats_below_one_are_refused():
    with pytest.raises(ValueError, match="repeats"):
        sample(jax.random.key(0), gaussian, jnp.zeros(3), karras(5), repeats=0)


def test_repeats_leave_the_distribution():
    count = 20_000
    out = sample(jax.random.key(1), gaussian, jnp.zeros(count), karras(32), repeats=3, churn=None)
    # Going back and forth draws from the same marginals: the bias stays that of a step, 1.6 % in one pass at 32 steps.
    assert abs(float(jnp.std(out)) / D - 1) < 0.02 + 4 / np.sqrt(2 * count)


def test_five_observations_one_trace():
    traces = []

    @jax.jit
    def run(condition):
        traces.append(1)
        return sample(jax.random.key(0), gaussian, jnp.zeros(3), karras(5), condition=condition)

    results = [run(Spy(jnp.full(3, float(value)))) for value in range(5)]
    assert len(traces) == 1
    np.testing.assert_array_equal(jnp.stack(results)[:, 0], np.arange(5.0))


@pytest.mark.parametrize("repeats", [1, 3])
def test_the_denoiser_is_asked_as_often_as_said_and_compiled_once(repeats):
    """A network takes the better part of a minute to compile, at every place where it stands in the program."""
    asked = []

    def counted(x, sigma):
        jax.debug.callback(lambda level: asked.append(float(level)), sigma, ordered=True)
        return jnp.sin(x)

    def draw(denoise):
        return sample(jax.random.key(0), denoise, jnp.zeros(3), karras(6), skip=2, repeats=repeats)

    assert str(jax.make_jaxpr(lambda: draw(lambda x, _: jnp.sin(x)))()).count("= sin ") == 1
    jax.block_until_ready(draw(counted))
    jax.effects_barrier()
    assert len(asked) == evaluations(6, 2, repeats)
    assert all(level > 0 for level in asked)


def test_vmap_over_keys_equals_the_loop():
    keys = jax.random.split(jax.random.key(0), 3)

    def draw(key):
        return sample(key, gaussian, jnp.zeros(8), karras(7))

    np.testing.assert_allclose(jax.vmap(draw)(keys), jnp.stack([draw(key) for key in keys]), rtol=1e-5, atol=1e-6)


def test_composition_applies_left_to_right():
    @flax.struct.dataclass
    class Add:
        amount: float

        def __call__(self, x, step):
            return x + self.amount

    @flax.struct.dataclass
    class Double:
        def __call__(self, x, step):
            return 2 * x

    step = Step(index=jnp.asarray(0), count=jnp.asarray(1), sigma=jnp.asarray(0.0), key=jax.random.key(0))
    assert float(compose(Add(1.0), Double())(jnp.asarray(3.0), step)) == 8.0
    assert float(compose(Double(), Add(1.0))(jnp.asarray(3.0), step)) == 7.0


def test_guides_wrap_in_order():
    def plus_one(denoise):
        return lambda x, sigma: denoise(x, sigma) + 1

    def double(denoise):
        return lambda x, sigma: 2 * denoise(x, sigma)

    assert float(guided(lambda x, sigma: jnp.asarray(x), [plus_one, double])(jnp.asarray(3.0), 1.0)) == 8.0


def test_churn_is_hashable_configuration():
    assert hash(Churn()) == hash(EDM_CHURN)
