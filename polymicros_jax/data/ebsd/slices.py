"""A folder of maps as one volume: sections in the order of the numbers in their names."""

import dataclasses
import re
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from polymicros_jax.data.errors import DataError
from polymicros_jax.data.volume import OrientationVolume


def order(path: Path) -> list[tuple[int, str]]:
    """Sort key of a file name: text and numbers apart, so that slice 10 comes after slice 9.

    >>> [path.name for path in sorted([Path("slice_10.ang"), Path("slice_9.ang")], key=order)]
    ['slice_9.ang', 'slice_10.ang']
    """
    parts = re.split(r"(\d+)", path.stem.lower())
    return [(int(part), "") if part.isdigit() else (-1, part) for part in parts]


def sections(folder: Path, suffixes: Sequence[str]) -> list[Path]:
    """The maps of a folder, in order. Other files (notes, `.crc` beside `.cpr`) are ignored.

    Raises:
        DataError: there are none, or they are of several formats.

    >>> for name in ("s10.ang", "s9.ang", "notes.txt"):
    ...     Path(name).touch()
    >>> [path.name for path in sections(Path("."), [".ang"])]
    ['s9.ang', 's10.ang']
    """
    found = [path for path in folder.iterdir() if path.suffix.lower() in suffixes and not path.name.startswith(".")]
    kinds = {path.suffix.lower() for path in found}
    if len(kinds) != 1:
        what = f"maps of {sorted(kinds)}" if kinds else "no maps"
        raise DataError(f"{folder}: found {what}, accepted is a folder with maps of one of {', '.join(suffixes)}")
    return sorted(found, key=order)


def positions(files: Sequence[Path]) -> list[int]:
    """Place of each file of a stack, from the numbers in their names: a number left out is a section that is lost.

    Names whose numbers say nothing (there are none, or several that change) follow each other.

    Raises:
        DataError: names that differ in more than their numbers, or numbers that do not rise in even steps.

    >>> positions([Path("cut_3.ang"), Path("cut_5.ang"), Path("cut_9.ang")])  # every second was measured, 7 is lost
    [0, 1, 3]
    """
    words = {re.sub(r"\d+", "#", path.stem.lower()) for path in files}
    numbers = np.array([[int(each) for each in re.findall(r"\d+", path.stem)] for path in files if len(words) == 1])
    changing = np.flatnonzero((numbers != numbers[:1]).any(axis=0)) if numbers.size else np.zeros(0, int)
    if len(words) > 1 and all("#" in each for each in words):
        raise DataError(
            f"{files[0].parent}: found names like {', '.join(sorted(words))}, # a number; accepted is one kind of name"
        )
    # A number of six digits or more is a date or a time, not a place.
    if len(changing) != 1 or numbers[:, changing[0]].max() >= 100_000:
        return list(range(len(files)))
    steps = np.diff(numbers[:, changing[0]])
    if steps.min() < 1 or (steps % steps.min()).any():
        uneven = int(np.argmax(steps % max(1, steps.min()) != 0)) if steps.min() > 0 else int(np.argmin(steps))
        raise DataError(
            f"{files[0].parent}: found {files[uneven + 1].name} after {files[uneven].name}, accepted are numbers that "
            f"rise in steps of {max(1, steps.min())}"
        )
    return np.concatenate([[0], np.cumsum(steps // steps.min())]).tolist()


def read_folder(
    folder: Path, read_map: Callable[[Path], OrientationVolume], suffixes: Sequence[str], slice_spacing: float | None
) -> OrientationVolume:
    """Reads every map and stacks them along z, the first at z = 0.

    A section whose number is left out between the names is lost: a plane of unobserved voxels, and a warning.

    Args:
        folder: the folder.
        read_map: reader of one map.
        suffixes: of maps.
        slice_spacing: micrometres between sections, which no map file holds. Without it voxels are taken as cubes; a
            warning and the provenance say so.

    Raises:
        DataError: no maps, maps of different grids, or names that leave the place of a section open.

    >>> from polymicros_jax.data.ebsd.ang import read_ang
    >>> from polymicros_jax.data.export.ang import write_ang
    >>> from polymicros_jax.data.samples import load
    >>> folder = write_ang(load("in100").crop((0, 0, 0), (6, 5, 3)), Path("stack"), frame="none")
    >>> volume = read_folder(folder, lambda path: read_ang(path, "none"), [".ang"], slice_spacing=1.0)
    >>> volume.shape, volume.spacing
    ((6, 5, 3), (0.25, 0.25, 1.0))
    """
    if slice_spacing is not None and not (np.isfinite(slice_spacing) and slice_spacing > 0):
        raise DataError(f"{folder}: slice_spacing: found {slice_spacing}, accepted is a positive length in micrometres")
    files = sections(folder, suffixes)
    maps = [read_map(path) for path in files]
    spacing = maps[0].spacing[0] if slice_spacing is None else float(slice_spacing)
    if slice_spacing is None:
        warnings.warn(
            f"{folder}: no slice_spacing given; taking the step along x, {spacing:g} micrometres, as the distance of "
            f"sections",
            stacklevel=3,
        )
    places = positions(files)
    lost = sorted(set(range(places[-1] + 1)) - set(places))
    if lost:
        after = ", ".join(files[number].name for number in np.flatnonzero(np.diff(places) > 1))
        if len(lost) > len(files):
            raise DataError(
                f"{folder}: found {len(files)} sections with the numbers of {places[-1] + 1}, after {after}; accepted "
                "are names in which fewer are left out than are there"
            )
        warnings.warn(
            f"{folder}: {len(lost)} of {places[-1] + 1} sections are lost, after {after}: their voxels are unobserved",
            stacklevel=3,
        )
    nothing = _unobserved(maps[0])
    order_of = {place: number for number, place in enumerate(places)}
    planes = [maps[order_of[place]] if place in order_of else nothing for place in range(places[-1] + 1)]
    names = [str(files[order_of[place]]) if place in order_of else "a lost section" for place in range(len(planes))]
    volume = stack(planes, names, spacing)
    note = "given" if slice_spacing is not None else "assumed equal to the step along x"
    extra = {"source": folder.name, "sections": [path.name for path in files], "slice_spacing": note}
    return dataclasses.replace(volume, provenance={**volume.provenance, **extra})


def _unobserved(like: OrientationVolume) -> OrientationVolume:
    """A map of the same grid of which nothing is known."""
    fields = {
        name: np.full_like(values, np.nan if np.issubdtype(values.dtype, np.floating) else 0)
        for name, values in like.fields.items()
    }
    return dataclasses.replace(like, mask=np.zeros_like(like.mask), phase=np.zeros_like(like.phase), fields=fields)


def stack(maps: Sequence[OrientationVolume], names: Sequence[str], spacing: float) -> OrientationVolume:
    """Maps on the same grid as one volume, the first at z = 0.

    Raises:
        DataError: a volume, or a map of another grid or step, with its name; or a phase of two symmetries.

    >>> from polymicros_jax.data.samples import load
    >>> maps = [load("in100").crop((0, 0, k), (8, 8, k + 1)) for k in range(3)]
    >>> whole = stack(maps, ["a.ang", "b.ang", "c.ang"], spacing=1.0)
    >>> whole.shape, whole.spacing
    ((8, 8, 3), (0.25, 0.25, 1.0))
    """
    first = maps[0]
    for each, name in zip(maps, names, strict=True):
        if each.shape[2] != 1:
            raise DataError(f"{name}: found {each.shape[2]} sections, accepted is a map: one section a file")
        if each.shape != first.shape or not np.allclose(each.spacing[:2], first.spacing[:2], rtol=1e-3):
            raise DataError(
                f"{name}: found a grid of {each.shape[:2]} with steps {each.spacing[:2]}, accepted is that of "
                f"{names[0]}, {first.shape[:2]} with steps {first.spacing[:2]}"
            )
    maps, phases = _one_list_of_phases(maps, names)
    first = maps[0]
    common = set(first.fields).intersection(*(each.fields for each in maps))
    return dataclasses.replace(
        first,
        quaternions=np.concatenate([each.quaternions for each in maps], axis=2),
        phase=np.concatenate([each.phase for each in maps], axis=2),
        mask=np.concatenate([each.mask for each in maps], axis=2),
        spacing=(first.spacing[0], first.spacing[1], spacing),
        fields={name: np.concatenate([each.fields[name] for each in maps], axis=2) for name in sorted(common)},
        provenance={**first.provenance, **({"phases": phases} if phases else {})},
    )


def _one_list_of_phases(
    maps: Sequence[OrientationVolume], names: Sequence[str]
) -> tuple[Sequence[OrientationVolume], list[str]]:
    """Maps whose phase numbers mean the same in all, those of one name being one phase; and the names, if told.

    Raises:
        DataError: a phase has one symmetry here and another there.
    """
    told = [list(each.phase_names) for each in maps]
    if all(each == told[0] for each in told) and all(each.symmetry == maps[0].symmetry for each in maps):
        return maps, list(maps[0].provenance.get("phases", []))
    groups: dict[str, str] = {}
    seen_in: dict[str, str] = {}
    for each, own, file in zip(maps, told, names, strict=True):
        if len(set(own)) < len(own):
            raise DataError(
                f"{file}: phases: found {own}, accepted are different names where sections differ in theirs"
            )
        for phase, group in zip(own, each.phase_groups, strict=True):
            if groups.setdefault(phase, group) != group:
                raise DataError(
                    f"{file}: symmetry: found {group} for the phase {phase!r}, accepted is that of {seen_in[phase]}, "
                    f"{groups[phase]}"
                )
            seen_in.setdefault(phase, file)
    every = list(groups)
    numbered = []
    for each, own in zip(maps, told, strict=True):
        number = np.array([0, *(every.index(phase) + 1 for phase in own)], np.int32)
        numbered.append(
            dataclasses.replace(
                each,
                phase=number[np.clip(each.phase, 0, len(own))],
                symmetry=tuple(groups.values()),
                provenance={**each.provenance, "phases": every},
            )
        )
    return numbered, every
