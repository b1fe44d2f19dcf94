"""What several tasks start from: the representation, volumes, priors."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from polymicros_jax.config import ConfigError
from polymicros_jax.data import ebsd, repair, samples, simulated
from polymicros_jax.data.errors import DataError
from polymicros_jax.data.patches import MemoryFields
from polymicros_jax.data.volume import OrientationVolume
from polymicros_jax.orientation import representation as representations
from polymicros_jax.orientation.representation import Representation
from polymicros_jax.training.prior import Prior, load_prior, read_card


def representation(config: ConfigDict) -> Representation:
    """The representation the config names."""
    if config.representation not in representations.names():
        raise ConfigError(
            f"representation: found {config.representation!r}, accepted are {', '.join(representations.names())}"
        )
    return representations.get(config.representation)


def volume(section: ConfigDict, name: str) -> OrientationVolume:
    """Reads, cuts and thins the volume of a section made by `config.volume`; ``name`` is the section's, for errors.

    Raises:
      ConfigError: no source, or keys that are out of range or mean nothing for it.
      DataError: a volume that cannot be read.
    """
    source = section.source
    if not source:
        raise ConfigError(
            f"{name}.source: found nothing, accepted is a bundled sample, simulated/..., or the path of a file"
        )
    for key, accepted, right in (
        ("start", "three numbers", len(section.start) == 3),
        ("stop", "three numbers", len(section.stop) == 3),
        ("every", "at least 1", section.every >= 1),
        ("spacing", "0 to keep it, or a length in micrometres", section.spacing >= 0.0),
        ("phase", "0 for all, or the number of a phase", section.phase >= 0),
    ):
        if not right:
            raise ConfigError(f"{name}.{key}: found {section[key]}, accepted is {accepted}")
    sample, _, split = source.partition("/")
    bundled = sample in samples.names() and not Path(source).exists()
    if bundled or source.startswith(simulated.PREFIX):
        for key in ("frame", "unit", "slice_spacing"):
            if section[key]:
                raise ConfigError(f"{name}.{key}: found {section[key]}, accepted with files and folders alone")
        whole = samples.load(sample, split or "all") if bundled else simulated.load(source)
    else:
        whole = ebsd.read(
            source, section.frame or None, slice_spacing=section.slice_spacing or None, unit=section.unit or None
        )
    stop = tuple(b or n for b, n in zip(section.stop, whole.shape, strict=True))
    if tuple(section.start) != (0, 0, 0) or stop != whole.shape:
        try:
            whole = whole.crop(section.start, stop)
        except DataError as error:
            raise ConfigError(f"{name}.stop: {error}; 0 is the end of an axis") from error
    if section.phase:
        try:
            whole = whole.only_phase(section.phase)
        except DataError as error:
            raise ConfigError(f"{name}.{error}") from error
        if not whole.mask.any():
            known = ", ".join(f"{number} {phase}" for number, phase in enumerate(whole.phase_names, start=1))
            raise ConfigError(f"{name}.phase: found {section.phase}, of which no voxel is; the phases are {known}")
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


def invertible_prior(config: ConfigDict, name: str) -> Prior:
    """A prior of the config's representation, which must be one that can be turned back into orientations.

    Raises:
      ConfigError: the prior is of another representation or of centred fields, or that one is not invertible.
    """
    kind = representation(config)
    if not kind.invertible:
        raise ConfigError(f"representation: {kind.name} cannot be turned back into orientations; use gsh4")
    prior = load_prior(name)
    if prior.representation != kind.name:
        raise ConfigError(f"{config.task}.prior: {name} is a prior of {prior.representation}, not of {kind.name}")
    refuse_centred(name, f"{config.task}.prior")
    return prior


def check_shape(shape: tuple[int, ...], stride: int, key: str) -> None:
    """Refuses a grid that a network of this stride cannot take.

    Raises:
      ConfigError: names the key.
    """
    if len(shape) != 3 or any(side < 1 or side % stride for side in shape):
        raise ConfigError(f"{key}: found {tuple(shape)}, accepted are three multiples of {stride}")


def refuse_centred(prior: str, key: str) -> None:
    """Refuses a prior whose draws are no orientations, because the mean of each volume was taken out of its data.

    Raises:
      ConfigError: its card says so.
    """
    if read_card(prior).get("training", {}).get("centred"):
        raise ConfigError(
            f"{key}: {prior} was trained on fields less their mean (train.centre), accepted are priors of whole fields"
        )


def require_group(whole: OrientationVolume, kind: Representation, name: str) -> None:
    """Refuses a volume of another crystal symmetry than the representation's."""
    try:
        group = whole.group
    except DataError as error:
        found = ", ".join(f"{number} {phase}" for number, phase in enumerate(whole.phase_names, start=1))
        raise ConfigError(
            f"{name}.phase: found {found} of several symmetries, accepted is the number of one"
        ) from error
    if group != kind.group:
        raise ConfigError(
            f"{name}: found the symmetry {group}, {kind.name} takes {kind.group}; all priors that ship are cubic, 432"
        )
