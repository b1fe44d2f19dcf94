"""The convert task: a scan from one format to others."""

from pathlib import Path

from polymicros_jax import experiment
from polymicros_jax.data import export
from polymicros_jax.results import Results


def run(objects: experiment.Conversion, workdir: Path) -> Results:
    """Writes the volume into the workdir in every format asked for."""
    volume = objects.volume
    files = [export.write(volume, workdir / name, **options) for name, options in objects.outputs.items()]
    return Results(f"{objects.title}: {volume.shape} voxels, {100 * volume.mask.mean():.1f} % observed", files)
