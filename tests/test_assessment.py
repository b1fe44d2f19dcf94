"""The tasks that judge the dataset engine: a perfect and a useless local model, a rich and a poor dataset."""

import dataclasses
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from polymicros_jax import config as defaults
from polymicros_jax import dataset_diversity, experiment, tasks
from polymicros_jax.config import Config, ConfigError
from polymicros_jax.data import store
from polymicros_jax.generation import generate
from polymicros_jax.orientation import representation
from polymicros_jax.spectral import diversity
from polymicros_jax.training.prior import save_prior

sys.path.insert(0, str(Path(__file__).parent))
import generation_worker as tiny


@pytest.fixture(scope="module")
def prior(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A local model that changes nothing: it puts out zero, so a draw is the field it starts from, scaled."""
    path = tmp_path_factory.mktemp("prior") / "idle.safetensors"
    save_prior(path, tiny.random_prior(1, 0.5, head=0.0), {"trained_on": "nothing"})
    return str(path)


def realism_config(prior: str) -> Config:
    config = defaults.default("realism")
    config.realism.prior = prior
    config.realism.volume = defaults.volume("simulated/voronoi?side=16&grains=20")
    config.realism.shape = (12, 12, 12)
    config.realism.draws = 2
    config.realism.steps = 8
    config.realism.skip = 7
    config.realism.skips = (4,)
    config.realism.crystals, config.realism.boundary_cost = False, 0.0  # draws as the model leaves them
    return config


@pytest.mark.slow
def test_adherence_is_that_of_the_field_where_the_model_does_nothing(prior: str, tmp_path: Path) -> None:
    results = tasks.run(realism_config(prior), tmp_path)
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    late, early = metrics["by_skip"]["7"], metrics["by_skip"]["4"]
    # From the last level, 0.002, the draw is the field it starts from: errors of 0.002 against a deviation of 0.5.
    assert late["start"] < 0.01
    assert late["requested"] == pytest.approx(metrics["requested_floor"], abs=0.01)
    # From a higher level a model that puts out zero shrinks the field towards nothing.
    assert early["start"] > 0.1
    assert early["sigma"] > late["sigma"]
    rows = metrics["distributions"]
    assert set(rows) == {"first half against second", "Gaussian fields", "draws, skip 4", "draws, skip 7"}
    # The source is a crystal with sharp boundaries, the Gaussian field is not.
    assert rows["Gaussian fields"]["sharpness_median"] < 0.7
    assert rows["Gaussian fields"]["distance"] > 0.5
    assert rows["Gaussian fields"]["sharpness_distance"] > rows["first half against second"]["sharpness_distance"]
    page = (tmp_path / "report.html").read_text()
    assert page.count("<img") >= 6
    assert "Adherence to the statistics asked for" in page
    assert [path.name for path in results.files] == ["report.html", "metrics.json"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"skips": (8,)}, "realism.skips: found 8"),
        ({"skip": 0}, "realism.skip: found 0"),
        ({"shape": (12, 12, 11)}, "accepted are three multiples of 2"),
        ({"draws": 0}, "at least 1"),
        ({"mixtures": 0}, "realism.mixtures: found 0"),
        ({"bounds": "foo"}, "realism.bounds: found 'foo'"),
    ],
)
def test_a_realism_config_that_does_not_fit_is_refused(prior: str, change: dict[str, object], message: str) -> None:
    config = realism_config(prior)
    config.realism.update(change)
    with pytest.raises(ConfigError, match=message):
        experiment.realism(config)


@pytest.mark.slow
def test_a_dataset_is_placed_beside_the_others(prior: str, tmp_path: Path) -> None:
    generate(tmp_path / "set", priors=tiny.tiny_priors(), **tiny.ARGUMENTS)
    config = defaults.default("diversity")
    section = config.diversity
    section.dataset = str(tmp_path / "set")
    section.side, section.count, section.steps = 8, 6, 4
    section.measured = (defaults.volume("simulated/voronoi?side=16&grains=20"),)
    section.voronoi_grains = (4,)
    section.priors = (prior,)
    tasks.run(config, tmp_path / "run")
    sets = json.loads((tmp_path / "run" / "metrics.json").read_text())["sets"]
    assert list(sets) == ["dataset", "measured", "Voronoi, 4 grains", f"unconditioned draws of {prior}"]
    for row in sets.values():
        assert row["cubes"] == 6
        assert 1 <= row["effective_rank"] <= 5 + 1e-3  # six points span five directions about their mean
    # A model that puts out zero makes nothing: no variance, whatever the rank.
    assert sets[f"unconditioned draws of {prior}"]["total_variance"] < 1e-3 * sets["dataset"]["total_variance"]
    assert (tmp_path / "run" / "report.html").read_text().count("<img") == 2


def test_fewer_cubes_of_a_set_are_taken_from_all_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Six cubes of one specimen and six of another, beside a set of four: two of each are shown, not four of one."""
    two = np.concatenate([np.full((6, 4, 4, 4, 9), value, np.float32) for value in (0.0, 1.0)])
    noise = np.random.default_rng(0).normal(size=(4, 4, 4, 4, 9)).astype(np.float32)
    objects = experiment.Diversity(
        0, representation.get("gsh4"), 4, 12, {"two specimens": two, "noise": noise}, (), {}, 4
    )
    seen = []
    statistics = dataset_diversity.statistics
    monkeypatch.setattr(dataset_diversity, "statistics", lambda cubes: seen.append(cubes) or statistics(cubes))
    for name in ("environment", "config"):
        (tmp_path / f"{name}.json").write_text("{}")
    dataset_diversity.run(objects, tmp_path)
    assert [each.mean(axis=(1, 2, 3, 4)).round().astype(int).tolist() for each in seen[:1]] == [[0, 0, 1, 1]]


def test_a_rank_tells_a_rich_set_from_a_poor_one() -> None:
    objects = experiment.Diversity(0, representation.get("gsh4"), 8, 8, {}, (4,), {}, 4)
    rich = dataset_diversity.voronoi_cubes(objects, 4)
    assert rich.shape == (8, 8, 8, 8, 9)
    np.testing.assert_array_equal(rich, dataset_diversity.voronoi_cubes(objects, 4))
    assert (rich != dataset_diversity.voronoi_cubes(dataclasses.replace(objects, seed=1), 4)).any()
    # Two volumes, four times each: one direction.
    poor = np.concatenate([rich[:2]] * 4)
    ranks = {}
    for name, cubes in (("rich", rich), ("poor", poor)):
        vectors = dataset_diversity.statistics(cubes)
        assert vectors.shape == (8, 3 * 8 * 8 * 81)
        state = diversity.update(diversity.empty(vectors.shape[1], 8), vectors)
        ranks[name] = float(diversity.effective_rank(state))
    assert ranks["poor"] == pytest.approx(1.0, abs=0.01)
    assert ranks["rich"] > 4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"count": 2}, "at least 3"),
        ({"side": 7}, "takes multiples of 2"),
        ({"voronoi_grains": ()}, "fewer than two sets"),
        ({"measured": "al1050", "side": 128}, "accepted is at most its side"),
        ({"measured": "simulated/voronoi?side=16&grains=20", "side": 16}, "hold 1 cubes; 3 are needed"),
    ],
)
def test_a_diversity_config_that_does_not_fit_is_refused(prior: str, change: dict[str, object], message: str) -> None:
    config = defaults.default("diversity")
    config.diversity.priors = (prior,)
    if "measured" in change:
        change = {**change, "measured": (defaults.volume(str(change["measured"])),)}
    for key, value in change.items():
        config.diversity[key] = value
    with pytest.raises(ConfigError, match=message):
        experiment.diversity(config)


def test_a_dataset_too_small_to_have_a_rank_is_refused(prior: str, tmp_path: Path) -> None:
    made = store.create(tmp_path, samples=3, shape=(8, 8, 8), channels=9, settings={})
    store.write_sample(made, 0, np.zeros((8, 8, 8, 9), np.float32), {})
    config = defaults.default("diversity")
    config.diversity.dataset, config.diversity.side, config.diversity.priors = str(tmp_path), 8, (prior,)
    with pytest.raises(ConfigError, match="holds 1 complete samples"):
        experiment.diversity(config)
