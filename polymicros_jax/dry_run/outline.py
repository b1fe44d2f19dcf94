"""What a config asks of a network: how often, on what grid. Nothing is drawn, trained or written."""

import dataclasses
import itertools
import math
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import jax
from ml_collections import ConfigDict

from polymicros_jax import experiment, generation
from polymicros_jax.data import masks
from polymicros_jax.data.sampling_plan import Plan, ingredients, share
from polymicros_jax.diffusion.sampler import evaluations
from polymicros_jax.diffusion.tiling import tile_count
from polymicros_jax.expansion import BASELINE_BUDGET
from polymicros_jax.experiment.chain import STAGE, stage_names
from polymicros_jax.experiment.inputs import representation, volume
from polymicros_jax.experiment.masking import check_filling
from polymicros_jax.experiment.training import check_training, continued, network, optimisation
from polymicros_jax.models import unet3d
from polymicros_jax.models.unet3d import UNet3DConfig
from polymicros_jax.reconstruct.filling import filling_evaluations
from polymicros_jax.reconstruct.growing import growing_budgets, growing_evaluations
from polymicros_jax.training import sheets
from polymicros_jax.training.metrics import VALIDATION_CHUNK, VALIDATION_SIGMAS
from polymicros_jax.training.prior import Prior, read_network
from polymicros_jax.training.record import DRAWS
from polymicros_jax.training.step import Optimisation

Shape = tuple[int, int, int]
Networks = Mapping[str, UNet3DConfig | None]
"""By the name a config gives a prior that an earlier stage makes: its network."""

FIELDS = 4
"""Fields that a draw keeps beside an evaluation: the start, the state, its noise, the first slope."""


@dataclasses.dataclass(frozen=True)
class Work:
    """Evaluations of one network on one grid.

    Attributes:
      what: in words, with numbers.
      prior: its name in the config, or "" for a fresh network.
      network: architecture; None where the prior is not there yet.
      shape: grid of one evaluation, multiples of the network's stride where that is known.
      calls: evaluations, with their gradients where ``kind`` says so.
      rows: fields in one evaluation.
      kind: "denoise", "guide" (an evaluation with the backward passes of guidance) or "train".
      padding: of the network.
      held: voxels of the fields that stay in memory beside the evaluation.
      matchings: most evaluations of the two-point objective, on grids of ``shape``.
      optimisation: of a training.
      note: what is missing, or taken in its place.
    """

    what: str
    prior: str
    network: UNet3DConfig | None
    shape: Shape
    calls: int
    rows: int = 1
    kind: str = "denoise"
    padding: str = "replicate"
    held: int = 0
    matchings: int = 0
    optimisation: Optimisation | None = None
    note: str = ""


def outline(config: ConfigDict) -> dict[str, list[Work]]:
    """Work by stage; a task that is no chain is one stage of its own name.

    Raises:
      ConfigError: keys that do not fit together.
      DataError: a volume or a prior that cannot be read. A prior that other runs are to make may be missing.
    """
    if config.task != "bootstrap":
        works = _WORK[config.task](config, {})
        # What the run would refuse shows here too, unless it is that an earlier run has not made its prior yet.
        if config.task in _BUILD and all(work.network is not None for work in works):
            _BUILD[config.task](config)
        return {config.task: works}
    made: dict[str, UNet3DConfig | None] = {}
    stages = {}
    for name in stage_names(config):
        stage = config.bootstrap[name]
        stages[f"{name} ({stage.task})"] = work = _WORK[stage.task](stage, made)
        if stage.task == "train":
            made[f"{STAGE}{name}/{stage.train.name}.safetensors"] = work[0].network
    return stages


def _prior(name: str, made: Networks) -> tuple[UNet3DConfig | None, str]:
    """Network of a prior and a remark, where it is missing."""
    if name in made:
        return made[name], ""
    if name.endswith(".safetensors") and not Path(name).exists():
        return None, f"{name} is not there yet"
    return read_network(name), ""


def _later(source: str, prior: str) -> Work:
    """Work on a volume that a stage of the chain is yet to write."""
    return Work(f"draws on {source}", prior, None, (0, 0, 0), 0, note=f"{source} is not there yet")


def _size(shape: Shape) -> str:
    return " x ".join(map(str, shape))


def _several(count: int, what: str) -> str:
    return f"{count:,} {what}" if count == 1 else f"{count:,} {what}s"


def _train(config: ConfigDict, made: Networks) -> list[Work]:
    section, kind = config.train, representation(config)
    check_training(section, kind)
    settings = optimisation(section.optimisation)
    own, note = network(section.network, kind.channels), ""
    architecture: UNet3DConfig | None = own
    # A prior of another representation lends its trunk and has no scores to compare with.
    compared = bool(section.previous or section.initial)
    if section.initial:
        architecture, note = _prior(section.initial, made)
        if architecture is None:
            architecture, note = own, f"as this config has it: {note}"
        else:
            compared = bool(section.previous) or architecture.channels == kind.channels
            architecture = dataclasses.replace(_continued(architecture, section), channels=kind.channels)
    patch: Shape = (section.patch,) * 3
    steps, rows, devices = settings.steps, settings.batch // settings.accumulate, jax.device_count()
    parts = f" in {settings.accumulate} parts" if settings.accumulate > 1 else ""
    shared = f", shared by {devices} devices" if devices > 1 else ""
    apart = section.devices_per_sample
    work = [
        Work(
            f"{_several(steps, 'step')} on {settings.batch:,} patches of {_size(patch)} voxels{parts}{shared}",
            section.initial,
            architecture,
            # The share of one device: every device of a sample has a slab of it.
            (patch[0] // apart, *patch[1:]),
            steps * settings.accumulate,
            math.ceil(rows * apart / devices),
            kind="train",
            optimisation=settings,
            note=note,
        )
    ]
    for number, each in enumerate(section.volumes):
        volume(each, f"train.volumes[{number}]")
    if section.validation:
        count = sum(_patches(volume(each, "train.validation").shape, section) for each in section.validation)
        # Every so many steps and at the last; once more for the card, and once for the weights compared with.
        times = math.ceil(steps / section.validate_every) + 1 + compared
        calls = times * len(VALIDATION_SIGMAS) * math.ceil(count / VALIDATION_CHUNK)
        what = f"{_several(times, 'validation')} on {count} patches at {len(VALIDATION_SIGMAS)} noise levels"
        work.append(Work(what, section.initial, architecture, patch, calls, min(count, VALIDATION_CHUNK)))
    times = steps // section.sheet_every if section.sheet_every else 0
    if times:
        each = evaluations(sheets.STEPS)
        what = f"{_several(times, 'sample sheet')} of {DRAWS} draws, {each} evaluations each"
        held = FIELDS * DRAWS * math.prod(patch)
        work.append(Work(what, section.initial, architecture, patch, times * each, DRAWS, held=held))
    return work


def _continued(architecture: UNet3DConfig, section: ConfigDict) -> UNet3DConfig:
    """Architecture of a training that goes on from this one, without its weights."""
    shapes = jax.eval_shape(partial(unet3d.init, config=architecture), jax.random.key(0))
    prior = Prior(shapes, architecture, 1.0, "")
    return jax.eval_shape(lambda prior: continued(prior, section, 0), prior).network


def _patches(shape: Shape, section: ConfigDict) -> int:
    """Number of patches that `data.patches.grid_of_patches` cuts from a volume."""
    return math.prod(len(range(0, n - section.patch + 1, section.validation_stride)) for n in shape)


def _generate(config: ConfigDict, made: Networks) -> list[Work]:
    section = config.generate
    plan = Plan(config.seed, section.covariances, len(section.priors), section.repeats)
    numbers = ("steps", "skip", "mixtures", "attempts")
    generation.check_plan(plan, shape=section.shape, **{name: section[name] for name in numbers})
    generation.bounds_of(section.bounds or None, config.representation)
    mine = share(plan.samples, section.worker, section.workers)
    counts = Counter(ingredients(plan, index).model for index in mine)
    shape = tuple(section.shape)
    each = evaluations(section.steps, section.skip)
    return [
        _draws(_several(counts[number], "sample"), name, made, shape, counts[number], each, "periodic")
        for number, name in enumerate(section.priors)
    ]


def _draws(
    draws: str,
    name: str,
    made: Networks,
    shape: Shape,
    count: int,
    each: int,
    padding: str,
    *,
    tile: int = 0,
    kept: int = 0,
) -> Work:
    """``count`` draws of ``each`` evaluations on a whole grid or in tiles, of which ``kept`` stay in memory."""
    architecture, note = _prior(name, made)
    stride = 1 if architecture is None else architecture.stride
    x, y, z = (n + -n % stride for n in shape)
    tiles, one = 1, (x, y, z)
    if tile:
        periodic = padding == "periodic"
        tiles = tile_count(one, tile, tile // 4, periodic=periodic, multiple=stride)
        one = (tile, tile, tile) if periodic else (min(tile, x), min(tile, y), min(tile, z))
    return Work(
        f"{draws} of {_size(shape)} voxels, {each} evaluations each" + (f" in {tiles} tiles" if tile else ""),
        name,
        architecture,
        one,
        count * each * tiles,
        padding=padding,
        held=(FIELDS + kept) * x * y * z,
        note=note,
    )


def _super_resolve(config: ConfigDict, made: Networks) -> list[Work]:
    section = config.super_resolve
    if section.volume.source.startswith(STAGE):
        return [_later(section.volume.source, section.prior)]
    whole = volume(section.volume, "super_resolve.volume")
    if section.mask.kind == "insert":
        whole = masks.insert_slices(whole, section.mask.axis, section.mask.every)
    return [_filling("super_resolve", section, made, whole.shape, 1, section.start, section.method, section.theta)]


def _filling(
    task: str, section: ConfigDict, made: Networks, shape: Shape, times: int, start: float, method: str, theta: float
) -> Work:
    architecture, _ = _prior(section.prior, made)
    stride = 1 if architecture is None else architecture.stride
    check_filling(section, task, stride, method=method, start=start, theta=theta)
    each, count = filling_evaluations(section.steps, start or None, method, theta), times * section.draws
    what = f"{_several(count, 'draw')} by {method!r}"
    work = _draws(what, section.prior, made, shape, count, each, "replicate", tile=section.tile, kept=section.draws)
    return dataclasses.replace(work, kind="guide") if method == "guide" else work


def _evaluate(config: ConfigDict, made: Networks) -> list[Work]:
    section = config.evaluate
    known = len(section.factors) + len(section.masks)
    settings = list(itertools.product(section.methods, section.starts, section.thetas))
    later = [one.source for one in section.volumes if one.source.startswith(STAGE)]
    there = [one for one in section.volumes if one.source not in later]
    shapes = [volume(one, "evaluate.volumes").shape for one in there]
    return [_later(source, section.prior) for source in later] + [
        _filling("evaluate", section, made, shape, known, start, method, theta)
        for shape in shapes
        for method, start, theta in settings
    ]


def _expand(config: ConfigDict, made: Networks) -> list[Work]:
    section, shape = config.expand, tuple(config.expand.shape)
    each = growing_evaluations(section.steps, section.start or None)
    what = _several(section.draws, "draw")
    work = _draws(what, section.prior, made, shape, section.draws, each, "periodic", kept=section.draws)
    budgets = growing_budgets(section.steps, section.start or None, section.until or None)
    works = [dataclasses.replace(work, matchings=section.draws * budgets * section.budget)]
    if section.baselines:
        free = _draws("baselines", section.prior, made, shape, 1, evaluations(section.steps), "periodic", kept=2)
        works.append(dataclasses.replace(free, matchings=BASELINE_BUDGET))
    return works


def _realism(config: ConfigDict, made: Networks) -> list[Work]:
    section, shape = config.realism, tuple(config.realism.shape)
    return [
        _draws(
            f"{_several(section.draws, 'draw')} at skip {skip}",
            section.prior,
            made,
            shape,
            section.draws,
            evaluations(section.steps, skip),
            "periodic",
            kept=section.draws,
        )
        for skip in sorted({*section.skips, section.skip})
    ]


def _diversity(config: ConfigDict, made: Networks) -> list[Work]:
    section = config.diversity
    side, count, each = section.side, section.count, evaluations(section.steps)
    return [
        _draws(_several(count, "draw"), name, made, (side, side, side), count, each, "periodic", kept=count)
        for name in section.priors
    ]


_BUILD: dict[str, Callable[[ConfigDict], object]] = {
    "super_resolve": experiment.reconstruction,
    "expand": experiment.expansion,
    "evaluate": experiment.evaluation,
    "realism": experiment.realism,
    "convert": experiment.conversion,
}

_WORK: dict[str, Callable[[ConfigDict, Networks], list[Work]]] = {
    "train": _train,
    "generate": _generate,
    "super_resolve": _super_resolve,
    "expand": _expand,
    "evaluate": _evaluate,
    "realism": _realism,
    "diversity": _diversity,
    "convert": lambda config, made: [],
}
