"""Scores of priors whose errors are known, and the log."""

import io
import json
import struct

import flax.struct
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from tensorboardX.proto.event_pb2 import Event, SessionLog

from polymicros_jax.training import metrics
from polymicros_jax.training.metrics import (
    VALIDATION_SIGMAS,
    EventLog,
    MetricsLog,
    relative_errors,
    root_mean_square,
    share_removed,
    validations,
)
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
    assert validations(path) == read(path)[2:]


def test_a_new_run_starts_an_empty_log(tmp_path):
    MetricsLog(tmp_path / "metrics.jsonl").write(10, {"loss": 1.0})
    MetricsLog(tmp_path / "metrics.jsonl")
    assert read(tmp_path / "metrics.jsonl") == []


def test_the_share_of_noise_removed(linear_network):
    scale = root_mean_square(PATCHES)
    assert scale == pytest.approx(RMS, rel=1e-6)
    # Doing nothing removes none; the bound is that of the errors, doubled by the square.
    nothing = share_removed(relative_errors(fixed(linear_network, 1.0), PATCHES), scale)
    np.testing.assert_allclose(list(nothing.values()), 0.0, atol=2 * BOUND)
    # Answering zero leaves the data: 1 - (d / s)^2, which is negative below the scale of the data.
    zero = share_removed(relative_errors(fixed(linear_network, 0.0), PATCHES), scale)
    expected = 1 - (RMS / np.array(VALIDATION_SIGMAS)) ** 2
    np.testing.assert_allclose(list(zero.values()), expected, rtol=1e-4)
    assert zero["0.1"] < -10
    # Errors known without noise: a quarter of the variance is left.
    assert share_removed({"0.4": 0.4}, 0.5) == {"0.4": pytest.approx(0.75)}


def crc32c(content):
    """Castagnoli's checksum, bit by bit."""
    register = 0xFFFFFFFF
    for byte in content:
        register ^= byte
        for _ in range(8):
            register = (register >> 1) ^ (0x82F63B78 if register & 1 else 0)
    return register ^ 0xFFFFFFFF


def masked(content):
    value = crc32c(content)
    return ((value >> 15 | value << 17) + 0xA282EAD8) & 0xFFFFFFFF


def events(folder):
    """Events of the files of a folder, oldest first, read by the published framing of TensorFlow's records."""
    found = []
    for path in sorted(folder.iterdir()):
        content, place = path.read_bytes(), 0
        while place < len(content):
            header = content[place : place + 8]
            (length,) = struct.unpack("<Q", header)
            body = content[place + 12 : place + 12 + length]
            assert struct.unpack("<I", content[place + 8 : place + 12])[0] == masked(header)
            assert struct.unpack("<I", content[place + 12 + length : place + 16 + length])[0] == masked(body)
            found.append(Event.FromString(body))
            place += 16 + length
    return found


def test_event_files_hold_what_was_written(tmp_path):
    log = EventLog(tmp_path)
    log.write(10, {"loss": 1.5, "relative_error": {"0.1": 0.25, "6.4": 0.75}})
    log.write(20, {"loss": np.float32(0.5)})
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 4), dtype=np.uint8)
    log.picture(20, "sheet", pixels)
    log.close()
    found = events(tmp_path)
    assert found[0].file_version == "brain.Event:2"
    scalars = [(e.step, v.tag, v.simple_value) for e in found for v in e.summary.value if not v.HasField("image")]
    assert scalars == [
        (10, "loss", 1.5),
        (10, "relative_error/0.1", 0.25),
        (10, "relative_error/6.4", 0.75),
        (20, "loss", 0.5),
    ]
    (picture,) = [v for e in found for v in e.summary.value if v.HasField("image")]
    assert (picture.tag, picture.image.height, picture.image.width) == ("sheet", 5, 7)
    with Image.open(io.BytesIO(picture.image.encoded_image_string)) as image:
        np.testing.assert_array_equal(np.asarray(image)[..., :3], pixels[..., :3])


def test_a_resumed_run_marks_where_it_begins(tmp_path):
    first = EventLog(tmp_path)
    first.write(10, {"loss": 1.0})
    first.close()
    assert not [e for e in events(tmp_path) if e.session_log.status == SessionLog.START]
    second = EventLog(tmp_path, resume_step=5)
    second.write(10, {"loss": 2.0})
    second.close()
    starts = [e.step for e in events(tmp_path) if e.session_log.status == SessionLog.START]
    # TensorBoard drops events of earlier files from this step on: 5 was kept by the checkpoint, 6 will be repeated.
    assert starts == [6]
