"""Objects of the tasks that judge what the dataset engine makes."""

import dataclasses
import itertools

import numpy as np
from ml_collections import ConfigDict

from polymicros_jax.config import ConfigError
from polymicros_jax.data import repair, store
from polymicros_jax.data.patches import MemoryFields
from polymicros_jax.data.volume import OrientationVolume
from polymicros_jax.experiment.inputs import (
    check_shape,
    fields,
    invertible_prior,
    refuse_centred,
    representation,
    require_group,
    volume,
)
from polymicros_jax.orientation.representation import Representation
from polymicros_jax.spectral.mosm import PRESETS
from polymicros_jax.training.prior import Prior, load_prior


@dataclasses.dataclass(frozen=True)
class Realism:
    """What the realism task needs.

    Attributes:
      source: what the local model was trained on, without holes.
      draws: number of covariances, one draw each.
      bounds: of the covariances; None is the representation's preset.
      skip: of the dataset; ``skips`` are those of the curve.
      crystals: whether draws are guided to orientations and take no fresh noise, as `generate` does by default.
      boundary_cost: of the grain averaging that is shown beside the draws; 0 for none.
    """

    seed: int
    prior_name: str
    prior: Prior
    kind: Representation
    source_name: str
    source: OrientationVolume
    shape: tuple[int, int, int]
    draws: int
    mixtures: int
    bounds: str | None
    steps: int
    skip: int
    skips: tuple[int, ...]
    crystals: bool
    boundary_cost: float


def realism(config: ConfigDict) -> Realism:
    """Objects of a realism run.

    Raises:
      ConfigError: keys that do not fit together.
      DataError: a volume that cannot be read.
    """
    section, kind = config.realism, representation(config)
    prior = invertible_prior(config, section.prior)
    whole = repair.fill(volume(section.volume, "realism.volume"))
    require_group(whole, kind, "realism.volume")
    if section.draws < 1:
        raise ConfigError(f"realism.draws: found {section.draws}, accepted is at least 1")
    for key, skips in (("skip", (section.skip,)), ("skips", section.skips)):
        for skip in skips:
            if not 0 < skip < section.steps:
                raise ConfigError(f"realism.{key}: found {skip}, accepted is 0 < skip < steps = {section.steps}")
    if section.boundary_cost < 0:
        raise ConfigError(f"realism.boundary_cost: found {section.boundary_cost}, accepted is 0 or more")
    check_shape(section.shape, prior.network.stride, "realism.shape")
    if section.mixtures < 1:
        raise ConfigError(f"realism.mixtures: found {section.mixtures}, accepted is at least 1")
    if section.bounds and section.bounds not in PRESETS:
        raise ConfigError(f"realism.bounds: found {section.bounds!r}, accepted are {', '.join(sorted(PRESETS))}")
    return Realism(
        seed=config.seed,
        prior_name=section.prior,
        prior=prior,
        kind=kind,
        source_name=section.volume.source,
        source=whole,
        shape=tuple(section.shape),
        draws=section.draws,
        mixtures=section.mixtures,
        bounds=section.bounds or None,
        steps=section.steps,
        skip=section.skip,
        skips=tuple(section.skips),
        crystals=section.crystals,
        boundary_cost=section.boundary_cost,
    )


@dataclasses.dataclass(frozen=True)
class Diversity:
    """What the diversity task needs.

    Attributes:
      cubes: cubes of channels ``(n, side, side, side, h)`` of what exists already, by name of the set.
      voronoi_grains: numbers of grains in a cube, each a set of its own.
      priors: local models to draw from without any condition, by name.
      count: cubes a set at most.
    """

    seed: int
    kind: Representation
    side: int
    count: int
    cubes: dict[str, np.ndarray]
    voronoi_grains: tuple[int, ...]
    priors: dict[str, Prior]
    steps: int


def diversity(config: ConfigDict) -> Diversity:
    """Objects of a diversity run.

    Raises:
      ConfigError: keys that do not fit together, or nothing to compare.
      DataError: a volume or a dataset that cannot be read, or one smaller than a cube.
    """
    section, kind = config.diversity, representation(config)
    if section.count < 3:
        raise ConfigError(f"diversity.count: found {section.count}, accepted is at least 3")
    cubes = {}
    if section.dataset:
        cubes["dataset"] = _stored(section.dataset, section.side, section.count, kind)
    for name, sections in (("measured", section.measured), ("synthetic", section.synthetic)):
        if sections:
            sources = fields(sections, f"diversity.{name}", kind, centre=False)
            cubes[name] = _spread(sources, section.side, section.count)
    priors = {name: load_prior(name) for name in section.priors}
    for name, prior in priors.items():
        if prior.representation != kind.name:
            raise ConfigError(f"diversity.priors: {name} is a prior of {prior.representation}, not of {kind.name}")
        refuse_centred(name, "diversity.priors")
        if section.side % prior.network.stride:
            raise ConfigError(f"diversity.side: found {section.side}, {name} takes multiples of {prior.network.stride}")
    if len(cubes) + len(section.voronoi_grains) + len(priors) < 2:
        raise ConfigError("diversity: found fewer than two sets, accepted are at least two to compare")
    return Diversity(
        seed=config.seed,
        kind=kind,
        side=section.side,
        count=section.count,
        cubes=cubes,
        voronoi_grains=tuple(section.voronoi_grains),
        priors=priors,
        steps=section.steps,
    )


def _stored(folder: str, side: int, count: int, kind: Representation) -> np.ndarray:
    """One cube of each of the first complete samples: those of a plan that are most different."""
    opened = store.open(folder)
    complete = store.completed(opened)[:count]
    if len(complete) < 3:
        raise ConfigError(
            f"diversity.dataset: {folder} holds {len(complete)} complete samples, accepted are at least 3"
        )
    if opened.channels != kind.channels:
        raise ConfigError(
            f"diversity.dataset: {folder} has {opened.channels} channels, {kind.name} has {kind.channels}"
        )
    return np.stack([np.asarray(store.read_patch(opened, index, (0, 0, 0), side), np.float32) for index in complete])


def _spread(source: MemoryFields, side: int, count: int) -> np.ndarray:
    """Cubes of several volumes, half overlapping, as far apart in the list as the count allows."""
    corners = []
    for number, shape in enumerate(source.shapes):
        if min(shape) < side:
            raise ConfigError(f"diversity.side: found {side}, a volume is {shape}; accepted is at most its side")
        starts = [range(0, n - side + 1, max(1, side // 2)) for n in shape]
        corners += [(number, corner) for corner in itertools.product(*starts)]
    if len(corners) < 3:
        raise ConfigError(f"diversity.side: found {side}, of which the volumes hold {len(corners)} cubes; 3 are needed")
    chosen = np.unique(np.linspace(0, len(corners) - 1, min(count, len(corners))).round().astype(int))
    return np.stack([source.read_patch(number, (x, y, z), side) for number, (x, y, z) in (corners[i] for i in chosen)])
