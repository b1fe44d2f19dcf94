"""The bootstrap engine: what a sample is depends on its number alone.

A little above 400 lines: the tests share one tiny design and the datasets made of it.
"""

import dataclasses
import itertools
import json
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import zarr

from polymicros_jax import config as defaults
from polymicros_jax import experiment
from polymicros_jax import generation as engine
from polymicros_jax.data import store as stores
from polymicros_jax.data.errors import DataError
from polymicros_jax.data.feasibility import Limits, Rejection, check
from polymicros_jax.data.sampling_plan import Plan, ingredients, share
from polymicros_jax.generation import Summary, generate, sample_key
from polymicros_jax.local_global import compiled_lgd, draw
from polymicros_jax.models import unet3d
from polymicros_jax.orientation import quaternion, representation
from polymicros_jax.orientation.grain_averaging import grain_averaged
from polymicros_jax.spectral.mosm import sample_params
from polymicros_jax.spectral.random_field import sample_mosm
from polymicros_jax.training.prior import Prior, save_prior

sys.path.insert(0, str(Path(__file__).parent))
from generation_worker import ARGUMENTS, SHAPE, random_prior, tiny_priors

SAMPLES = 12


def volumes(directory: Path) -> np.ndarray:
    return np.asarray(zarr.open_group(directory, mode="r")["fields"][:])


def records(directory: Path) -> list[dict[str, Any]]:
    store = stores.open(directory)
    return [stores.read_record(store, index) for index in stores.completed(store)]


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Summary, int]:
    """One worker, one go: folder, summary and number of traces."""
    directory = tmp_path_factory.mktemp("unbroken")
    compiled_lgd.clear_cache()
    summary = generate(directory, priors=tiny_priors(), **ARGUMENTS)
    return directory, summary, compiled_lgd._cache_size()


def test_ingredients_are_a_bijection() -> None:
    plan = Plan(seed=3, covariances=5, models=2, repeats=3)
    made = [ingredients(plan, index) for index in range(plan.samples)]
    assert {parts[1:] for parts in made} == set(itertools.product(range(5), range(2), range(3)))
    assert len(made) == plan.samples == 30
    assert [parts.seed for parts in made] == [(3, index) for index in range(30)]
    # The first G L samples show every covariance with every model, and more repeats only append.
    assert {parts[1:3] for parts in made[:10]} == set(itertools.product(range(5), range(2)))
    longer = plan._replace(repeats=4)
    assert [ingredients(longer, index) for index in range(30)] == made
    for index in (-1, 30):
        with pytest.raises(ValueError, match="accepted is 0 <= sample < 30"):
            ingredients(plan, index)


@pytest.mark.parametrize(("samples", "workers"), [(12, 1), (12, 5), (7, 7), (3, 8)])
def test_workers_share_every_sample_once(samples: int, workers: int) -> None:
    ranges = [share(samples, worker, workers) for worker in range(workers)]
    assert [index for part in ranges for index in part] == list(range(samples))
    assert max(map(len, ranges)) - min(map(len, ranges)) <= 1
    with pytest.raises(ValueError, match=f"worker {workers} of {workers}"):
        share(samples, workers, workers)


def test_keys_differ_by_sample_and_attempt() -> None:
    keys = {
        tuple(np.asarray(jax.random.key_data(sample_key((seed, index), attempt))).tolist())
        for seed, index, attempt in itertools.product(range(3), range(10), range(4))
    }
    assert len(keys) == 120


def test_a_draw_starts_from_the_field_of_the_covariance() -> None:
    # From the last level, 0.002, the denoiser passes a field on: c_skip is 1 to 2e-5, and a network that puts out zero
    # adds nothing. What is left of the diffusion is the noise at the start, 0.002 times white.
    prior = random_prior(1, 0.5, head=0.0)
    params = jax.tree.map(lambda leaf: leaf[0], sample_params(1, 1, bounds="gsh4", channels=9))
    mean = jnp.linspace(-0.1, 0.1, 9)
    key = jax.random.key(3)
    drawn = np.asarray(draw(key, prior, params, SHAPE, mean=mean, steps=25, skip=24))
    field = np.asarray(sample_mosm(jax.random.split(key)[0], params, SHAPE, mean=mean))
    assert np.abs(drawn - field).max() < 6 * 0.002
    assert np.std(drawn - field) == pytest.approx(0.002, rel=0.1)  # 4608 values: the standard error is 1 %
    np.testing.assert_allclose(drawn.mean((0, 1, 2)), mean, rtol=0, atol=1e-6)


def test_a_draw_makes_the_samples_of_the_dataset(unbroken: tuple[Path, Summary, int]) -> None:
    prior = tiny_priors()["coarse"]
    parameters = sample_params(5, 3, bounds="gsh4", channels=9)
    drawn = []
    for index in (2, 8):
        parts = ingredients(Plan(5, 3, 2, 2), index)
        params = jax.tree.map(lambda leaf, row=parts.covariance: leaf[row], parameters)
        drawn.append(np.asarray(draw(sample_key(parts.seed), prior, params, SHAPE, steps=6, skip=3)))
        np.testing.assert_array_equal(drawn[-1], volumes(unbroken[0])[index])
    # Samples 2 and 8 share covariance and model: only the key differs.
    assert np.abs(drawn[1] - drawn[0]).max() > 0.1
    # Same key and covariance, other weights.
    other = dataclasses.replace(random_prior(3, 0.5), sigma_data=prior.sigma_data)
    assert np.abs(np.asarray(draw(sample_key((5, 8)), other, params, SHAPE, steps=6, skip=3)) - drawn[1]).max() > 1e-2


def test_a_draw_jits() -> None:
    prior = random_prior(2, 0.5, head=0.01)  # moderate: what amplifies fields amplifies roundings
    params = jax.tree.map(lambda leaf: leaf[0], sample_params(1, 1, bounds="gsh4", channels=9))

    def made(key, prior, params):
        return draw(key, prior, params, SHAPE, steps=6, skip=3)

    plain = np.asarray(made(jax.random.key(4), prior, params))
    compiled = np.asarray(jax.jit(made)(jax.random.key(4), prior, params))
    # sigma_data is a constant of one program and an argument of the other: roundings of 6e-8. Sums of 27 x 16 products
    # in some ten layers of five evaluations, roundings adding up like their root, make 9e-6 of values up to 3 of it.
    np.testing.assert_allclose(compiled, plain, rtol=0, atol=1e-4)


def test_a_dataset_is_complete_and_says_what_it_is(unbroken: tuple[Path, Summary, int]) -> None:
    directory, summary, _ = unbroken
    assert (summary.samples, summary.made, summary.found, summary.rejected, summary.refused) == (
        SAMPLES,
        SAMPLES,
        0,
        0,
        0,
    )
    fields, made = volumes(directory), records(directory)
    assert fields.shape == (SAMPLES, *SHAPE, 9)
    assert np.isfinite(fields).all()
    assert len(np.unique(fields.reshape(SAMPLES, -1), axis=0)) == SAMPLES
    parameters = sample_params(5, 3, bounds="gsh4", channels=9)
    for index, record in enumerate(made):
        parts = ingredients(Plan(5, 3, 2, 2), index)
        assert record["local_model"] == ("coarse", "fine")[parts.model]
        assert (record["seed"], record["covariance"], record["repeat"]) == (5, parts.covariance, parts.repeat)
        np.testing.assert_array_equal(record["mosm"]["weight"], parameters.weight[parts.covariance])
        np.testing.assert_allclose(record["channels"]["std"], fields[index].std((0, 1, 2)), rtol=1e-5)
        # Means are restored after every step: left are the roundings of a mean over 512 values of about 1.
        np.testing.assert_allclose(fields[index].mean((0, 1, 2)), 0.0, atol=1e-6)
    assert stores.unreadable(stores.open(directory)) == {}


def test_local_models_share_one_trace(unbroken: tuple[Path, Summary, int]) -> None:
    assert unbroken[2] == 1


def test_the_card_is_written_from_the_data(unbroken: tuple[Path, Summary, int]) -> None:
    directory, *_ = unbroken
    content = json.loads((directory / "dataset.json").read_text())
    assert content["samples"] == {"planned": SAMPLES, "complete": SAMPLES, "refused": 0}
    assert content["by_local_model"] == {"coarse": 6, "fine": 6}
    assert content["settings"]["local_models"][1]["sigma_data"] == 0.35
    assert content["settings"]["design"]["accepted"] == 3
    np.testing.assert_allclose(content["channel_std"], volumes(directory).std((1, 2, 3)).mean(0), rtol=1e-5)
    median = np.median([record["checks"]["distance_mean"] for record in records(directory)])
    assert content["checks"]["distance_mean"]["median"] == pytest.approx(median)
    assert content["bytes"] == sum(
        path.stat().st_size for path in (directory / "fields" / "c").rglob("0") if path.is_file()
    )
    page = (directory / "README.md").read_text()
    assert "12 of 12 periodic volumes of 8 x 8 x 8 voxels" in page
    assert "| fine | not stated | 6 |" in page


def test_the_card_says_what_local_models_were_trained_on(tmp_path: Path) -> None:
    """In words, not as a Python list: one volume, and several, and a card that does not say."""
    told: dict[str, Any] = {"one": ["steel/train"], "two": ["steel/train", "in100/train, weight 2"], "none": None}
    for name, volumes in told.items():
        save_prior(tmp_path / f"{name}.safetensors", random_prior(1, 0.5), {"trained_on": volumes} if volumes else {})
    config = defaults.default("generate")
    config.generate.priors = tuple(str(tmp_path / f"{name}.safetensors") for name in told)
    sources = experiment.generation(config, tmp_path)["sources"]
    assert sources == {"one": "steel/train", "two": "steel/train; in100/train, weight 2", "none": "unknown"}


@pytest.mark.parametrize("workers", [2, 5])
def test_the_number_of_workers_does_not_matter(
    unbroken: tuple[Path, Summary, int], tmp_path: Path, workers: int
) -> None:
    directory, *_ = unbroken
    for worker in reversed(range(workers)):
        generate(tmp_path, priors=tiny_priors(), **ARGUMENTS, worker=worker, workers=workers)
    np.testing.assert_array_equal(volumes(tmp_path), volumes(directory))
    assert records(tmp_path) == records(directory)
    assert (tmp_path / "dataset.json").read_text() == (directory / "dataset.json").read_text()


def test_a_crash_is_resumed_and_loses_one_sample(
    unbroken: tuple[Path, Summary, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory, *_ = unbroken
    write = stores.write_sample
    calls = []

    def crash(store: stores.Store, index: int, *arguments: Any) -> None:
        if index == 4:
            raise KeyboardInterrupt
        calls.append(index)
        write(store, index, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(stores, "write_sample", crash)
        with pytest.raises(KeyboardInterrupt):
            generate(tmp_path, priors=tiny_priors(), **ARGUMENTS)
    assert calls == [0, 1, 2, 3]
    resumed = generate(tmp_path, priors=tiny_priors(), **ARGUMENTS)
    assert (resumed.found, resumed.made) == (4, 8)
    np.testing.assert_array_equal(volumes(tmp_path), volumes(directory))
    again = generate(tmp_path, priors=tiny_priors(), **ARGUMENTS)
    assert (again.found, again.made) == (SAMPLES, 0)


def test_a_broken_shard_is_made_again_bit_for_bit(unbroken: tuple[Path, Summary, int], tmp_path: Path) -> None:
    directory, *_ = unbroken
    generate(tmp_path, priors=tiny_priors(), **ARGUMENTS)
    store = stores.open(tmp_path)
    store.shard(6).write_bytes(store.shard(6).read_bytes()[:-40])
    (wrong,) = stores.unreadable(store)
    store.record(wrong).unlink()
    assert generate(tmp_path, priors=tiny_priors(), **ARGUMENTS).made == 1
    np.testing.assert_array_equal(volumes(tmp_path), volumes(directory))


def test_rejected_draws_are_recorded_and_replaced(
    unbroken: tuple[Path, Summary, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def positive(field: np.ndarray, name: str, limits: Limits) -> tuple[dict[str, float], Rejection | None]:
        value = float(field[0, 0, 0, 0])
        return {"first": value}, Rejection("first", f"{value} is negative") if value < 0 else None

    monkeypatch.setattr(engine, "check", positive)
    summary = generate(tmp_path, priors=tiny_priors(), **ARGUMENTS, attempts=30)
    first = volumes(unbroken[0])
    fields, made = volumes(tmp_path), records(tmp_path)
    assert (fields[:, 0, 0, 0, 0] >= 0).all()
    good = first[:, 0, 0, 0, 0] >= 0
    assert 0 < good.sum() < SAMPLES  # else the test has seen one case only
    np.testing.assert_array_equal(fields[good], first[good])
    for index, record in enumerate(made):
        assert [failure["attempt"] for failure in record["rejected"]] == list(range(record["attempt"]))
        assert (record["attempt"] == 0) == good[index]
        assert all(failure["checks"]["first"] < 0 for failure in record["rejected"])
    assert summary.rejected == sum(record["attempt"] for record in made) > 0
    card = json.loads((tmp_path / "dataset.json").read_text())
    assert card["rejected_because"] == {"first": summary.rejected}
    assert card["rejection_rate"] == pytest.approx(summary.rejected / (summary.rejected + SAMPLES))


def test_hopeless_samples_are_given_up_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = []

    def check_by_prior(field: np.ndarray, name: str, limits: Limits) -> tuple[dict[str, float], Rejection | None]:
        drawn.append(field)
        # The second model's volumes have another mean: its samples are all rejected.
        return {}, Rejection("mean", "shifted") if abs(field.mean()) > 0.1 else None

    monkeypatch.setattr(engine, "check", check_by_prior)
    arguments = {**ARGUMENTS, "means": {"fine": np.full(9, 0.25, np.float32)}, "attempts": 2}
    summary = generate(tmp_path, priors=tiny_priors(), **arguments)
    assert (summary.made, summary.refused, summary.rejected) == (6, 6, 12)
    assert len(drawn) == 6 + 2 * 6
    store = stores.open(tmp_path)
    assert stores.completed(store) == [0, 2, 4, 6, 8, 10]
    assert [failure["reason"] for failure in stores.read_refusal(store, 1)["rejected"]] == ["shifted"] * 2
    again = generate(tmp_path, priors=tiny_priors(), **arguments)
    assert (again.made, again.found, again.refused) == (0, 6, 6)
    assert len(drawn) == 18


def test_a_run_that_makes_nothing_stops(tmp_path: Path) -> None:
    arguments = {**ARGUMENTS, "limits": Limits(distance=0.01), "attempts": 1}
    with pytest.raises(RuntimeError, match=r"10 samples in a row .* above 0\.01"):
        generate(tmp_path, priors=tiny_priors(), **arguments)
    assert stores.refused(stores.open(tmp_path)) == list(range(10))


def test_volumes_have_the_means_asked_for_about_the_origin(unbroken: tuple[Path, Summary, int], tmp_path: Path) -> None:
    origin = np.linspace(-0.3, 0.3, 9, dtype=np.float32)
    arguments = {**ARGUMENTS, "origins": {"coarse": origin}, "means": {"fine": origin}}
    generate(tmp_path, priors=tiny_priors(), **arguments)
    fields, plain = volumes(tmp_path), volumes(unbroken[0])
    for field in fields:
        np.testing.assert_allclose(field.mean((0, 1, 2)), origin, rtol=0, atol=1e-6)
    # An origin moves the whole problem; a mean is another problem for the prior.
    np.testing.assert_allclose(fields[0] - origin, plain[0], rtol=0, atol=1e-6)
    assert np.abs(fields[1] - origin - plain[1]).max() > 1e-3


def test_guided_draws_are_crystals(tmp_path: Path) -> None:
    kind, origin = representation.get("gsh4"), np.full(9, 0.1, np.float32)
    prior = random_prior(1, 0.5, head=0.0)
    arguments = {**ARGUMENTS, "covariances": 1, "repeats": 1, "churn": None}
    distances = {}
    for crystals in (False, True):
        folder = tmp_path / str(crystals)
        generate(folder, priors={"nine": prior}, origins={"nine": origin}, crystals=crystals, **arguments)
        (field,) = volumes(folder)
        np.testing.assert_allclose(field.mean((0, 1, 2)), origin, atol=1e-5)
        distances[crystals] = np.asarray(kind.decode(field)[1])
    # A network that puts out nothing; the last estimate is crystals all the same, shifted to the mean asked for.
    assert distances[True].mean() < 0.5 * distances[False].mean()
    assert np.ptp(distances[True]) < 0.6


def test_averaged_volumes_are_those_of_the_stored_draws(tmp_path: Path) -> None:
    kind, prior = representation.get("gsh4"), {"nine": random_prior(1, 0.5, head=0.0)}
    arguments = {**ARGUMENTS, "covariances": 1, "repeats": 1, "churn": None, "crystals": True, "dtype": "float16"}
    generate(tmp_path / "drawn", priors=prior, **arguments)
    generate(tmp_path / "averaged", priors=prior, boundary_cost=0.6, **arguments)
    (draw_,), (volume,) = (volumes(tmp_path / name) for name in ("drawn", "averaged"))
    flat, labels = grain_averaged(draw_, kind, 0.6, periodic=True)
    assert 1 < labels.max() + 1 < labels.size  # noise: few voxels have an equal beside them
    np.testing.assert_array_equal(volume, flat.astype(np.float16))
    (record,), (before,) = (records(tmp_path / name) for name in ("averaged", "drawn"))
    assert record["checks"]["distance_mean"] == before["checks"]["distance_mean"] > 0.01  # of the draw
    assert record["checks"]["grains"] == (np.bincount(labels.ravel()) >= 8).sum()
    # One grain: not what was asked for, however it came about.
    strict = {**arguments, "attempts": 1, "limits": Limits(distance=100.0, grains=2)}
    summary = generate(tmp_path / "one", priors=prior, boundary_cost=1e6, **strict)
    assert (summary.made, summary.refused) == (0, 1)
    refusal = stores.read_refusal(stores.open(tmp_path / "one"), 0)
    assert refusal["rejected"][0]["reason"] == "1 grains, fewer than 2"


def test_a_draw_that_is_not_finite_stops_the_run(tmp_path: Path) -> None:
    priors = tiny_priors()
    broken = jax.tree.map(lambda leaf: leaf * jnp.nan, priors["fine"].params)
    priors["fine"] = dataclasses.replace(priors["fine"], params=broken)
    with pytest.raises(
        FloatingPointError, match=r"sample 1 \(seed 5, covariance 0, local model 'fine'\): .* attempt 0 "
    ):
        generate(tmp_path, priors=priors, **ARGUMENTS)
    assert stores.completed(stores.open(tmp_path)) == [0]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"seed": 6}, r"seed is 5, this run has 6"),
        ({"skip": 4}, r"settings\.skip is 3, this run has 4"),
        ({"limits": Limits(distance=1.5)}, r"settings\.limits\.distance is 100\.0, this run has 1\.5"),
        ({"priors": {"coarse": 1, "fine": 3}}, r"settings\.local_models\[1\]\.sha256"),
        ({"priors": {"coarse": 1, "other": 2}}, r"settings\.local_models\[1\]\.name is 'fine', this run has 'other'"),
    ],
)
def test_another_run_is_refused(unbroken: tuple[Path, Summary, int], change: dict[str, Any], named: str) -> None:
    directory, *_ = unbroken
    if "priors" in change:
        scales = (0.5, 0.35)
        weights = {
            name: random_prior(seed, scale)
            for (name, seed), scale in zip(change["priors"].items(), scales, strict=True)
        }
        change = {"priors": weights}
    with pytest.raises(DataError, match=named):
        generate(directory, **{"priors": tiny_priors(), **ARGUMENTS, **change})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"priors": {}}, "priors: found 0, accepted is at least 1"),
        ({"shape": (8, 9, 8)}, "each side must be a multiple of 2 for 'coarse'"),
        ({"skip": 0}, "accepted is 0 < skip < steps = 6"),
        ({"skip": 6}, "accepted is 0 < skip < steps = 6"),
        ({"attempts": 0}, "attempts: found 0"),
        ({"covariances": 0}, "covariances: found 0"),
        ({"mixtures": 0}, "mixtures: found 0"),
        ({"seed": -1}, "seed: found -1"),
        ({"seed": 2**32}, "seed: found 4294967296"),
        ({"shape": (8, 0, 8)}, "accepted are three sides"),
        ({"bounds": "unheard"}, "bounds: found 'unheard' for gsh4"),
        ({"means": {"nobody": np.zeros(9)}}, "means: found .'nobody'.*'coarse', 'fine'"),
        ({"origins": {"fine": np.zeros(3)}}, "origin and mean of 'fine'"),
        ({"worker": 2, "workers": 2}, "worker 2 of 2"),
        ({"dtype": "int8"}, "dtype: found 'int8'"),
        ({"boundary_cost": -1.0}, "boundary_cost: found -1.0 with gsh4"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        generate(tmp_path / "set", **{"priors": tiny_priors(), **ARGUMENTS, **change})
    assert not (tmp_path / "set").exists()


def test_feasibility_tells_crystals_from_gaussian_fields() -> None:
    kind = representation.get("gsh4")
    # Eight cubes of one orientation each; periodic, so each stays one grain.
    corners = quaternion.random(jax.random.key(0), (2, 2, 2))
    blocks = np.repeat(np.repeat(np.repeat(np.asarray(corners), 4, 0), 4, 1), 4, 2)
    crystal = np.asarray(kind.encode(blocks))
    measured, rejection = check(crystal, "gsh4", Limits(grains=8))
    assert rejection is None
    assert measured["grains"] == 8
    assert measured["distance_mean"] < 1e-3
    assert check(crystal, "gsh4", Limits(grains=9))[1] == Rejection("grains", "8 grains, fewer than 9")
    # Noise of 1/4 in each of 9 channels; the 3 directions along the manifold cost nothing: sqrt(6) / 4 / 1.5 = 0.41.
    noise = np.random.default_rng(0).standard_normal(crystal.shape, dtype=np.float32)
    noisy = check(crystal + 0.25 * noise, "gsh4", Limits(distance=1.0))[0]["distance_mean"]
    assert 0.33 < noisy < 0.41
    measured, rejection = check(0.5 * noise, "gsh4", Limits())
    assert rejection is not None
    assert rejection.check == "distance_mean"
    assert measured["distance_mean"] > 0.6


def test_a_draw_keeps_to_the_ball_that_holds_the_data(monkeypatch: pytest.MonkeyPatch) -> None:
    """A network that amplifies runs away where the prior has no radius, and cannot where it has one."""

    def amplifies(config: Any, params: Any, x: jax.Array, c_noise: jax.Array, *, padding: str) -> jax.Array:
        return x * (1.0 + 5.0 * jnp.linalg.norm(x, axis=-1, keepdims=True))

    monkeypatch.setattr(unet3d, "apply", amplifies)
    prior = Prior({}, unet3d.UNet3DConfig(channels=9), 0.5, "gsh4", sigma_skip=0.05)
    one = jax.tree.map(lambda leaf: leaf[0], sample_params(0, 1, channels=9, bounds="gsh4"))

    def largest(prior: Prior) -> float:
        field = draw(jax.random.key(0), prior, one, (8, 8, 8), steps=25, skip=12)
        return float(jnp.linalg.norm(field, axis=-1).max())

    assert not largest(prior) < 1e6
    # The channel means, restored after the last step, are themselves means of values in the ball.
    assert largest(prior.replace(radius=1.5)) <= 2 * 1.5
