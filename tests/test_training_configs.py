"""The compact priors' configs, stepped at a reduced size: what a training leaves behind, and one grown further."""

import json
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from PIL import Image

from polymicros_jax import config as defaults
from polymicros_jax import experiment, tasks
from polymicros_jax.config import ConfigError
from polymicros_jax.experiment.training import described
from polymicros_jax.training.model_card import error_curve, page
from polymicros_jax.training.prior import load_prior, read_card

sys.path.insert(0, str(Path(__file__).parent))
import config_files


def tiny(name: str, steps: int = 2):
    config = config_files.shrink_training(config_files.load(name), steps)
    train = config.train
    train.volumes = train.volumes[:1]
    # One patch for validation, of a grid that the full-size config validates on.
    train.validation_stride = 64
    train.initial = train.previous = ""  # the shrunk network is none that ships
    return config


@pytest.fixture(scope="module")
def gpu(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of configs/compact_gpu.py, bfloat16 and all."""
    folder = tmp_path_factory.mktemp("gpu")
    config = tiny("compact_gpu")
    config.train.sheet_every = 2
    config.train.validate_every = 1
    config.train.storage = "float32"
    config.train.network.blocks = 1
    tasks.run(config, folder)
    return folder


@pytest.mark.slow
def test_the_gpu_config_steps_on_a_cpu_and_leaves_a_trail(gpu: Path) -> None:
    prior = load_prior(gpu / "compact_gpu.safetensors")
    assert (prior.network.compute_dtype, prior.network.patch, prior.sigma_skip) == ("bfloat16", 1, None)
    training = read_card(gpu / "compact_gpu.safetensors")["training"]
    assert training["data_rms"] == pytest.approx(0.5, abs=1e-6)  # of every field of GSH-4
    for sigma, error in training["relative_error"].items():
        assert training["share_removed"][sigma] == pytest.approx(1 - (0.5 * error / float(sigma)) ** 2, abs=1e-4)
    assert [line["step"] for line in training["validation_curve"]] == [1, 2]
    assert training["validation_curve"][-1]["relative_error"] == training["relative_error"]
    assert training["seconds"] > 0
    logged = [json.loads(line) for line in (gpu / "metrics.jsonl").read_text().splitlines()]
    assert {key for line in logged for key in line} == {
        "step",
        "loss",
        "gradient_norm",
        "relative_error",
        "share_removed",
    }
    assert [path.name for path in (gpu / "sheets").iterdir()] == ["step_0000002.png"]
    with Image.open(gpu / "sheets" / "step_0000002.png") as image:
        assert np.asarray(image).std() > 10
    assert load_prior(gpu / "latest.safetensors").network == prior.network
    assert any(path.name.startswith("events.out.tfevents") for path in (gpu / "tensorboard").iterdir())


@pytest.mark.slow
def test_a_prior_continued_with_a_round_on_the_full_grid_says_so(gpu: Path, tmp_path: Path) -> None:
    config = tiny("compact_gsh4", steps=1)
    train = config.train
    train.initial = str(gpu / "compact_gpu.safetensors")
    train.network.detail = 8
    train.network.rounds = 1
    train.network.compute_dtype = "bfloat16"
    train.optimisation.learning_rate = 0.0
    train.storage = "float32"
    tasks.run(config, tmp_path)
    grown, before = (load_prior(path) for path in (tmp_path / "compact_gsh4.safetensors", train.initial))
    assert (grown.network.detail, before.network.detail) == (8, 0)
    assert list(grown.params["rounds"]) == ["0"]
    card = read_card(tmp_path / "compact_gsh4.safetensors")
    training = card["training"]
    assert (training["steps_before"], training["initial"], training["previous"]) == (2, train.initial, train.initial)
    # Nothing was learnt at rate zero, and a network of two steps puts out next to nothing: averaged or not, the same.
    for sigma, error in training["relative_error"].items():
        assert error == pytest.approx(training["previous_relative_error"][sigma], rel=2e-2)
    # The same patches and noise as in the first run, whose card has these errors too.
    first = read_card(train.initial)["training"]["relative_error"]
    assert training["previous_relative_error"] == pytest.approx(first, rel=1e-3)
    text = page("tiny", card, "curve.png", "")
    assert "before | noise removed (%) | removed before (%) |" in text
    assert f"| 0.4 | {training['relative_error']['0.4']:.3f} | {first['0.4']:.3f} |" in text
    labels = {line.get_label() for axes in error_curve(card).axes for line in axes.lines}
    assert {"these weights", f"{train.initial} before", "σ = 0.1"} <= labels
    config.train.initial = str(tmp_path / "compact_gsh4.safetensors")
    config.train.network.detail = 16
    with pytest.raises(
        ConfigError, match=r"train\.network of .*found 1 rounds of 16 channels .* the network has 1 of 8"
    ):
        experiment.training(config)


@pytest.mark.slow
def test_weights_to_compare_with_must_fit(gpu: Path) -> None:
    config = tiny("compact_rogsh3")
    config.train.previous = str(gpu / "compact_gpu.safetensors")
    with pytest.raises(ConfigError, match=r"train\.previous: .* takes gsh4 .* this training has rogsh3"):
        experiment.training(config)
    config.train.previous = ""
    objects = experiment.training(config)
    assert objects.previous is None
    # The scale of the data is measured: of one specimen, near that of uniform texture.
    assert objects.initial.sigma_data == pytest.approx(0.262, rel=0.2)
    assert objects.initial.sigma_skip == pytest.approx(0.1 * 0.262, rel=0.01)
    # Begun from a prior of the other representation: its trunk, new ends, and no scores to compare with.
    before = load_prior(gpu / "compact_gpu.safetensors")
    config.train.initial, config.train.network = str(gpu / "compact_gpu.safetensors"), defaults.network()
    begun = experiment.training(config)
    assert (begun.previous, begun.data["previous"], begun.data["initial"]) == (None, "", config.train.initial)
    assert (begun.initial.representation, begun.initial.network.channels) == ("rogsh3", 3)
    assert begun.initial.sigma_data == objects.initial.sigma_data
    for name, shared in (("middle_first", True), ("stem", False)):
        pairs = zip(jax.tree.leaves(begun.initial.params[name]), jax.tree.leaves(before.params[name]), strict=True)
        assert all(a.shape == b.shape and bool((a == b).all()) for a, b in pairs) == shared


def test_the_card_says_what_was_taken_of_a_volume() -> None:
    section = defaults.volume("in100/train")
    assert described(section) == "in100/train, weight 1"
    section.stop, section.every, section.weight = (36, 0, 8), 2, 0.5
    assert described(section) == "in100/train, voxels [0:36, 0:, 0:8], every 2 voxels, weight 0.5"
    section.spacing = 0.5
    assert "voxels [0:36, 0:, 0:8], 0.5 um voxels, every 2" in described(section)


def test_a_local_model_is_named_after_its_source() -> None:
    simulation = "simulated/grain_growth?side=64&grains=250&seed="
    for source, name, trained_on, held_out in (
        ("al1050", "local_al1050", "al1050/train", "al1050/evaluate"),
        ("simulated", "local_simulated", simulation + "0", simulation + "1"),
        ("scans/steel.h5oina", "local_steel", "scans/steel.h5oina", None),
    ):
        train = config_files.load("local_model", source).train
        assert (train.name, [volume.source for volume in train.volumes]) == (name, [trained_on])
        assert [volume.source for volume in train.validation] == ([held_out] if held_out else [])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"centre": True}, r"train\.centre: found True, compact_gsh4 was trained with False"),
        ({"network.rounds": 5}, r"train\.network\.rounds: found 5, compact_gsh4 keeps its 2"),
        ({"name": "results"}, r"train\.name: found 'results'"),
        ({"name": "a/b"}, r"train\.name: found 'a/b'"),
        ({"name": ""}, r"train\.name: found ''"),
        ({"weights": -1.0}, r"train\.volumes: weights \[-1\.0\]"),
        ({"weights": 0.0}, r"train\.volumes: found no weight above 0"),
    ],
)
def test_a_training_that_would_go_wrong_unseen_is_refused(change: dict[str, Any], message: str) -> None:
    config = defaults.default("train")
    config.train.initial, config.train.volumes = "compact_gsh4", (defaults.volume("al1050/train"),)
    for key, value in change.items():
        if key == "weights":
            config.train.volumes[0].weight = value
        else:
            config.train.update_from_flattened_dict({key: value})
    with pytest.raises(ConfigError, match=message):
        experiment.training(config)
