"""Objects of an evaluation and of a conversion."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from polymicros_jax.config import ConfigError, mask
from polymicros_jax.data import export, repair
from polymicros_jax.data.ebsd.frames import FRAMES
from polymicros_jax.data.volume import OrientationVolume
from polymicros_jax.experiment.inputs import invertible_prior, representation, require_group, volume
from polymicros_jax.experiment.masking import describe, filling, from_shapes, known_voxels
from polymicros_jax.orientation.representation import Representation
from polymicros_jax.training.calibration import Calibration, load_calibration
from polymicros_jax.training.prior import Prior


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """What the evaluate task needs.

    Attributes:
      volumes: reference volumes by name.
      masks: for each volume and mask ``(title, volume name, mask in words, known voxels)``.
      settings: keyword arguments of `filling_methods.fill_with_prior` by the label of the method; the first of them
        feeds the model of the candidate grains.
      reach: of the snapping, see `orientation.snapping`.
      thetas: values of theta, as in ``settings``.
      families: labels by method without its theta, in the order of ``thetas``.
      calibration: kept beside the prior; None where it has none.
      from_shapes: whether warm starts begin at interpolated shapes, and not at linear interpolation.
      sources: what each volume was read from: models for one are fitted on volumes of other sources.
    """

    seed: int
    prior_name: str
    prior: Prior
    kind: Representation
    volumes: dict[str, OrientationVolume]
    masks: list[tuple[str, str, str, np.ndarray]]
    settings: dict[str, dict[str, Any]]
    reach: int
    thetas: tuple[float, ...]
    families: dict[str, list[str]]
    calibration: Calibration | None
    from_shapes: bool
    sources: dict[str, str]


def evaluation(config: ConfigDict) -> Evaluation:
    """Objects of an evaluation.

    Raises:
      ConfigError: no volumes, one of them twice or of another symmetry, or settings that no draw can have.
      DataError: a volume that cannot be read.
    """
    section, kind = config.evaluate, representation(config)
    prior = invertible_prior(config, section.prior)
    if not section.volumes:
        raise ConfigError("evaluate.volumes: found none, accepted is at least one")
    volumes = {_name(each): volume(each, "evaluate.volumes") for each in section.volumes}
    sources = {_name(each): each.source for each in section.volumes}
    if len(volumes) < len(section.volumes):
        found = ", ".join(_name(each) for each in section.volumes)
        raise ConfigError(f"evaluate.volumes: found {found}; accepted is each source once at every resolution")
    sections = {
        f"evaluate.factors[{number}]": mask("slices", axis=section.axis, every=factor)
        for number, factor in enumerate(section.factors)
    } | {f"evaluate.masks[{number}]": each for number, each in enumerate(section.masks)}
    if not sections:
        raise ConfigError("evaluate: found neither factors nor masks, accepted is at least one of them")
    cases: list[tuple[str, str, str, np.ndarray]] = []
    for name, reference in volumes.items():
        require_group(reference, kind, name)
        for key, each in sections.items():
            if each.kind == "insert":
                raise ConfigError(f"{key}.kind: found insert, which leaves nothing to score")
            known = known_voxels(each, reference, config.seed, key)
            if not (~known & reference.mask).any():
                raise ConfigError(f"{key}: keeps all that {name} holds, nothing can be scored")
            title = f"{name}, {describe(each)}"
            if any(title == other for other, *_ in cases):
                raise ConfigError(f"{key}: found a second case of {title}, accepted are masks that differ")
            cases.append((title, name, describe(each), known))
    settings: dict[str, dict[str, Any]] = {}
    families: dict[str, list[str]] = {}
    for method in section.methods:
        for start in section.starts:
            family = f"{method}, start {start:g}" if start else f"{method}, from noise"
            for theta in section.thetas:
                label = f"{family}, theta {theta:g}" if len(section.thetas) > 1 else family
                families.setdefault(family, []).append(label)
                settings[label] = filling(section, "evaluate", prior, method=method, start=start, theta=theta)
    if not settings:
        raise ConfigError("evaluate: methods, starts and thetas: found an empty one, accepted is at least one of each")
    return Evaluation(
        seed=config.seed,
        prior_name=section.prior,
        prior=prior,
        kind=kind,
        volumes=volumes,
        masks=cases,
        settings=settings,
        reach=section.snap,
        thetas=tuple(section.thetas),
        families=families,
        calibration=load_calibration(section.prior),
        from_shapes=from_shapes(section.initial, "evaluate.initial"),
        sources=sources,
    )


def _name(section: ConfigDict) -> str:
    """A volume in words: the same file may be taken at several resolutions."""
    return section.source if section.every == 1 else f"{section.source}, every {section.every} voxels"


@dataclasses.dataclass(frozen=True)
class Conversion:
    """What the convert task needs: a repaired volume and, by file name, the options of its writer.

    Attributes:
      title: of the results.
      volume: what to write.
      outputs: file name to options.
      damask: name of a DAMASK geometry, whose `material.yaml` goes beside it; empty for none.
      grain_angle: radians up to which neighbours are one material there; 0 for equal orientations only.
    """

    title: str
    volume: OrientationVolume
    outputs: dict[str, dict[str, Any]]
    damask: str = ""
    grain_angle: float = 0.0


def conversion(config: ConfigDict) -> Conversion:
    """Objects of a conversion.

    Raises:
      ConfigError: no outputs, one in an unknown format, or a DAMASK geometry of a volume with holes.
      DataError: a volume that cannot be read.
    """
    section = config.convert
    accepted = ", ".join(export.SUFFIXES)
    if not section.outputs and not section.damask:
        raise ConfigError(f"convert.outputs: found none, accepted are file names ending in {accepted}")
    if section.damask and (Path(section.damask).suffix != ".vti" or section.damask in section.outputs):
        raise ConfigError(f"convert.damask: found {section.damask!r}, accepted is a name in .vti that no output has")
    if not 0 <= section.grain_degrees < 60:
        raise ConfigError(f"convert.grain_degrees: found {section.grain_degrees}, accepted is 0 or an angle below 60")
    for name in section.outputs:
        if Path(name).suffix.lower() not in export.SUFFIXES:
            raise ConfigError(f"convert.outputs: found {name!r}, accepted endings are {accepted}")
    whole = volume(section.volume, "convert.volume")
    if section.cubic:
        whole = repair.to_cubic(whole)
    if section.fill:
        whole = repair.fill(whole)
    if section.damask and not whole.mask.all():
        raise ConfigError(
            f"convert.damask: the volume has {int((~whole.mask).sum())} unobserved voxels, accepted are none; "
            "convert.fill=True gives them the nearest orientation"
        )
    maps = [name for name in section.outputs if Path(name).suffix.lower() == ".ang"]
    if maps and whole.shape[2] != 1:
        raise ConfigError(f"convert.outputs: {maps[0]} holds one section, the volume has {whole.shape[2]}")
    if maps and section.map_frame not in FRAMES:
        raise ConfigError(f"convert.map_frame: found {section.map_frame!r}, {maps[0]} needs {', '.join(FRAMES)}")
    outputs = {
        name: {"frame": section.map_frame} if Path(name).suffix.lower() == ".ang" else {} for name in section.outputs
    }
    grain_angle = float(np.radians(section.grain_degrees))
    return Conversion(section.volume.source, whole, outputs, section.damask, grain_angle)
