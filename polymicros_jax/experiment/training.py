"""Objects of a training."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from polymicros_jax.config import ConfigError, default
from polymicros_jax.config import network as default_network
from polymicros_jax.data import store
from polymicros_jax.data.patches import (
    CubeSymmetries,
    FieldSource,
    JoinedFields,
    MemoryFields,
    check_sizes,
    cube_symmetries,
    grid_of_patches,
)
from polymicros_jax.data.stored_fields import StoredFields
from polymicros_jax.diffusion.loss import NoiseLaw
from polymicros_jax.experiment.inputs import fields, representation
from polymicros_jax.models import unet3d
from polymicros_jax.orientation.representation import Representation
from polymicros_jax.training.augment import texture_rotation
from polymicros_jax.training.ema import EmaLaw
from polymicros_jax.training.mesh import build_mesh
from polymicros_jax.training.prior import STORAGES, Prior, load_prior, read_card
from polymicros_jax.training.step import Optimisation
from polymicros_jax.types import Key

RECORDS = ("config", "environment", "results", "latest")
"""Names of files in the folder of a training that are no results."""


@dataclasses.dataclass(frozen=True)
class Training:
    """What `train.train` needs, and what the card of the result says of its data.

    ``previous`` are weights whose scores stand beside those of the result.
    """

    seed: int
    initial: Prior
    previous: Prior | None
    source: FieldSource
    optimisation: Optimisation
    patch: int
    symmetries: CubeSymmetries | None
    weights: tuple[float, ...] | None
    rotate: Callable[[Key, jax.Array], jax.Array] | None
    validation: np.ndarray | None
    validate_every: int
    checkpoint_every: int
    sheet_every: int
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


def check_training(section: ConfigDict, kind: Representation) -> None:
    """What of a training can be wrong before anything is read.

    Raises:
      ConfigError: a distance of checkpoints, validations or patches for them, or a number of devices, below 1; nothing
        to train on; a share of the dataset that is none; a name that is none, or that of a file the run writes;
        weights of volumes below 0, or all 0; an unknown storage; augmentation that the representation has not.
    """
    for key in ("validation_stride", "validate_every", "checkpoint_every", "devices_per_sample"):
        if section[key] < 1:
            raise ConfigError(f"train.{key}: found {section[key]}, accepted is at least 1")
    if not (section.volumes or section.dataset):
        raise ConfigError("train: found neither volumes nor a dataset to train on, accepted are one of them and both")
    if not 0 < section.dataset_share < 1:
        raise ConfigError(f"train.dataset_share: found {section.dataset_share}, accepted is above 0 and below 1")
    if section.dataset and section.centre:
        raise ConfigError("train.centre: found True with a dataset, accepted is False: its fields keep their means")
    if not section.name or Path(section.name).name != section.name or section.name in RECORDS:
        raise ConfigError(
            f"train.name: found {section.name!r}, accepted is a file name but {', '.join(RECORDS)}: the run's own"
        )
    if any(not 0 <= each.weight < np.inf for each in section.volumes):
        raise ConfigError(f"train.volumes: weights {[each.weight for each in section.volumes]}, accepted is at least 0")
    if section.volumes and not sum(each.weight for each in section.volumes):
        raise ConfigError("train.volumes: found no weight above 0, accepted is at least one")
    if section.storage not in STORAGES:
        raise ConfigError(f"train.storage: found {section.storage!r}, accepted are {', '.join(STORAGES)}")
    if (section.symmetries or section.texture) and kind.sample_rotation is None:
        raise ConfigError(f"train: {kind.name} cannot be rotated; set train.symmetries and train.texture to False")


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
    check_training(section, kind)
    source, weights = _source(section, kind)
    check_sizes(source, section.patch)
    initial = _initial(section, kind, source, config.seed)
    apart = section.devices_per_sample
    devices = jax.device_count()
    if devices % apart:
        raise ConfigError(f"train.devices_per_sample: found {apart}, accepted is a divisor of {devices} devices")
    # Each device of a sample holds whole voxels of the coarsest grid.
    if section.patch % (initial.network.stride * apart):
        raise ConfigError(
            f"train.patch: found {section.patch}, accepted is a multiple of {initial.network.stride * apart}: the "
            f"network's stride of {initial.network.stride} times {apart} devices per sample"
        )
    validation, previous = None, _previous(section, kind.name)
    if section.validation:
        held_out = fields(section.validation, "train.validation", kind, section.centre)
        check_sizes(held_out, section.patch)
        validation = grid_of_patches(held_out, size=section.patch, stride=section.validation_stride)
    settings = optimisation(section.optimisation)
    if (settings.batch // settings.accumulate) % (devices // apart):
        raise ConfigError(
            f"train.optimisation: {settings.batch} patches in {settings.accumulate} parts do not divide among "
            f"{devices // apart} groups of {apart} devices"
        )
    return Training(
        seed=config.seed,
        initial=initial,
        previous=previous,
        source=source,
        optimisation=settings,
        patch=section.patch,
        symmetries=cube_symmetries(kind.sample_rotation) if section.symmetries and kind.sample_rotation else None,
        weights=weights,
        rotate=texture_rotation(kind) if section.texture else None,
        validation=validation,
        validate_every=section.validate_every,
        checkpoint_every=section.checkpoint_every,
        sheet_every=section.sheet_every,
        mesh=build_mesh(apart) if devices > 1 else None,
        name=section.name,
        storage=section.storage,
        data={
            "trained_on": _trained_on(section),
            "validated_on": [described(each) for each in section.validation],
            "initial": section.initial or "random",
            "previous": (section.previous or section.initial) if previous is not None else "",
            **_history(section.initial),
            "centred": section.centre,
            "augmentation": [name for name in ("symmetries", "texture") if section[name]],
        },
    )


def _source(section: ConfigDict, kind: Representation) -> tuple[FieldSource, tuple[float, ...] | None]:
    """Fields to cut patches from, with the weight of each; None where all positions count alike."""
    if not section.volumes:
        return _dataset(section.dataset), None
    measured = fields(section.volumes, "train.volumes", kind, section.centre)
    weights = tuple(each.weight for each in section.volumes)
    if not section.dataset:
        return measured, weights
    generated = _dataset(section.dataset)
    share, count = section.dataset_share, len(generated.shapes)
    shares = (*((1 - share) * weight / sum(weights) for weight in weights), *(share / count,) * count)
    return JoinedFields((measured, generated)), shares


def _trained_on(section: ConfigDict) -> list[str] | str:
    """The data in words, for the card."""
    volumes = [described(each) for each in section.volumes]
    if not (volumes and section.dataset):
        return volumes or section.dataset
    return [*volumes, f"{section.dataset}, {100 * section.dataset_share:g} % of all patches"]


def _initial(section: ConfigDict, kind: Representation, source: FieldSource, seed: int) -> Prior:
    """The prior a training starts from: weights that are there, or random ones with scales measured on the fields."""
    key = jax.random.key(seed)
    initial = load_prior(section.initial) if section.initial else None
    if initial is not None and initial.representation == kind.name:
        # A card that does not say is that of weights from elsewhere.
        if section.centre != read_card(section.initial).get("training", {}).get("centred", section.centre):
            raise ConfigError(
                f"train.centre: found {section.centre}, {section.initial} was trained with {not section.centre}: its "
                "scales are those of such fields"
            )
        if section.sigma_skip not in (initial.sigma_skip or 0.0, default("train").train.sigma_skip):
            raise ConfigError(
                f"train.sigma_skip: found {section.sigma_skip}, {section.initial} keeps its {initial.sigma_skip}"
            )
        return continued(initial, section, seed)
    if initial is not None:
        start = continued(initial, section, seed)
        architecture, params = unet3d.exchange_channels(key, start.network, start.params, kind.channels)
    else:
        architecture = network(section.network, kind.channels)
        params = unet3d.init(key, architecture)
    whole = _whole_fields(source)
    return Prior(
        params=params,
        network=architecture,
        sigma_data=float(np.sqrt(np.mean([np.mean(np.square(field)) for field in whole]))),
        representation=kind.name,
        sigma_skip=section.sigma_skip or None,
        radius=None if section.centre else _common_norm(whole),
    )


def continued(initial: Prior, section: ConfigDict, seed: int) -> Prior:
    """The prior to go on from, with the rounds that the config asks for and it may lack.

    Its scales and the rest of its architecture are its own.

    Raises:
      ConfigError: a key of `train.network` was changed to what the prior does not have.
    """
    _refuse_other_architecture(initial, section)
    # The architecture is the prior's; how it is computed is this run's.
    how = {name: section.network[name] for name in COMPUTING}
    initial = dataclasses.replace(initial, network=dataclasses.replace(initial.network, **how))
    if not (section.network.detail or section.network.coarse):
        usual = default_network()
        for name in GROWING:
            found, own = section.network[name], getattr(initial.network, name)
            if found not in (own, usual[name]):
                raise ConfigError(
                    f"train.network.{name}: found {found}, {section.initial} keeps its {own} but where "
                    "train.network.detail or train.network.coarse is set"
                )
        return initial
    wanted = {name: section.network[name] for name in GROWING}
    try:
        architecture, params = unet3d.grow(jax.random.key(seed), initial.network, initial.params, **wanted)
    except ValueError as error:
        raise ConfigError(f"train.network of {section.initial}: {error}") from error
    return dataclasses.replace(initial, network=architecture, params=params)


GROWING = ("detail", "rounds", "averaging", "coarse")
"""Keys of `train.network` that a trained network may be given more of, see `unet3d.grow`."""

COMPUTING = ("compute_dtype", "remat")
"""Keys that say how a network is computed, and nothing of what it is."""


def _refuse_other_architecture(initial: Prior, section: ConfigDict) -> None:
    """A key that has the default may be meant for nothing; one that was set is wanted."""
    usual = default_network()
    for name, value in section.network.items():
        own = getattr(initial.network, name)
        if name not in (*GROWING, *COMPUTING) and value not in (own, usual[name]):
            raise ConfigError(f"train.network.{name}: found {value}, {section.initial} keeps its {own}")


def _previous(section: ConfigDict, representation: str) -> Prior | None:
    """The prior to compare with: the one named, or the one the training starts from if it knows the same fields."""
    name = section.previous or section.initial
    if not (name and section.validation):
        return None
    previous = load_prior(name)
    if not section.previous and previous.representation != representation:
        return None
    if previous.representation != representation or section.patch % previous.network.stride:
        raise ConfigError(
            f"train.previous: {name} takes {previous.representation} in multiples of {previous.network.stride} voxels, "
            f"this training has {representation} in patches of {section.patch}"
        )
    return previous


def _history(initial: str) -> dict[str, int]:
    """Optimiser steps that the weights to start from have seen, where their card says so."""
    if not initial:
        return {}
    before = read_card(initial).get("training", {})
    return {"steps_before": before.get("steps", 0) + before.get("steps_before", 0)}


def _dataset(folder: str) -> StoredFields:
    opened = store.open(folder)
    complete = tuple(store.completed(opened))
    # Which patch a step sees, and the scale of the data, must not change while a training runs or when it resumes.
    to_come = opened.samples - len(complete) - len(store.refused(opened))
    if to_come or not complete:
        raise ConfigError(
            f"train.dataset: {folder} holds {len(complete)} of {opened.samples} samples, and {to_come} are still to be "
            "made; finish it first, with the command that began it"
        )
    return StoredFields(opened, complete)


def _whole_fields(source: FieldSource) -> list[np.ndarray]:
    """Fields to measure the scale on: all those in memory, at most eight of a dataset."""
    if isinstance(source, MemoryFields):
        return list(source.fields)
    return [source.read_patch(index, (0, 0, 0), min(shape)) for index, shape in enumerate(source.shapes[:8])]


def _common_norm(whole: list[np.ndarray]) -> float | None:
    """The norm of all voxels, where they share one, as those of GSH-4 do."""
    norms = [np.linalg.norm(field, axis=-1) for field in whole]
    least, largest = min(float(norm.min()) for norm in norms), max(float(norm.max()) for norm in norms)
    return largest if largest - least < 1e-3 * largest else None


def described(section: ConfigDict) -> str:
    """A volume in words, for the card: what of it was taken, and its share of the patches."""
    box = ", ".join(f"{start}:{stop or ''}" for start, stop in zip(section.start, section.stop, strict=True))
    cut = f", voxels [{box}]" if any((*section.start, *section.stop)) else ""
    resampled = f", {section.spacing:g} um voxels" if section.spacing else ""
    thinned = f", every {section.every} voxels" if section.every > 1 else ""
    return f"{section.source}{cut}{resampled}{thinned}, weight {section.weight:g}"
