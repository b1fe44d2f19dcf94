"""From a config to the objects of a run. Nothing below this module sees a config.

Everything that can be wrong with a config is found here, before any long work starts.
"""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from polymicros_jax.config import ConfigError
from polymicros_jax.data import ebsd, export, masks, repair, samples, store
from polymicros_jax.data.feasibility import Limits
from polymicros_jax.data.patches import (
    CubeSymmetries,
    FieldSource,
    MemoryFields,
    check_sizes,
    cube_symmetries,
    grid_of_patches,
)
from polymicros_jax.data.stored_fields import StoredFields
from polymicros_jax.data.volume import OrientationVolume
from polymicros_jax.diffusion.loss import NoiseLaw
from polymicros_jax.models import unet3d
from polymicros_jax.orientation import representation as representations
from polymicros_jax.orientation.representation import Representation
from polymicros_jax.training.augment import texture_rotation
from polymicros_jax.training.ema import EmaLaw
from polymicros_jax.training.prior import Prior, load_prior, read_card
from polymicros_jax.training.step import Optimisation
from polymicros_jax.types import Key


def representation(config: ConfigDict) -> Representation:
    """The representation the config names."""
    if config.representation not in representations.names():
        raise ConfigError(
            f"representation: found {config.representation!r}, accepted are {', '.join(representations.names())}"
        )
    return representations.get(config.representation)


def volume(section: ConfigDict, name: str) -> OrientationVolume:
    """Reads, cuts and thins the volume of a section made by `config.volume`; ``name`` is the section's, for errors."""
    source = section.source
    if not source:
        raise ConfigError(f"{name}.source: found nothing, accepted is a bundled sample or the path of a file")
    sample, _, split = source.partition("/")
    if sample in samples.names() and not Path(source).exists():
        whole = samples.load(sample, split or "all")
    else:
        whole = ebsd.read(source, section.frame or None, slice_spacing=section.slice_spacing or None)
    stop = tuple(b or n for b, n in zip(section.stop, whole.shape, strict=True))
    if section.start != (0, 0, 0) or stop != whole.shape:
        whole = whole.crop(section.start, stop)
    if section.spacing > 0.0:
        whole = whole.resample(section.spacing)
    if section.every > 1:
        whole = whole.resample([h * section.every for h in whole.spacing])
    return whole


def fields(sections: Sequence[ConfigDict], name: str, kind: Representation, centre: bool) -> MemoryFields:
    """Volumes as channel fields. Unobserved voxels take the nearest observed orientation: a patch has no holes."""
    encoded = []
    for number, section in enumerate(sections):
        whole = repair.fill(volume(section, f"{name}[{number}]"))
        require_group(whole, kind, f"{name}[{number}]")
        field = np.asarray(kind.encode(whole.quaternions))
        encoded.append(field - field.mean((0, 1, 2), keepdims=True) if centre else field)
    return MemoryFields(tuple(encoded))


@dataclasses.dataclass(frozen=True)
class Training:
    """What `train.train` needs, and what the card of the result says of its data."""

    seed: int
    initial: Prior
    source: FieldSource
    optimisation: Optimisation
    patch: int
    symmetries: CubeSymmetries | None
    weights: tuple[float, ...] | None
    rotate: Callable[[Key, jax.Array], jax.Array] | None
    validation: np.ndarray | None
    validate_every: int
    checkpoint_every: int
    mesh: Mesh | None
    name: str
    storage: str
    data: dict[str, Any]


def optimisation(section: ConfigDict) -> Optimisation:
    """Hyper-parameters of a section made by `config.optimisation`."""
    return Optimisation(
        steps=section.steps,
        batch=section.batch,
        accumulate=section.accumulate,
        learning_rate=section.learning_rate,
        warmup=section.warmup,
        final_rate=section.final_rate,
        weight_decay=section.weight_decay,
        clip=section.clip,
        beta2=section.beta2,
        noise=NoiseLaw(section.noise_mean, section.noise_std),
        ema=EmaLaw(section.ema_decay, section.ema_power),
    )


def network(section: ConfigDict, channels: int) -> unet3d.UNet3DConfig:
    """Architecture of a section made by `config.network`."""
    return unet3d.UNet3DConfig(channels=channels, **{key: section[key] for key in section})


def training(config: ConfigDict) -> Training:
    """Objects of a training.

    Raises:
      ConfigError: keys that do not fit together.
      DataError: a volume that cannot be read or is smaller than a patch.
    """
    section, kind = config.train, representation(config)
    if bool(section.volumes) == bool(section.dataset):
        raise ConfigError("train: give either volumes or a dataset to train on")
    if (section.symmetries or section.texture) and kind.sample_rotation is None:
        raise ConfigError(f"train: {kind.name} cannot be rotated; set train.symmetries and train.texture to False")
    source: FieldSource
    weights: tuple[float, ...] | None
    if section.volumes:
        source = fields(section.volumes, "train.volumes", kind, section.centre)
        weights = tuple(each.weight for each in section.volumes)
    else:
        source, weights = _dataset(section.dataset), None
    check_sizes(source, section.patch)
    if section.initial:
        initial = load_prior(section.initial)
        if initial.representation != kind.name:
            raise ConfigError(f"train.initial: {section.initial} is a prior of {initial.representation}")
    else:
        architecture = network(section.network, kind.channels)
        scale = float(np.sqrt(np.mean([np.mean(np.square(read)) for read in _whole_fields(source)])))
        initial = Prior(
            params=unet3d.init(jax.random.key(config.seed), architecture),
            network=architecture,
            sigma_data=scale,
            representation=kind.name,
        )
    if section.patch % initial.network.stride:
        raise ConfigError(f"train.patch: found {section.patch}, accepted is a multiple of {initial.network.stride}")
    validation = None
    if section.validation:
        held_out = fields(section.validation, "train.validation", kind, section.centre)
        check_sizes(held_out, section.patch)
        validation = grid_of_patches(held_out, size=section.patch, stride=section.validation_stride)
    devices = jax.device_count()
    settings = optimisation(section.optimisation)
    if (settings.batch // settings.accumulate) % devices:
        raise ConfigError(
            f"train.optimisation: {settings.batch} patches in {settings.accumulate} parts do not divide among "
            f"{devices} devices"
        )
    return Training(
        seed=config.seed,
        initial=initial,
        source=source,
        optimisation=settings,
        patch=section.patch,
        symmetries=cube_symmetries(kind.sample_rotation) if section.symmetries and kind.sample_rotation else None,
        weights=weights,
        rotate=texture_rotation(kind) if section.texture else None,
        validation=validation,
        validate_every=section.validate_every,
        checkpoint_every=section.checkpoint_every,
        mesh=jax.make_mesh((devices,), ("data",)) if devices > 1 else None,
        name=section.name,
        storage=section.storage,
        data={
            "trained_on": [_described(each) for each in section.volumes] or section.dataset,
            "validated_on": [_described(each) for each in section.validation],
            "initial": section.initial or "random",
            "centred": section.centre,
            "augmentation": [name for name in ("symmetries", "texture") if section[name]],
        },
    )


def _dataset(folder: str) -> StoredFields:
    opened = store.open(folder)
    complete = tuple(store.completed(opened))
    if not complete:
        raise ConfigError(f"train.dataset: {folder} holds no complete sample")
    return StoredFields(opened, complete)


def _whole_fields(source: FieldSource) -> list[np.ndarray]:
    """Fields to measure the scale on: all those in memory, at most eight of a dataset."""
    if isinstance(source, MemoryFields):
        return list(source.fields)
    return [source.read_patch(index, (0, 0, 0), min(shape)) for index, shape in enumerate(source.shapes[:8])]


def _described(section: ConfigDict) -> str:
    thinned = f", every {section.every} voxels" if section.every > 1 else ""
    return f"{section.source}{thinned}, weight {section.weight:g}"


def generation(config: ConfigDict) -> dict[str, Any]:
    """Keyword arguments of `generate.generate`, all but the folder."""
    section = config.generate
    if not section.priors:
        raise ConfigError("generate.priors: found none, accepted are names or paths of priors")
    priors = {Path(each).stem: load_prior(each) for each in section.priors}
    if len(priors) != len(section.priors):
        raise ConfigError(f"generate.priors: found {section.priors}, accepted are files of different names")
    cards = {Path(each).stem: read_card(each) for each in section.priors}
    return {
        "priors": priors,
        "sources": {name: str(card["training"].get("trained_on", "unknown")) for name, card in cards.items()},
        "shape": tuple(section.shape),
        "covariances": section.covariances,
        "repeats": section.repeats,
        "seed": config.seed,
        "steps": section.steps,
        "skip": section.skip,
        "mixtures": section.mixtures,
        "bounds": section.bounds or None,
        "limits": Limits(distance=section.largest_mean_distance, grains=section.fewest_grains),
        "attempts": section.attempts,
        "dtype": section.dtype,
        "worker": section.worker,
        "workers": section.workers,
    }


def invertible_prior(config: ConfigDict, name: str) -> Prior:
    """A prior of the config's representation, which must be one that can be turned back into orientations.

    Raises:
      ConfigError: the prior is of another representation, or that one is not invertible.
    """
    kind = representation(config)
    if not kind.invertible:
        raise ConfigError(f"representation: {kind.name} cannot be turned back into orientations; use gsh4")
    prior = load_prior(name)
    if prior.representation != kind.name:
        raise ConfigError(f"{config.task}.prior: {name} is a prior of {prior.representation}, not of {kind.name}")
    return prior


def require_group(whole: OrientationVolume, kind: Representation, name: str) -> None:
    """Refuses a volume of another crystal symmetry than the representation's."""
    if whole.group != kind.group:
        raise ConfigError(f"{name}: found the symmetry {whole.group}, {kind.name} takes {kind.group}")


@dataclasses.dataclass(frozen=True)
class Reconstruction:
    """What the super-resolution task needs.

    Attributes:
      title: what is reconstructed, for the report.
      reference: the volume; it holds the truth that the input lacks, or nothing where it was never measured.
      known: voxels the reconstruction is given.
      stacking: axis along which whole sections are missing, if so.
      scored: whether the reference knows missing voxels.
      settings: keyword arguments of `reconstruct.super_resolve`.
    """

    title: str
    seed: int
    prior: Prior
    kind: Representation
    reference: OrientationVolume
    known: np.ndarray
    stacking: int | None
    scored: bool
    settings: dict[str, Any]


def reconstruction(config: ConfigDict) -> Reconstruction:
    """Objects of a super-resolution.

    Raises:
      ConfigError: keys that do not fit together, or a mask that keeps nothing or everything.
      DataError: a volume that cannot be read.
    """
    section, kind = config.super_resolve, representation(config)
    prior = invertible_prior(config, section.prior)
    reference, mask = volume(section.volume, "super_resolve.volume"), section.mask
    require_group(reference, kind, "super_resolve.volume")
    selections: dict[str, Callable[[], np.ndarray]] = {
        "slices": lambda: masks.every_slice(reference.shape, mask.axis, mask.every, mask.offset),
        "random": lambda: masks.random_voxels(reference.shape, mask.share, config.seed),
        "box": lambda: masks.without_box(reference.shape, tuple(mask.start), tuple(mask.stop)),
        "orthogonal": lambda: masks.orthogonal_slices(reference.shape),
        "unindexed": lambda: np.ones(reference.shape, bool),
        "insert": lambda: np.ones(reference.shape, bool),
    }
    if mask.kind not in selections:
        raise ConfigError(f"super_resolve.mask.kind: found {mask.kind!r}, accepted are {', '.join(selections)}")
    if mask.kind == "insert":
        reference = masks.insert_slices(reference, mask.axis, mask.every)
    known = selections[mask.kind]() & reference.mask
    missing = ~known & reference.mask
    if not known.any():
        raise ConfigError("super_resolve.mask: keeps no observed voxel")
    if known.all():
        raise ConfigError("super_resolve.mask: keeps every voxel, nothing is missing")
    return Reconstruction(
        title=section.volume.source,
        seed=config.seed,
        prior=prior,
        kind=kind,
        reference=reference,
        known=known,
        stacking=masks.AXES.index(mask.axis) if mask.kind in ("slices", "insert") else None,
        scored=bool(missing.any()),
        settings={
            "draws": section.draws,
            "steps": section.steps,
            "start": section.start or None,
            "method": section.method,
            "theta": section.theta,
            "tile": section.tile or None,
        },
    )


@dataclasses.dataclass(frozen=True)
class Expansion:
    """What the 2D-to-3D task needs; ``reference`` is the volume the maps were cut from, if any."""

    seed: int
    prior: Prior
    kind: Representation
    maps: dict[str, OrientationVolume]
    reference: OrientationVolume | None
    shape: tuple[int, int, int]
    settings: dict[str, Any]


def expansion(config: ConfigDict) -> Expansion:
    """Objects of an expansion.

    Raises:
      ConfigError: neither a volume nor maps, maps of different step, or a shape the network cannot take.
      DataError: a volume that cannot be read.
    """
    section, kind = config.expand, representation(config)
    prior = invertible_prior(config, section.prior)
    given = {axis: each for axis, each in section.maps.items() if each.source}
    if bool(given) == bool(section.volume.source):
        raise ConfigError("expand: give either maps or a volume to cut them from")
    reference = None
    if given:
        maps = {axis: volume(each, f"expand.maps.{axis}") for axis, each in given.items()}
    else:
        reference = volume(section.volume, "expand.volume")
        maps = {axis: _middle(reference, number) for number, axis in enumerate("xyz")}
    for axis, each in maps.items():
        require_group(each, kind, f"expand, map normal to {axis}")
        if 1 not in each.shape:
            raise ConfigError(f"expand.maps.{axis}: found a volume of {each.shape}, accepted is a single section")
    if any(size % prior.network.stride for size in section.shape):
        raise ConfigError(f"expand.shape: found {section.shape}, accepted are multiples of {prior.network.stride}")
    return Expansion(
        seed=config.seed,
        prior=prior,
        kind=kind,
        maps=maps,
        reference=reference,
        shape=tuple(section.shape),
        settings={
            "draws": section.draws,
            "steps": section.steps,
            "start": section.start or None,
            "budget": section.budget,
        },
    )


def _middle(whole: OrientationVolume, axis: int) -> OrientationVolume:
    middle = whole.shape[axis] // 2
    start, stop = [0, 0, 0], list(whole.shape)
    start[axis], stop[axis] = middle, middle + 1
    return whole.crop(start, stop)


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """What the evaluate task needs.

    Attributes:
      volumes: reference volumes by name.
      masks: known voxels by title, for each volume name and factor: ``(title, volume name, known)``.
      settings: keyword arguments of `reconstruct.super_resolve` by the label of the method.
    """

    seed: int
    prior_name: str
    prior: Prior
    kind: Representation
    volumes: dict[str, OrientationVolume]
    masks: list[tuple[str, str, np.ndarray]]
    settings: dict[str, dict[str, Any]]


def evaluation(config: ConfigDict) -> Evaluation:
    """Objects of an evaluation.

    Raises:
      ConfigError: no volumes, or one of another symmetry.
      DataError: a volume that cannot be read.
    """
    section, kind = config.evaluate, representation(config)
    prior = invertible_prior(config, section.prior)
    if not section.volumes:
        raise ConfigError("evaluate.volumes: found none, accepted is at least one")
    volumes = {each.source: volume(each, "evaluate.volumes") for each in section.volumes}
    cases = []
    for name, reference in volumes.items():
        require_group(reference, kind, name)
        for factor in section.factors:
            known = masks.every_slice(reference.shape, section.axis, factor) & reference.mask
            cases.append((f"{name}, one section in {factor} along {section.axis} known", name, known))
    settings = {}
    for method in section.methods:
        for start in section.starts:
            label = f"{method}, start {start:g}" if start else f"{method}, from noise"
            settings[label] = {
                "draws": section.draws,
                "steps": section.steps,
                "start": start or None,
                "method": method,
                "theta": section.theta,
            }
    return Evaluation(config.seed, section.prior, prior, kind, volumes, cases, settings)


@dataclasses.dataclass(frozen=True)
class Conversion:
    """What the convert task needs: a repaired volume and, by file name, the options of its writer."""

    title: str
    volume: OrientationVolume
    outputs: dict[str, dict[str, Any]]


def conversion(config: ConfigDict) -> Conversion:
    """Objects of a conversion.

    Raises:
      ConfigError: no outputs, or one in an unknown format.
      DataError: a volume that cannot be read.
    """
    section = config.convert
    accepted = ", ".join(export.SUFFIXES)
    if not section.outputs:
        raise ConfigError(f"convert.outputs: found none, accepted are file names ending in {accepted}")
    for name in section.outputs:
        if Path(name).suffix.lower() not in export.SUFFIXES:
            raise ConfigError(f"convert.outputs: found {name!r}, accepted endings are {accepted}")
    whole = volume(section.volume, "convert.volume")
    if section.cubic:
        whole = repair.to_cubic(whole)
    if section.fill:
        whole = repair.fill(whole)
    outputs = {
        name: {"frame": section.map_frame} if Path(name).suffix.lower() == ".ang" else {} for name in section.outputs
    }
    return Conversion(section.volume.source, whole, outputs)


STAGE = "stage:"
"""A string "stage:NAME/FILE" in the config of a stage is a file of the earlier stage NAME."""


def stages(config: ConfigDict, workdir: Path) -> dict[str, ConfigDict]:
    """The configs of a chain in the order of their names, references to earlier stages resolved to paths.

    Raises:
      ConfigError: no stages, or a reference to a stage that does not come before.
    """
    names = sorted(config.bootstrap.keys())
    if not names:
        raise ConfigError("bootstrap: found no stages")
    return {name: _resolved(config.bootstrap[name], workdir, names[: names.index(name)]) for name in names}


def _resolved(value: Any, workdir: Path, earlier: list[str]) -> Any:
    if isinstance(value, ConfigDict):
        return ConfigDict({key: _resolved(value[key], workdir, earlier) for key in value})
    if isinstance(value, tuple | list):
        return tuple(_resolved(each, workdir, earlier) for each in value)
    if not (isinstance(value, str) and value.startswith(STAGE)):
        return value
    path = value.removeprefix(STAGE)
    if path.split("/")[0] not in earlier:
        raise ConfigError(f"bootstrap: found {value!r}, accepted are the stages before: {', '.join(earlier)}")
    return str(workdir / path)
