"""The dry run against real values: what it counts is what a run then does."""

import sys
from collections.abc import Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from polymicros_jax import config as defaults
from polymicros_jax import dry_run, experiment, generation, tasks
from polymicros_jax.config import ConfigError
from polymicros_jax.diffusion.sampler import evaluations
from polymicros_jax.dry_run.counting import cost, tree_bytes
from polymicros_jax.dry_run.outline import Work, outline
from polymicros_jax.expansion import BASELINE_BUDGET
from polymicros_jax.experiment.training import optimisation
from polymicros_jax.models import unet3d
from polymicros_jax.models.unet3d import UNet3DConfig
from polymicros_jax.reconstruct import expand, super_resolve
from polymicros_jax.reconstruct.growing import growing_budgets
from polymicros_jax.training.prior import Prior, save_prior
from polymicros_jax.training.step import create_state

sys.path.insert(0, str(Path(__file__).parent))
import config_files

TINY = UNet3DConfig(channels=9, width=8, multipliers=(1,), patch=2, blocks=1)


@pytest.fixture(scope="module")
def prior() -> Prior:
    return Prior(unet3d.init(jax.random.key(0), TINY), TINY, 0.5, "gsh4", 0.05)


@pytest.fixture(scope="module")
def saved(prior: Prior, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("prior") / "tiny.safetensors"
    save_prior(path, prior, {"trained_on": "nothing"})
    return str(path)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """One entry, the rows, for every time a network that answers zero was run; loops count as often as they go."""
    found: list[int] = []

    def counted(config: UNet3DConfig, params: object, x: jax.Array, level: object, *, padding: str = "") -> jax.Array:
        jax.debug.callback(lambda _: found.append(1 if x.ndim == 4 else len(x)), x.ravel()[0])
        return 0.0 * x

    monkeypatch.setattr(unet3d, "apply", counted)
    jax.clear_caches()
    yield found
    jax.clear_caches()


def _training(steps: int = 3) -> ConfigDict:
    config = config_files.shrink_training(defaults.default("train"), steps)
    section = defaults.volume("al1050/train")
    section.stop = (20, 20, 20)
    config.train.volumes = config.train.validation = (section,)
    config.train.network.update({"multipliers": (1,), "detail": 0})
    return config


def test_operations_of_products_convolutions_and_loops() -> None:
    a, b = jnp.ones((3, 5)), jnp.ones((5, 7))
    assert cost(jnp.matmul, a, b).operations == 2 * 3 * 5 * 7

    def loop(a: jax.Array) -> jax.Array:
        return jax.lax.fori_loop(0, 11, lambda _, x: jax.jit(jnp.matmul)(x, jnp.ones((5, 5))), a)

    assert cost(loop, a).operations == 11 * 2 * 3 * 5 * 5
    x, kernel = jnp.ones((2, 6, 6, 6, 4)), jnp.ones((3, 3, 3, 4, 8))

    def convolved(x: jax.Array, kernel: jax.Array) -> jax.Array:
        return jax.lax.conv_general_dilated(
            x, kernel, (1, 1, 1), "VALID", dimension_numbers=("NDHWC", "DHWIO", "NDHWC")
        )

    assert cost(convolved, x, kernel).operations == 2 * (2 * 4**3 * 8) * (27 * 4)


def test_memory_is_that_of_the_fullest_moment() -> None:
    small = jax.ShapeDtypeStruct((10,), jnp.float32)  # 40 bytes

    def program(x: jax.Array) -> jax.Array:
        wide = jnp.outer(x, x)  # 400 bytes, beside the 40 of x
        other = wide + 1.0  # 400 more: the fullest moment, after it `wide` is of no use
        return jnp.sum(other)

    assert cost(program, small).peak_bytes == 40 + 400 + 400
    # A gradient keeps what the way back needs; recomputed, it is not kept.
    many = jax.ShapeDtypeStruct((1000,), jnp.float32)

    def deep(x: jax.Array) -> jax.Array:
        for _ in range(8):
            x = jnp.sin(x)
        return jnp.sum(x)

    kept = cost(jax.grad(deep), many).peak_bytes
    recomputed = cost(jax.grad(jax.checkpoint(deep)), many).peak_bytes
    alone = cost(deep, many).peak_bytes
    assert kept >= 8 * 4000
    assert alone == 2 * 4000 + 4000
    assert kept >= recomputed


def test_parameters_and_state_are_those_of_the_run(tmp_path: Path) -> None:
    config = _training()
    (work, _) = outline(config)["train"]
    assert work.network is not None
    objects = experiment.training(config)
    params = objects.initial.params
    assert work.network == objects.initial.network
    assert unet3d.parameter_count(dry_run.parameters(work.network)) == unet3d.parameter_count(params)
    state = create_state(params, objects.optimisation)
    assert dry_run.state_bytes(work) == sum(leaf.nbytes for leaf in jax.tree.leaves(state))
    text = dry_run.describe(config)
    assert f"{unet3d.parameter_count(params):,} parameters, fresh" in text
    assert "3 steps on 2 patches of 16 x 16 x 16 voxels" in text
    assert "Nothing was run or written." in text


@pytest.mark.slow
def test_a_training_evaluates_as_often_as_said(calls: list[int], tmp_path: Path) -> None:
    config = _training()
    config.train.optimisation.accumulate = 2
    config.train.validate_every = 2
    works = outline(config)["train"]
    tasks.run(config, tmp_path / "run")
    jax.effects_barrier()
    assert len(calls) == sum(work.calls for work in works)
    assert {work.rows for work in works} == set(calls)


@pytest.mark.parametrize(
    ("change", "each"),
    [
        # Seven steps of two evaluations and one of one; each of the seven five times; a second run of the last three.
        ({"start": 0.0}, 15),
        ({"start": 0.0, "method": "replace"}, 71),
        ({"start": 0.0, "method": "renoise", "theta": 0.625}, 15 + 5),
        ({"start": 0.0, "tile": 16}, 15 * 3),
        ({"start": 0.5}, None),
        ({"start": 0.001}, 0),
    ],
)
def test_a_reconstruction_evaluates_as_often_as_said(
    change: dict[str, object], each: int | None, prior: Prior, saved: str, calls: list[int]
) -> None:
    config = defaults.default("super_resolve")
    section = config.super_resolve
    section.prior, section.steps, section.draws = saved, 8, 2
    section.volume.stop = (7, 8, 40)
    section.update(change)
    (work,) = outline(config)["super_resolve"]
    assert work.shape == ((8, 8, 16) if section.tile else (8, 8, 40))
    known = np.zeros((7, 8, 40), bool)
    known[:, ::4] = True
    super_resolve(
        jax.random.key(0),
        prior,
        np.zeros((7, 8, 40, 9), np.float32),
        known,
        draws=2,
        steps=8,
        start=section.start or None,
        method=section.method,
        theta=section.theta,
        tile=section.tile or None,
    )
    jax.effects_barrier()
    assert work.calls == len(calls)
    if each is not None:
        assert work.calls == 2 * each


@pytest.mark.slow
def test_an_expansion_evaluates_as_often_as_said(prior: Prior, saved: str, calls: list[int]) -> None:
    config = defaults.default("expand")
    section = config.expand
    section.prior, section.shape, section.steps, section.draws, section.budget = saved, (8, 8, 8), 4, 2, 7
    work, free = outline(config)["expand"]
    assert (free.calls, free.matchings) == (evaluations(4), BASELINE_BUDGET)
    values = np.asarray(jax.random.normal(jax.random.key(1), (8, 8, 9)))
    expand(jax.random.key(0), prior, {"z": values}, (8, 8, 8), draws=2, steps=4, budget=7)
    jax.effects_barrier()
    assert work.calls == len(calls) > 0
    assert work.matchings == 2 * 7 * growing_budgets(4, None, 1.0) > 0


def test_a_dataset_evaluates_as_often_as_said(saved: str, calls: list[int], tmp_path: Path) -> None:
    config = config_files.shrink_generation(defaults.default("generate"))
    section = config.generate
    section.priors, section.shape, section.covariances = (saved,), (8, 8, 8), 3
    (work,) = outline(config)["generate"]
    generation.generate(**experiment.generation(config, tmp_path))
    jax.effects_barrier()
    # Six levels from the third on: two steps of two evaluations and one of one, for three samples.
    assert work.calls == len(calls) == 3 * 5
    section.workers, section.worker = 3, 1
    assert outline(config)["generate"][0].calls == 5


def test_progress_tells_every_draw(prior: Prior) -> None:
    known = np.zeros((4, 4, 4), bool)
    known[0] = True
    told: list[int] = []
    field = np.zeros((4, 4, 4, 9), np.float32)
    super_resolve(jax.random.key(0), prior, field, known, draws=3, steps=2, progress=told.append)
    assert told == [1, 2, 3]


@pytest.mark.parametrize("name", config_files.NAMES)
def test_every_config_is_outlined_where_nothing_else_was_run(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    config = config_files.load(name)
    monkeypatch.chdir(tmp_path)
    stages = outline(config)
    assert all(work.calls > 0 for works in stages.values() for work in works)
    assert list(tmp_path.iterdir()) == []


def test_what_other_runs_make_may_be_missing_and_a_wrong_name_may_not() -> None:
    work = outline(config_files.load("finetune_128"))["train"][0]
    assert work.network is not None
    assert unet3d.parameter_count(dry_run.parameters(work.network)) / 1e6 == pytest.approx(259.0, abs=0.05)
    assert "runs/pretrain_32/pretrained.safetensors is not there yet" in work.note
    text = dry_run.describe(config_files.load("generate_128"))
    assert "12,000" not in text  # two local models, 6,000 samples each
    assert text.count("6,000 samples of 128 x 128 x 128 voxels, 25 evaluations each") == 2
    assert text.count("is not there yet: parameters, memory and time are known once it is") == 2
    config = defaults.default("super_resolve")
    config.super_resolve.method = "paint"
    with pytest.raises(ConfigError, match=r"paint.*accepted are project"):
        outline(config)


def test_a_chain_knows_the_networks_its_stages_make() -> None:
    stages = outline(config_files.load("bootstrap_cpu"))
    networks = {name: works[0].network for name, works in stages.items()}
    assert None not in networks.values()
    assert networks["2_generate (generate)"] == networks["1_local_in100 (train)"]
    assert len(stages) == len(config_files.load("bootstrap_cpu").bootstrap)


def test_a_batch_in_parts_lies_in_memory_whole() -> None:
    """All its patches are on the device while one part after the other is worked on."""

    def work(parts: int) -> Work:
        section = defaults.default("train").train.optimisation
        section.batch, section.accumulate = 2 * parts, parts
        return Work("", "", TINY, (16, 16, 16), parts, rows=2, kind="train", optimisation=optimisation(section))

    of_a_part = 2 * 16**3 * 9 * 4
    assert dry_run.memory(work(3)) - dry_run.memory(work(2)) == of_a_part
    assert dry_run.memory(work(2)) - dry_run.memory(work(1)) == of_a_part + tree_bytes(dry_run.parameters(TINY))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["train", "denoise"])
def test_memory_is_near_what_the_compiler_reports(kind: str) -> None:
    """Within a factor of two: the compiler fuses what the trace holds, and adds scratch. Measured: 1.00 and 0.86."""
    work = Work("", "", TINY, (16, 16, 16), 1, rows=2, kind=kind)
    shapes = dry_run.parameters(TINY)
    x = jax.ShapeDtypeStruct((2, 16, 16, 16, 9), jnp.float32)

    def denoise(params: object, x: jax.Array) -> jax.Array:
        return Prior(params, TINY, 1.0, "").denoiser()(x, jnp.ones(2))

    function = jax.value_and_grad(lambda params, x: jnp.mean(denoise(params, x) ** 2)) if kind == "train" else denoise
    found = jax.jit(function).lower(shapes, x).compile().memory_analysis()
    assert found is not None
    real = found.argument_size_in_bytes + found.temp_size_in_bytes + found.output_size_in_bytes
    print(f"{kind}: {dry_run.memory(work) / real:.2f} of what the compiler reports")
    assert 0.5 < dry_run.memory(work) / real < 2.0
    assert dry_run.state_bytes(work) == tree_bytes(shapes)


@pytest.mark.slow
@pytest.mark.parametrize("name", config_files.NAMES)
def test_every_config_is_described(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    config = config_files.load(name)
    monkeypatch.chdir(tmp_path)
    text = dry_run.describe(config)
    assert str(config).rstrip() in text
    assert ("parameters" in text) == (config.task != "convert")
    assert list(tmp_path.iterdir()) == []
