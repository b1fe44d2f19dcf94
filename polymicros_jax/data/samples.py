"""Volumes that travel with the package: measured ones, with the split between training and evaluation, and generated.

`names` lists them, `load` reads one. Grain-averaged volumes are stored as a grain id per voxel and one orientation per
grain; raw maps as the integers their text files hold. `launch/bundle_samples.py` makes the files from the published
sources and from a dataset; the data card (`docs/data_card.md`) says what each is.
"""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np

from polymicros_jax.data.errors import DataError
from polymicros_jax.data.volume import OrientationVolume, crop
from polymicros_jax.orientation import quaternion

FOLDER = Path(__file__).parent / "bundled"

RAW = "_raw_slices"
"""Ending of a sample of raw maps, of the specimen whose volume is named without it."""

SPLITS: dict[str, dict[str, tuple[int, int]]] = {
    "in100": {"train": (0, 62), "evaluate": (64, 100)},
    "al1050": {"train": (0, 70), "evaluate": (72, 109)},
}
"""Range of voxels along x, per sample and split. The two voxels between the parts belong to neither, so that no patch
of one touches a voxel of the other."""


def names() -> tuple[str, ...]:
    """Names of the bundled samples.

    >>> names()
    ('al1050', 'generated_al1050', 'generated_in100', 'in100', 'in100_raw_slices')
    """
    return tuple(sorted(path.stem for path in FOLDER.glob("*.npz")))


def may_overlap(one: str, other: str) -> bool:
    """Whether two sources, samples with their split or paths, may hold the same voxels.

    >>> may_overlap("in100", "in100/evaluate"), may_overlap("in100_raw_slices", "in100/train")
    (True, True)
    >>> may_overlap("in100/train", "in100/evaluate"), may_overlap("scan1.h5", "scan10.h5")
    (False, False)
    """
    (first, _, part), (second, _, other_part) = (source.partition("/") for source in (one, other))
    same = first.removesuffix(RAW) == second.removesuffix(RAW)
    return one == other or (same and not (part and other_part))


def load(name: str, split: str = "all") -> OrientationVolume:
    """A bundled volume.

    Args:
        name: one of `names`.
        split: "all", or "train" or "evaluate" where `SPLITS` defines them: disjoint ranges along x. Weights and
            statistics that are judged on "evaluate" may have seen "train" only.

    Raises:
        DataError: there is no such sample or split.

    >>> volume = load("in100", "evaluate")
    >>> volume.shape, volume.spacing, volume.symmetry
    ((36, 100, 68), (0.25, 0.25, 0.25), '432')
    """
    path = FOLDER / f"{name}.npz"
    if name not in names():
        raise DataError(f"sample: found {name!r}, accepted are {', '.join(names())}")
    ranges = SPLITS.get(name, {})
    if split != "all" and split not in ranges:
        raise DataError(f"split of {name}: found {split!r}, accepted are {', '.join(['all', *ranges])}")
    with np.load(path, allow_pickle=False) as archive:
        arrays = {key: archive[key] for key in archive.files}
    header = json.loads(str(arrays["header"]))
    volume = _from_grains(arrays, header) if "grain" in arrays else _from_points(arrays, header)
    if split == "all":
        return volume
    start, stop = ranges[split]
    part = crop(volume, (start, 0, 0), (stop, *volume.shape[1:]))
    return dataclasses.replace(part, provenance={**part.provenance, "split": f"{split}: {start} <= x < {stop}"})


def _from_grains(arrays: dict[str, np.ndarray], header: dict[str, Any]) -> OrientationVolume:
    """Voxels take the orientation of their grain; a grain whose row is zero has none and is masked."""
    grain = arrays["grain"].astype(np.int32)
    q = arrays["orientation"][grain]
    mask = np.any(q != 0, axis=-1)
    return OrientationVolume(
        quaternions=q,
        phase=mask.astype(np.int32),
        mask=mask,
        spacing=tuple(header["spacing"]),
        symmetry=header["symmetry"],
        frame=header["frame"],
        provenance=header["provenance"],
        fields={"grain": grain},
    )


def _from_points(arrays: dict[str, np.ndarray], header: dict[str, Any]) -> OrientationVolume:
    """Every voxel has its own Euler angles, stored as the multiples of 1e-5 rad that the text file holds."""
    mask = arrays["mask"]
    euler = np.where(mask[..., None], arrays["euler"] * 1e-5, 0.0)
    q = np.asarray(quaternion.from_euler(euler.reshape(-1, 3).astype(np.float32))).reshape(*mask.shape, 4)
    return OrientationVolume(
        quaternions=q,
        phase=mask.astype(np.int32),
        mask=mask,
        spacing=tuple(header["spacing"]),
        symmetry=header["symmetry"],
        frame=header["frame"],
        provenance=header["provenance"],
        fields={
            "confidence": arrays["confidence"].astype(np.float32) / 1000,
            "image_quality": arrays["image_quality"].astype(np.float32) / 10,
        },
    )
