"""Shape-based interpolation between sections: signed distances per grain, the strong classical baseline.

Between two known sections every grain's signed in-plane distance (positive inside) is interpolated linearly, and each
voxel goes to the grain with the largest value (Raya & Udupa 1990, for one object; here for all grains at once). A
planar boundary, however tilted, is recovered to half a voxel as long as the two sections show the same grains.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import ndimage

from polymicros_jax.orientation.matching import close_pairs, components, group_means
from polymicros_jax.orientation.quaternion import disorientation
from polymicros_jax.orientation.sections import nearest_known, require_axis, sections
from polymicros_jax.types import ArrayLike


def shape_based(
    q: Float[ArrayLike, "nx ny nz 4"],
    known: Bool[ArrayLike, "nx ny nz"],
    group: str = "432",
    *,
    threshold: float = np.deg2rad(5.0),
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0),
) -> Float[np.ndarray, "nx ny nz 4"]:
    """Fills missing sections by interpolating the signed distance of every grain between the known ones.

    A grain is a set of in-plane regions whose mean orientations agree within `threshold`, over both sections. A grain
    that one of the two sections lacks counts there as a point above or below its most interior voxel, while the grains
    around keep their full distances: it tapers and ends on the way. (Letting it taper all the way to the point raises
    the error on Inconel 100 from 4.7 to 4.9 degrees.)

    A filled voxel gets the orientation of the nearest voxel of its grain in the nearer of the two sections, so
    gradients inside grains survive. Unknown points of a known section are first filled by their nearest known voxel;
    outside the first and the last section the nearest one is copied.

    Args:
        q: Orientations; unknown ones are not read.
        known: True where measured.
        group: Crystal symmetry.
        threshold: Disorientation in radians below which neighbours, and regions, are one grain.
        spacing: Voxel size along x, y, z; only the ratio of the two in-plane sizes matters.

    Raises:
        ValueError: no axis along which whole sections are missing, nothing known, or nothing missing.

    >>> x, y = np.mgrid[:8, :8]
    >>> tilted = np.stack([np.where(x < 2 + 2 * z, 0.0, 0.3) for z in range(3)], axis=-1)  # a boundary on the move
    >>> q = np.stack([np.cos(tilted), np.sin(tilted), 0 * tilted, 0 * tilted], axis=-1)
    >>> filled = shape_based(q, np.broadcast_to([True, False, True], (8, 8, 3)))
    >>> bool(np.allclose(filled, q))  # half-way, as it should
    True
    """
    mask = np.asarray(known)
    axis = require_axis(mask, "shape_based")
    planes = np.flatnonzero(sections(mask, axis))
    in_plane = tuple(spacing[a] for a in range(3) if a != axis)
    # Views with the section axis first: writing to `result` writes to `filled`.
    filled = np.array(nearest_known(q, mask))
    result = np.moveaxis(filled, axis, 0)
    measured = {int(plane): result[plane].copy() for plane in planes}
    regions = {plane: segment_plane(image, group, threshold) for plane, image in measured.items()}
    for lower, upper in zip(planes[:-1].tolist(), planes[1:].tolist(), strict=True):
        if upper - lower == 1:
            continue
        images = (measured[lower], measured[upper])
        grains = match_regions(images, (regions[lower], regions[upper]), group, threshold)
        between = np.arange(1, upper - lower) / (upper - lower)
        section, source = interpolate_labels(*grains, between, in_plane)
        both = np.stack(images).reshape(2, -1, 4)
        result[lower + 1 : upper] = both[section, source]
    return np.where(mask[..., None], np.asarray(q), filled)


def segment_plane(image: Float[np.ndarray, "r c 4"], group: str, threshold: float) -> Int[np.ndarray, "r c"]:
    """Numbers 0, 1, ... of regions connected through edge neighbours that differ by less than `threshold` radians.

    >>> angle = np.array([[0.0, 0.01, 0.3], [0.0, 0.3, 0.31]])
    >>> image = np.stack([np.cos(angle), np.sin(angle), 0 * angle, 0 * angle], axis=-1)
    >>> segment_plane(image, "432", np.radians(5.0)).tolist()
    [[0, 0, 1], [0, 1, 1]]
    """
    rows, columns = image.shape[:2]
    number = np.arange(rows * columns).reshape(rows, columns)
    across = np.asarray(disorientation(image[:, 1:], image[:, :-1], group)) < threshold
    down = np.asarray(disorientation(image[1:], image[:-1], group)) < threshold
    start = np.concatenate([number[:, 1:][across], number[1:][down]])
    stop = np.concatenate([number[:, :-1][across], number[:-1][down]])
    return components(start, stop, number.size).reshape(rows, columns)


def match_regions(
    images: tuple[Float[np.ndarray, "r c 4"], Float[np.ndarray, "r c 4"]],
    regions: tuple[Int[np.ndarray, "r c"], Int[np.ndarray, "r c"]],
    group: str,
    threshold: float,
) -> tuple[Int[np.ndarray, "r c"], Int[np.ndarray, "r c"]]:
    """Grain numbers of two sections: regions whose mean orientations agree within `threshold` are one grain.

    >>> angle = np.array([[0.0, 0.3]])
    >>> image = np.stack([np.cos(angle), np.sin(angle), 0 * angle, 0 * angle], axis=-1)
    >>> lower, upper = match_regions((image, image[:, ::-1]), (np.array([[0, 1]]),) * 2, "432", np.radians(5.0))
    >>> lower.tolist(), upper.tolist()
    ([[0, 1]], [[1, 0]])
    """
    first, second = (int(region.max()) + 1 for region in regions)
    shifted = np.stack([regions[0], regions[1] + first])
    means = group_means(np.stack(images).reshape(-1, 4), shifted.ravel(), first + second, group)
    pairs = close_pairs(means, threshold, group)
    grains = components(pairs[:, 0], pairs[:, 1], first + second)[shifted]
    return grains[0], grains[1]


def interpolate_labels(
    lower: Int[np.ndarray, "r c"],
    upper: Int[np.ndarray, "r c"],
    positions: Float[np.ndarray, " k"],
    spacing: tuple[float, ...] = (1.0, 1.0),
) -> tuple[Int[np.ndarray, "k r c"], Int[np.ndarray, "k r c"]]:
    """The grain map at relative `positions` in (0, 1) between two, told by where each voxel copies from.

    Returns:
        The section to copy from (0 lower, 1 upper) and the flat in-plane index there. The section is the nearer one
        that shows the winning grain (half-way: the lower), the index its nearest voxel.

    >>> lower, upper = np.array([[0, 0, 0, 0, 1, 1]]), np.array([[0, 0, 1, 1, 1, 1]])
    >>> section, index = interpolate_labels(lower, upper, np.array([0.5]))
    >>> np.where(section == 0, lower.ravel()[index], upper.ravel()[index]).tolist()
    [[[0, 0, 0, 1, 1, 1]]]
    """
    shape = (len(positions), *lower.shape)
    best = np.full(shape, -np.inf)
    section, source = np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=np.int64)
    flat = np.arange(lower.size).reshape(lower.shape)
    for label in np.union1d(lower, upper):
        inside = (lower == label, upper == label)
        shapes = {side: signed_distance(mask, spacing) for side, mask in enumerate(inside) if mask.any()}
        distances = taper([shapes[side][0] if side in shapes else None for side in (0, 1)], spacing)
        for k, position in enumerate(positions):
            nearer = int(position > 0.5)
            side = nearer if nearer in shapes else 1 - nearer
            score = (1 - position) * distances[0] + position * distances[1]
            wins = score > best[k]
            best[k][wins], section[k][wins] = score[wins], side
            source[k][wins] = flat[tuple(shapes[side][1])][wins]
    return section, source


def signed_distance(
    mask: Bool[np.ndarray, "r c"], spacing: tuple[float, ...] = (1.0, 1.0)
) -> tuple[Float[np.ndarray, "r c"], Int[np.ndarray, "2 r c"]]:
    """Distance to the boundary of a grain, positive inside, and the indices of the nearest voxel inside.

    The boundary runs half a voxel from the outermost centres, which makes the two sides symmetric.

    >>> distance, nearest = signed_distance(np.array([[False, True, True, True, False]]))
    >>> distance.tolist()
    [[-0.5, 0.5, 1.5, 0.5, -0.5]]
    """
    outside, index = ndimage.distance_transform_edt(~mask, sampling=spacing, return_indices=True)
    half = 0.5 * min(spacing)
    if mask.all():  # no boundary in sight: as far away as the section is wide
        inside = np.full(mask.shape, float(np.hypot(mask.shape[0] * spacing[0], mask.shape[1] * spacing[1])))
    else:
        inside = ndimage.distance_transform_edt(mask, sampling=spacing) - half
    return np.where(mask, inside, half - outside), index


def taper(
    distances: Sequence[Float[np.ndarray, "r c"] | None], spacing: tuple[float, ...] = (1.0, 1.0)
) -> list[Float[np.ndarray, "r c"]]:
    """Signed distances of a grain in two sections, one of which may lack it and counts as a point there (see `tip`).

    Raises:
        ValueError: both sections lack the grain.

    >>> there, gone = taper([np.array([[-0.5, 0.5, 1.5, 0.5, -0.5]]), None])
    >>> gone.tolist()  # a point below the middle of the grain
    [[-2.0, -1.0, 0.0, -1.0, -2.0]]
    """
    seen = [each for each in distances if each is not None]
    if not seen:
        raise ValueError("distances: neither section shows the grain")
    return [-_distance_from(tip(seen[0]), seen[0].shape, spacing) if each is None else each for each in distances]


def tip(distance: Float[np.ndarray, "r c"]) -> tuple[int, int]:
    """Where a grain ends in the section that lacks it: at its most interior voxel, the first of equals.

    >>> tip(np.array([[-0.5, 0.5, 1.5, 0.5, -0.5]]))
    (0, 2)
    """
    row, column = np.unravel_index(int(np.argmax(distance)), distance.shape)
    return int(row), int(column)


def _distance_from(
    point: tuple[int, int], shape: tuple[int, ...], spacing: tuple[float, ...]
) -> Float[np.ndarray, "r c"]:
    rows = (np.arange(shape[0]) - point[0]) * spacing[0]
    columns = (np.arange(shape[1]) - point[1]) * spacing[1]
    return np.hypot(rows[:, None], columns[None, :])
