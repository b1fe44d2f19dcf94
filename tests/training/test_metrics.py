"""Scores of priors whose errors are known, and the log."""

import json

import flax.struct
import jax.numpy as jnp
import numpy as np
import pytest

from polymicros_jax.training import metrics
from polymicros_jax.training.metrics import VALIDATION_SIGMAS, MetricsLog, relative_errors
from polymicros_jax.training.prior import Prior

PATCHES = (0.5 * np.random.default_rng(0).normal(size=(10, 6, 6, 6, 2))).astype(np.float32)
RMS = float(np.sqrt(np.mean(np.square(PATCHES, dtype=float))))
# The root mean square of n Gaussian values has the relative standard error 1 / sqrt(2 n); five of them.
BOUND = 5 / np.sqrt(2 * PATCHES.size)


@flax.struct.dataclass
class Fixed(Prior):
    """A prior that answers ``share`` times its input."""

    share: float = flax.struct.field(pytree_node=False, default=1.0)

    def denoiser(self, padding="replicate"):
        return lambda x, sigma: self.share * x


def fixed(prior, share):
    return Fixed(prior.params, prior.network, prior.sigma_data, prior.representation, share=share)


def test_doing_nothing_scores_the_noise(linear_network):
    errors = relative_errors(fixed(linear_network, 1.0), PATCHES)
    assert list(errors) == [f"{sigma:g}" for sigma in VALIDATION_SIGMAS]
    np.testing.assert_allclose(list(errors.values()), np.array(VALIDATION_SIGMAS) / RMS, rtol=BOUND)
    # Another stream of noise for each level.
    assert len({round(error / sigma, 9) for error, sigma in zip(errors.values(), VALIDATION_SIGMAS, strict=True)}) == 7


def test_answering_zero_scores_one(linear_network):
    errors = relative_errors(fixed(linear_network, 0.0), PATCHES)
    # No noise in it: float32 sums of 432 squares.
    np.testing.assert_allclose(list(errors.values()), 1.0, rtol=1e-5)


def test_a_silent_network_scores_the_wiener_filter(silent_network):
    sigmas = np.array([0.1, 0.5, 3.0])
    errors = relative_errors(silent_network, PATCHES, tuple(sigmas.tolist()))
    # c_skip x on white data of standard deviation d leaves s d / sqrt(s^2 + d^2).
    np.testing.assert_allclose(list(errors.values()), sigmas / np.hypot(sigmas, 0.5), rtol=2 * BOUND)


def test_the_same_noise_at_every_call(linear_network):
    assert relative_errors(linear_network, PATCHES, (0.4,)) == relative_errors(linear_network, PATCHES, (0.4,))


def test_all_levels_share_one_program(linear_network, monkeypatch):
    traces = []

    def counted(key, denoise, x, sigma):
        traces.append(x.shape[0])
        return jnp.zeros(x.shape[0])

    monkeypatch.setattr(metrics, "denoising_error", counted)
    relative_errors(fixed(linear_network, 0.123), PATCHES, chunk=4)
    # One for the chunks of 4, one for the rest of 2.
    assert traces == [4, 2]


def test_chunks_weigh_by_their_size(linear_network):
    # The last chunk holds two patches of twice the amplitude: an average of chunk averages would overrate them.
    patches = PATCHES * np.where(np.arange(10) < 8, 1.0, 2.0).astype(np.float32).reshape(10, 1, 1, 1, 1)
    errors = relative_errors(fixed(linear_network, 0.0), patches, (1.0,), chunk=8)
    assert errors["1"] == pytest.approx(1.0, rel=1e-5)


def read(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_resumed_log_drops_what_will_be_repeated(tmp_path):
    path = tmp_path / "metrics.jsonl"
    log = MetricsLog(path)
    for step in (10, 20, 30, 40):
        log.write(step, {"loss": step / 10})
    with path.open("a") as stream:
        stream.write('{"step": 15, "lo')  # cut short by a kill
    log = MetricsLog(path, resume_step=20)
    assert read(path) == [{"step": 10, "loss": 1.0}, {"step": 20, "loss": 2.0}]
    log.write(30, {"relative_error": {"0.1": 0.5}})
    assert read(path)[2:] == [{"step": 30, "relative_error": {"0.1": 0.5}}]
    assert [each.name for each in tmp_path.iterdir()] == ["metrics.jsonl"]


def test_a_new_run_starts_an_empty_log(tmp_path):
    MetricsLog(tmp_path / "metrics.jsonl").write(10, {"loss": 1.0})
    MetricsLog(tmp_path / "metrics.jsonl")
    assert read(tmp_path / "metrics.jsonl") == []
