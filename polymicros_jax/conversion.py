"""The convert task: a scan from one format to others."""

from pathlib import Path

import numpy as np

from polymicros_jax import experiment
from polymicros_jax.data import export
from polymicros_jax.data.volume import OrientationVolume
from polymicros_jax.orientation import grains
from polymicros_jax.results import Results, table


def run(objects: experiment.Conversion, workdir: Path) -> Results:
    """Writes the volume into the workdir in every format asked for."""
    volume = objects.volume
    files = [export.write(volume, workdir / name, **options) for name, options in objects.outputs.items()]
    if objects.damask:
        labels = _grains(volume, objects.grain_angle) if objects.grain_angle else None
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
    """Grain of every voxel, each phase segmented by its own symmetry."""
    labels = np.zeros(volume.shape, np.int32)
    for number in np.unique(volume.phase[volume.mask]).tolist():
        part = volume.only_phase(number)
        own = grains.segment(volume.quaternions, angle, part.group, mask=part.mask)
        labels[part.mask] = own[part.mask] + labels.max() + 1
    return labels
