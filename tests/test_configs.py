"""Every config file builds, runs at a reduced size, and has no key that nothing reads."""

import ast
import dataclasses
import sys
from pathlib import Path

import jax
import pytest
from ml_collections import ConfigDict

from polymicros_jax import config as defaults
from polymicros_jax import experiment, tasks
from polymicros_jax.config import TASKS, ConfigError
from polymicros_jax.data import store
from polymicros_jax.experiment.training import network
from polymicros_jax.models import unet3d
from polymicros_jax.orientation import representation
from polymicros_jax.training.prior import load_prior, read_card

sys.path.insert(0, str(Path(__file__).parent))
import config_files


@pytest.mark.parametrize("name", config_files.NAMES)
def test_a_config_names_a_task_and_says_how_it_is_run(name: str) -> None:
    config = config_files.load(name)
    assert config.task in TASKS
    text = (config_files.ROOT / "configs" / f"{name}.py").read_text()
    for heading in ("What:", "Command:", "Cost:", "Expect:"):
        assert heading in text, f"{name} lacks {heading}"
    assert f"--config=configs/{name}.py" in text


def test_a_dataset_and_its_control_differ_in_the_patches_alone() -> None:
    mixed, generated, measured = (config_files.load("finetune_64", name) for name in ("mixed", "generated", "measured"))
    assert (bool(generated.train.volumes), measured.train.dataset) == (False, "")
    assert mixed.train.volumes == measured.train.volumes
    assert mixed.train.dataset == generated.train.dataset == "runs/generate_64/dataset"
    for config in (mixed, generated, measured):
        config.train.volumes, config.train.dataset = (), ""
    assert mixed == generated == measured
    with pytest.raises(ValueError, match="source: found 'simulated', accepted are mixed, generated, measured"):
        config_files.load("finetune_64", "simulated")


@pytest.mark.parametrize(
    ("name", "millions"),
    [
        ("local_32", 94.6),
        ("pretrain_32", 259.0),
        ("finetune_128", 259.0),
        ("compact_gsh4", 7.66),
        ("compact_rogsh3", 7.65),
        ("compact_gpu", 25.74),
    ],
)
def test_networks_have_the_size_their_config_says(name: str, millions: float) -> None:
    config = config_files.load(name)
    channels = representation.get(config.representation).channels
    architecture = network(config.train.network, channels)
    shapes = jax.eval_shape(lambda key: unet3d.init(key, architecture), jax.random.key(0))
    assert unet3d.parameter_count(shapes) / 1e6 == pytest.approx(millions, abs=0.05)
    # One evaluation at the full patch size, shapes only.
    field = jax.ShapeDtypeStruct((1, *(config.train.patch,) * 3, channels), jax.numpy.float32)
    level = jax.ShapeDtypeStruct((1,), jax.numpy.float32)
    out = jax.eval_shape(lambda p, x, s: unet3d.apply(architecture, p, x, s), shapes, field, level)
    assert (out.shape, out.dtype) == (field.shape, field.dtype)


@pytest.fixture(scope="module")
def paper_chain(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The paper's four configs, shrunk, each on what the one before wrote."""
    folder = tmp_path_factory.mktemp("chain")
    local = config_files.shrink_training(config_files.load("local_32"))
    tasks.run(local, folder / "local")
    generate = config_files.shrink_generation(config_files.load("generate_128"))
    generate.generate.priors = (str(folder / "local" / "local.safetensors"),)
    generate.generate.directory = ""
    tasks.run(generate, folder / "generate")
    pretrain = config_files.shrink_training(config_files.load("pretrain_32"))
    tasks.run(pretrain, folder / "pretrain")
    finetune = config_files.shrink_training(config_files.load("finetune_128"))
    finetune.train.initial = str(folder / "pretrain" / "pretrained.safetensors")
    finetune.train.dataset = str(folder / "generate" / "dataset")
    tasks.run(finetune, folder / "finetune")
    return {name: folder / name for name in ("local", "generate", "pretrain", "finetune")}


@pytest.mark.slow
def test_the_paper_s_configs_step_at_a_reduced_size(paper_chain: dict[str, Path]) -> None:
    assert len(store.completed(store.open(paper_chain["generate"] / "dataset"))) == 1
    before = load_prior(paper_chain["pretrain"] / "pretrained.safetensors")
    after = load_prior(paper_chain["finetune"] / "finetuned.safetensors")
    assert after.network.remat
    assert not before.network.remat
    moved = [
        float(abs(a - b).max())
        for a, b in zip(jax.tree.leaves(before.params), jax.tree.leaves(after.params), strict=True)
    ]
    # Adam's first steps change a weight by about the learning rate, 1e-5; two steps and an average of 0.9.
    assert 1e-7 < max(moved) < 1e-4
    assert read_card(paper_chain["local"] / "local.safetensors")["training"]["noise_law"] == {"mean": -1.2, "std": 1.2}


def _keys_read(source: str) -> set[tuple[str, str]]:
    """What functions read of the configs they are given: (task, key), the task "" where a section is handed in.

    A config is a parameter annotated as one, or as a sequence of them, and what is assigned from, or goes through, an
    attribute of a config.
    """
    found: set[tuple[str, str]] = set()
    for function in ast.walk(ast.parse(source)):
        if not isinstance(function, ast.FunctionDef):
            continue
        arguments = [*function.args.args, *function.args.kwonlyargs]
        roots = {a.arg: "" for a in arguments if a.annotation and "ConfigDict" in ast.unparse(a.annotation)}

        def task_of(node: ast.expr, roots: dict[str, str] = roots) -> str | None:
            while isinstance(node, ast.Attribute | ast.Subscript | ast.Call | ast.Starred):
                if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "config" and node.attr in TASKS:
                    return node.attr
                node = (
                    node.args[0]
                    if isinstance(node, ast.Call) and node.args
                    else getattr(node, "func", None) or node.value
                )
            return roots.get(node.id) if isinstance(node, ast.Name) else None

        for node in ast.walk(function):
            pairs: list[tuple[ast.expr, ast.expr]] = []
            if isinstance(node, ast.Assign):
                (target,) = node.targets
                both = isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple)
                pairs = list(zip(target.elts, node.value.elts, strict=True)) if both else [(target, node.value)]
            elif isinstance(node, ast.For | ast.comprehension):
                pairs = [(node.target, node.iter)]
            for target, value in pairs:
                task = task_of(value)
                if task is not None:
                    roots |= {name.id: task for name in ast.walk(target) if isinstance(name, ast.Name)}
        for node in ast.walk(function):
            if isinstance(node, ast.Attribute) and (task := task_of(node.value)) is not None:
                found.add((task, node.attr))
    return found


def _keys(config: ConfigDict) -> set[str]:
    names = set(config.keys())
    for value in config.values():
        for each in value if isinstance(value, tuple) else (value,):
            names |= _keys(each) if isinstance(each, ConfigDict) else set()
    return names


READ = set().union(*(_keys_read(path.read_text()) for path in Path(experiment.__file__).parent.glob("*.py")))


@pytest.mark.parametrize("task", TASKS)
def test_no_key_goes_unread(task: str) -> None:
    """By the builders of its own task, or by a function that they hand the section to."""
    config = defaults.default(task)
    architecture = {field.name for field in dataclasses.fields(unet3d.UNet3DConfig)}
    read = {key for whose, key in READ if whose in (task, "")}
    assert _keys(config) - read - architecture <= {"task", "x", "y", "z", task}


def test_a_key_that_is_not_read_is_found_out() -> None:
    code = """
def builder(config: ConfigDict, path: Path):
    section, kind = config.train, other(config)
    path.stem
    return [each.source for each in section.volumes], section.patch, kind.name
"""
    assert {("train", "volumes"), ("train", "source"), ("train", "patch")} <= _keys_read(code)
    assert not {key for _, key in _keys_read(code)} & {"stem"}


def test_unknown_keys_and_tasks_are_refused() -> None:
    config = defaults.default("train")
    with pytest.raises(AttributeError, match="learning_rat"):
        config.train.optimisation.learning_rat = 1.0
    with pytest.raises(ConfigError, match="paint"):
        defaults.default("paint")
