"""The expand task: from orthogonal 2D maps to periodic 3D volumes with their statistics."""

import dataclasses
import functools
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from matplotlib.figure import Figure

from polymicros_jax import experiment
from polymicros_jax.conditioners.slice_targets import SliceTargets, slice_targets
from polymicros_jax.conditioners.two_point import plane_covariances, two_point
from polymicros_jax.data import export, repair
from polymicros_jax.data.atomic import replacing
from polymicros_jax.data.volume import OrientationVolume
from polymicros_jax.local_global import draw_free
from polymicros_jax.orientation import grains, ipf
from polymicros_jax.orientation.grain_averaging import grain_averaged
from polymicros_jax.progress import Progress
from polymicros_jax.reconstruct import expand
from polymicros_jax.results import Results, table, write_json
from polymicros_jax.spectral.two_point import covariances
from polymicros_jax.types import Key
from polymicros_jax.viz import canvas, cubes, distributions, report, slices
from polymicros_jax.viz.report import Column, Section, Table

MINIMUM_GRAIN = 8
"""Voxels below which a segment is noise, not a grain."""

FAR = 0.15
"""Distance to the manifold, in units of its norm, beyond which a voxel counts as blurred, not as a crystal."""

BASELINE_BUDGET = 1000
"""Most gradient evaluations of the optimiser without a prior."""

COLUMNS = (
    Column("plane_rms", "error on matched planes, root mean square", digits=7),
    Column("largest_plane_error", "largest", digits=7),
    Column("unmatched_rms", "error on unmatched lags, share of the variance", digits=3),
    Column("mean_diameter", "mean grain diameter (voxels)", best=None),
    Column("grains", "grains", best=None, digits=0),
    Column("largest_share", "share of the largest grain (%)", best=None, scale=100.0),
    Column("boundary_share", "voxel faces between grains (%)", best=None, scale=100.0),
    Column("mean_boundary_deg", "mean disorientation at boundaries (°)", best=None),
    Column("far_share", "voxels far from any crystal (%)", scale=100.0),
)


def run(objects: experiment.Expansion, workdir: Path) -> Results:
    """Draws volumes, measures how they match the maps, writes DAMASK and ParaView files and a report.

    Every field is kept as soon as it is made: a run that is started again goes on with the next.
    """
    kind, key = objects.kind, jax.random.key(objects.seed)
    maps = {axis: repair.fill(each) for axis, each in objects.maps.items()}
    channels = {
        axis: np.asarray(kind.encode(each.quaternions)).squeeze("xyz".index(axis)) for axis, each in maps.items()
    }
    # With the key that `reconstruct.expand` would take for it: the same draws.
    targets = slice_targets(jax.random.split(key)[0], channels, objects.shape, kind=kind)
    kept = workdir / "fields"
    drawn = _draws(key, objects, channels, targets, kept)
    compared = _baselines(objects, targets, kept) if objects.baselines else {}
    labels: dict[str, np.ndarray] = {}
    if objects.boundary_cost > 0:
        compared = {f"{name}, before averaging": field for name, field in drawn.items()} | compared
        drawn, labels = _averaged(drawn, objects)
    volumes = {name: _volume(field, objects, maps) for name, field in (drawn | compared).items()}
    files = []
    for number, name in enumerate(drawn):
        files += _write_volume(workdir / f"draw_{number:02d}", volumes[name], labels.get(name))
    rows = _measured(drawn | compared, volumes, objects, targets)
    if objects.reference is not None:
        volumes["reference"] = objects.reference
        rows["reference"] = _structure(objects.reference, periodic=False)
    single = [name for name, each in labels.items() if not each.any()]
    documents = _write_report(workdir, objects, maps, volumes, rows, _summary(objects, targets, single))
    metrics = write_json(workdir / "metrics.json", rows)
    return Results(_text_table(rows), [*documents, metrics, *files])


def _draws(
    key: Key, objects: experiment.Expansion, channels: dict[str, np.ndarray], targets: SliceTargets, kept: Path
) -> dict[str, Array]:
    """The draws by name, those kept of a run before and those made now."""

    def grow(number: int) -> Array:
        settings = {**objects.settings, "draws": 1, "first": number}
        return expand(key, objects.prior, channels, objects.shape, targets=targets, **settings)[0]

    drawn, count = {}, objects.settings["draws"]
    with Progress("draws", count) as progress:
        for number in range(count):
            drawn[f"draw {number}"] = _kept(kept / f"draw_{number:02d}.npy", functools.partial(grow, number))
            progress.update(number + 1)
    return drawn


def _averaged(drawn: dict[str, Array], objects: experiment.Expansion) -> tuple[dict[str, Array], dict[str, np.ndarray]]:
    """The draws with one orientation a grain, and the number of the grain at every voxel."""
    fields, labels = {}, {}
    for name, field in drawn.items():
        averaged, labels[name] = grain_averaged(field, objects.kind, objects.boundary_cost, periodic=True)
        fields[name] = jnp.asarray(averaged)
        if not labels[name].any():
            warnings.warn(
                f"expand: averaging has left {name} a single grain; a smaller expand.boundary_cost keeps more",
                stacklevel=3,
            )
    return fields, labels


def _volume(field: Array, objects: experiment.Expansion, maps: dict[str, OrientationVolume]) -> OrientationVolume:
    q, distance = objects.kind.decode(field)
    return OrientationVolume(
        quaternions=np.asarray(q),
        phase=np.ones(objects.shape, np.int32),
        mask=np.ones(objects.shape, bool),
        spacing=objects.spacing,
        symmetry=objects.kind.group,
        frame=next(iter(maps.values())).frame,
        provenance={
            "simulated": True,
            "periodic": True,
            "phases": _phase(maps),
            "expanded from": {axis: dict(each.provenance) for axis, each in maps.items()},
        },
        fields={"distance_to_manifold": np.asarray(distance, np.float32)},
    )


def _write_volume(folder: Path, volume: OrientationVolume, averaged_into: np.ndarray | None) -> list[Path]:
    """A draw for DAMASK, for ParaView and for this package; with its grains where it is averaged over them."""
    labels = averaged_into
    if labels is None:
        labels = grains.segment(volume.quaternions, group=volume.group, periodic=True)
    numbered = dataclasses.replace(volume, fields={**volume.fields, "grain": labels})
    return [
        # An averaged grain is the material of its number; without averaging every orientation is a material.
        *export.write_damask(volume, folder / "geometry.vti", grains=averaged_into),
        export.write(numbered, folder / "volume.vti"),
        export.write(numbered, folder / "volume.npz"),
    ]


def _measured(
    fields: dict[str, Array],
    volumes: dict[str, OrientationVolume],
    objects: experiment.Expansion,
    targets: SliceTargets,
) -> dict[str, dict[str, Any]]:
    """A row of figures for every field: what it has of the maps' statistics, its grains, and how far from crystals."""
    truth = None
    if objects.reference is not None:
        truth = jnp.asarray(objects.kind.encode(repair.fill(objects.reference).quaternions))
    rows = {}
    for name, field in fields.items():
        distance = volumes[name].fields["distance_to_manifold"]
        rows[name] = {
            **_plane_errors(field, targets.planes),
            **_structure(volumes[name], periodic=True),
            "far_share": float(np.mean(distance > FAR * objects.kind.norm)),
        }
        if truth is not None and np.isfinite(unmatched := unmatched_error(field, truth)):
            rows[name]["unmatched_rms"] = unmatched
    return rows


def _write_report(
    workdir: Path,
    objects: experiment.Expansion,
    maps: dict[str, OrientationVolume],
    volumes: dict[str, OrientationVolume],
    rows: dict[str, dict[str, Any]],
    summary: str,
) -> list[Path]:
    drawing = _cubes(volumes)
    picture = canvas.save(drawing, workdir / "volumes.png")
    page = report.write(
        workdir / "report.html",
        title="3D volumes from 2D maps",
        summary=summary,
        sections=[
            Section("Match", table=Table(COLUMNS, rows, corner="volume")),
            Section("Maps", figures=[(f"Map normal to {a}.", _map_figure(m, a)) for a, m in maps.items()]),
            Section("Volumes", figures=[("IPF colours for sample z.", drawing)]),
            Section("Distributions", figures=_distributions(volumes)),
        ],
        provenance=json.loads((workdir / "environment.json").read_text()),
        config=(workdir / "config.json").read_text(),
    )
    return [page, picture]


def _summary(objects: experiment.Expansion, targets: SliceTargets, single: list[str]) -> str:
    """What the report says first; `single` are the draws that averaging left one grain."""
    boundaries = float(np.mean([_boundary_share(each) for each in objects.maps.values()]))
    return (
        "Periodic volumes with the two-point statistics of the maps on the orthogonal planes. The targets come "
        "from the maps alone. The maps themselves, small samples whose statistics no volume has exactly, differ from "
        f"them by {float(targets.misfit):.3f} root mean square."
        + _filled(objects.maps)
        + (_averaging(boundaries, single) if objects.boundary_cost > 0 else "")
    )


def _text_table(rows: dict[str, dict[str, Any]]) -> str:
    columns = {
        "grains": "grains",
        "largest": "largest_share",
        "diameter": "mean_diameter",
        "boundary °": "mean_boundary_deg",
        "plane rms": "plane_rms",
        "plane max": "largest_plane_error",
        "unmatched": "unmatched_rms",
        "far share": "far_share",
    }
    lines = {name: [row.get(key) for key in columns.values()] for name, row in rows.items()}
    return table(("volume", *columns), lines)


def _boundary_share(section: OrientationVolume) -> float:
    return grains.boundary_share(grains.segment(section.quaternions, group=section.group, mask=section.mask))


def _phase(maps: dict[str, OrientationVolume]) -> list[str]:
    """The name of the one phase of the volumes: the phases of the maps, which a drawn volume cannot tell apart."""
    names = [each.phase_names[number - 1] for each in maps.values() for number in np.unique(np.maximum(each.phase, 1))]
    return [" and ".join(dict.fromkeys(names))]


def _averaging(boundaries: float, single: list[str]) -> str:
    """What the report says of grain averaging; `single` are the draws that it left one grain."""
    return (
        " Draws are grain averaged: every voxel has the orientation of its grain's mean. Between grains lie "
        f"{100 * boundaries:.1f} % of the faces of the maps' pixels; a larger expand.boundary_cost leaves fewer, a "
        "smaller one more."
        + (f" It has left {', '.join(single)} a single grain: too large a cost for these maps." if single else "")
    )


def _filled(maps: dict[str, OrientationVolume]) -> str:
    """What the report says of points of the maps that hold no orientation."""
    share = 1.0 - float(np.mean(np.concatenate([each.mask.ravel() for each in maps.values()])))
    return f" Points of the maps without an orientation, {100 * share:.2g} %, took the nearest one." if share else ""


def _kept(path: Path, make: Callable[[], Array]) -> Float[Array, "nx ny nz h"]:
    """The field of a run before, or what is made now, stored."""
    if not path.exists():
        field = np.asarray(make())
        with replacing(path) as temporary, temporary.open("wb") as file:
            np.save(file, field)
    return jnp.asarray(np.load(path))


def _baselines(
    objects: experiment.Expansion, targets: SliceTargets, kept: Path
) -> dict[str, Float[Array, "nx ny nz h"]]:
    """What the draws must be better than: the prior that knows no map, and the statistics without a prior."""
    # Keys of their own: with those of the targets the prior would start from the noise that these were fitted from.
    free_key, noise_key = jax.random.split(jax.random.fold_in(jax.random.key(objects.seed), 1))
    prior = objects.prior

    def free() -> Array:
        return draw_free(free_key, prior, objects.shape, steps=objects.settings["steps"])

    def matched() -> Array:
        noise = jax.random.normal(noise_key, (*objects.shape, prior.network.channels))
        condition = two_point(targets.planes, targets.mean, budget=BASELINE_BUDGET)
        return jax.jit(lambda x: condition.match(x, 1e-5).field)(noise)

    return {
        "prior, no maps": _kept(kept / "prior.npy", free),
        "statistics, no prior": _kept(kept / "statistics.npy", matched),
    }


def _plane_errors(field: Float[Array, "nx ny nz h"], planes: dict[str, Array]) -> dict[str, float]:
    found = plane_covariances(field)
    errors = [np.asarray(found[axis] - planes[axis]) for axis in planes]
    return {
        "plane_rms": float(np.sqrt(np.mean([np.nanmean(np.square(each)) for each in errors]))),
        "largest_plane_error": max(float(np.nanmax(np.abs(each))) for each in errors),
    }


def unmatched_error(field: Float[Array, "nx ny nz h"], reference: Float[Array, "mx my mz h"], reach: int = 6) -> float:
    """Root mean square difference of covariances at lags on none of the matched planes, over the mean variance.

    Lags from 1 to ``reach`` voxels along every axis, all signs, as far as both have them: less than half of an axis.
    NaN where they have none along one. The volume is periodic, the reference is not.
    """
    lags = [
        [lag for lag in range(-reach, reach + 1) if lag != 0 and 2 * abs(lag) < min(n, m)]
        for n, m in zip(field.shape[:3], reference.shape[:3], strict=True)
    ]
    if not all(lags):
        return float("nan")
    pick = np.ix_(*lags)
    ours = covariances(field, periodic=True)[pick]
    theirs = covariances(reference, periodic=False)[pick]
    variance = jnp.mean(jnp.var(reference, axis=(0, 1, 2)))
    return float(jnp.sqrt(jnp.nanmean(jnp.square(ours - theirs))) / variance)


def _structure(volume: OrientationVolume, periodic: bool) -> dict[str, Any]:
    labels = grains.segment(
        volume.quaternions, group=volume.group, mask=volume.mask, periodic=periodic, minimum_size=MINIMUM_GRAIN
    )
    angles = grains.boundary_disorientations(volume.quaternions, labels, volume.group, periodic=periodic)
    diameters = grains.equivalent_diameters(labels)
    return {
        "grains": len(diameters),
        "mean_diameter": float(diameters.mean()) if len(diameters) else None,
        "largest_share": float(grains.sizes(labels).max() / labels.size) if len(diameters) else None,
        "boundary_share": grains.boundary_share(labels, periodic=periodic) if len(diameters) else None,
        "mean_boundary_deg": float(np.degrees(angles).mean()) if len(angles) else None,
    }


def _distributions(volumes: dict[str, OrientationVolume]) -> list[tuple[str, Figure]]:
    diameters, angles = {}, {}
    for name, volume in volumes.items():
        periodic = name != "reference"
        labels = grains.segment(
            volume.quaternions, group=volume.group, mask=volume.mask, periodic=periodic, minimum_size=MINIMUM_GRAIN
        )
        diameters[name] = grains.equivalent_diameters(labels)
        angles[name] = np.degrees(
            grains.boundary_disorientations(volume.quaternions, labels, volume.group, periodic=periodic)
        )
    # A volume without a single grain of that size has no distribution to show.
    diameters, angles = ({name: each for name, each in found.items() if len(each)} for found in (diameters, angles))
    if not diameters or not angles:
        return []
    return [
        ("Grain diameters.", distributions.densities(diameters, xlabel="equivalent diameter (voxels)", bins=20)),
        ("Disorientation across boundaries.", distributions.densities(angles, xlabel="disorientation (°)", bins=30)),
    ]


def _colours(volume: OrientationVolume) -> np.ndarray:
    return np.asarray(ipf.colours(volume.quaternions, "z", volume.group))


def _map_figure(volume: OrientationVolume, axis: str) -> Figure:
    panel = slices.Panel(f"normal to {axis}", _colours(volume), volume.mask)
    return slices.comparison([panel], axis="xyz".index(axis), index=0, spacing=volume.spacing, columns=1)


def _cubes(volumes: dict[str, OrientationVolume]) -> Figure:
    spacing = next(iter(volumes.values())).spacing
    return cubes.cubes({name: _colours(volume) for name, volume in volumes.items()}, spacing=spacing)
