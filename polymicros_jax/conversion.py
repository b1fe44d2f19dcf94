"""The convert task: a scan from one format to others."""

import dataclasses
from pathlib import Path

import numpy as np

from polymicros_jax import experiment
from polymicros_jax.data import export
from polymicros_jax.data.volume import OrientationVolume
from polymicros_jax.orientation import grains
from polymicros_jax.results import Results, table


def run(objects: experiment.Conversion, workdir: Path) -> Results:
    """Writes the volume into the workdir in every format asked for."""
    volume, labels = objects.volume, None
    if objects.grain_angle:
        labels = _grains(volume, objects.grain_angle)
        # Numbered by phase, and within it without gaps: as `write_damask` numbers the materials.
        volume = dataclasses.replace(volume, fields={**volume.fields, "material": labels})
    files = [export.write(volume, workdir / name, **options) for name, options in objects.outputs.items()]
    if objects.damask:
        files += export.write_damask(volume, workdir / objects.damask, grains=labels)
    row = [
        " x ".join(map(str, volume.shape)),
        " x ".join(f"{edge:g}" for edge in volume.spacing),
        ", ".join(dict.fromkeys(volume.phase_groups)),
        f"{100 * volume.mask.mean():.1f}",
    ]
    head = ("volume", "voxels", "their edges (µm)", "symmetry", "observed (%)")
    return Results(table(head, {objects.title: row}), files)


def _grains(volume: OrientationVolume, angle: float) -> np.ndarray:
    """Grain of every voxel, each phase segmented by its own symmetry; through the faces of what is known to wrap."""
    labels = np.full(volume.shape, grains.UNASSIGNED, np.int32)
    periodic = bool(volume.provenance.get("periodic"))
    for number in np.unique(volume.phase[volume.mask]).tolist():
        part = volume.only_phase(number)
        own = grains.segment(volume.quaternions, angle, part.group, mask=part.mask, periodic=periodic)
        labels[part.mask] = own[part.mask] + labels.max() + 1
    return labels
