"""Input of the DAMASK grid solver: a geometry (`.vti`) and the orientations of its materials (`material.yaml`).

DAMASK stores a rotation by the quaternion ``(w, -x, -y, -z)`` of the one used here for the same Bunge angles (its P =
-1 against P = +1 of Rowenhorst et al., Modelling Simul. Mater. Sci. Eng. 23 (2015) 083501), so the vector part changes
sign on the way out.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from polymicros_jax.data.atomic import replacing
from polymicros_jax.data.errors import DataError
from polymicros_jax.data.export.vti import write_vti
from polymicros_jax.data.volume import OrientationVolume
from polymicros_jax.orientation import quaternion
from polymicros_jax.orientation.matching import group_means


def write_damask(
    volume: OrientationVolume,
    path: str | Path,
    *,
    grains: np.ndarray | None = None,
    phases: Mapping[str, Mapping[str, Any]] | None = None,
) -> tuple[Path, Path]:
    """Writes ``path`` (geometry, metres) and ``material.yaml`` beside it.

    Args:
        volume: what to simulate; every voxel must be observed (see `data.repair.fill`).
        path: the geometry, `.vti`.
        grains: ``(nx, ny, nz)`` integer ids from 0 on; voxels of one id and phase become one material with their mean
            orientation. A number below 0 is no grain (`orientation.grains.UNASSIGNED`). By default voxels share a
            material where phase and quaternion are identical.
        phases: phase name to its DAMASK entry (lattice, mechanical, ...), JSON-compatible. Names are the volume's
            ``provenance["phases"]``, or ``phase_1``, ``phase_2``.

    Returns:
        The two paths.

    Raises:
        DataError: unobserved voxels, `grains` of another shape or type or with voxels of no grain, entries for a phase
            that the volume has not, or two phases of one name, which DAMASK cannot tell apart.

    >>> from polymicros_jax.data.simulated import load
    >>> volume = load("simulated/voronoi?side=8&grains=5")
    >>> geometry, material = write_damask(volume, "grains.vti")
    >>> geometry.name, material.name, material.read_text().count("phase_1")
    ('grains.vti', 'material.yaml', 6)
    """
    missing = int((~volume.mask).sum())
    if missing:
        raise DataError(
            f"{path}: mask: found {missing} unobserved voxels, accepted are none; fill them with data.repair.fill"
        )
    if grains is not None:
        grains = np.asarray(grains)
        if grains.shape != volume.shape or grains.dtype.kind not in "iu":
            raise DataError(
                f"{path}: grains: found {grains.dtype} of shape {grains.shape}, accepted are integers of {volume.shape}"
            )
        if grains.min() < 0:
            raise DataError(
                f"{path}: grains: found {int((grains < 0).sum())} voxels of no grain (a number below 0), accepted are "
                "none: they would share one orientation; segment without a minimum size, or give them a grain"
            )
    names = volume.phase_names
    unknown = sorted(set(phases or {}) - set(names))
    if unknown:
        raise DataError(f"{path}: phases: found {unknown[0]!r}, accepted are the volume's, {', '.join(names)}")
    material, phase, q = _materials(volume, grains)
    used = [names[number - 1] for number in np.unique(phase)]
    if len(set(used)) < len(used):
        raise DataError(f"{path}: provenance['phases']: found {used}, accepted is a name for each phase")
    geometry = write_vti(
        path,
        {"material": material.astype(np.int64)},
        [h * 1e-6 for h in volume.spacing],
        comment="DAMASK geometry, lengths in metres; materials are in material.yaml",
    )
    table = write_material_yaml(geometry.with_name("material.yaml"), [names[p - 1] for p in phase], q, phases)
    return geometry, table


def _materials(volume: OrientationVolume, grains: np.ndarray | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Material id of every voxel, and phase and orientation of every material."""
    q = np.asarray(quaternion.canonical(volume.quaternions)).reshape(-1, 4)
    phase = np.maximum(volume.phase, 1).reshape(-1)
    if grains is None:
        keys = np.concatenate([phase[:, None].astype(np.float32), q], axis=1)
        _, first, inverse = np.unique(keys, axis=0, return_index=True, return_inverse=True)
        return inverse.reshape(volume.shape), phase[first], q[first]
    pairs = np.stack([phase, grains.reshape(-1)], axis=1)
    _, first, inverse = np.unique(pairs, axis=0, return_index=True, return_inverse=True)
    inverse = inverse.reshape(-1)
    mean = np.empty((len(first), 4))
    for number in np.unique(phase):
        voxels, materials = phase == number, phase[first] == number
        means = group_means(q[voxels], inverse[voxels], len(first), volume.phase_groups[number - 1])
        mean[materials] = means[materials]
    return inverse.reshape(volume.shape), phase[first], mean.astype(np.float32)


def write_material_yaml(
    path: str | Path, phase: list[str], q: np.ndarray, phases: Mapping[str, Mapping[str, Any]] | None = None
) -> Path:
    """Writes a DAMASK 3 material configuration with one constituent per material.

    Args:
        path: file to write.
        phase: phase name of every material.
        q: ``(materials, 4)`` Bunge passive quaternions, as everywhere in this package.
        phases: phase name to its DAMASK entry; a phase without one gets an empty entry to fill in, since neither
            lattice nor constitutive law are in a scan.

    >>> cube = np.array([[1.0, 0.0, 0.0, 0.0]])
    >>> path = write_material_yaml("material.yaml", ["Ni"], cube, {"Ni": {"lattice": "cF"}})
    >>> "cF" in path.read_text()
    True
    """
    components = np.asarray(q, dtype=float) * np.array([1.0, -1.0, -1.0, -1.0])
    components /= np.linalg.norm(components, axis=1, keepdims=True)
    entries = phases or {}
    lines = ["---", "homogenization:", "  SX:", "    N_constituents: 1", "    mechanical: {type: pass}", "", "phase:"]
    lines += [f"  {json.dumps(name)}: {json.dumps(dict(entries.get(name, {})))}" for name in sorted(set(phase))]
    lines += ["", "material:"]
    for name, values in zip(phase, components, strict=True):
        numbers = ", ".join(repr(float(value)) for value in values)
        lines += [
            "- homogenization: SX",
            "  constituents:",
            f"  - {{phase: {json.dumps(name)}, v: 1.0, O: [{numbers}]}}",
        ]
    target = Path(path)
    with replacing(target) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return target
