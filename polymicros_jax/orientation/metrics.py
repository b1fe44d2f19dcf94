"""How far a reconstruction is from the reference: in degrees, and in grains.

Every score is taken on missing voxels only: known voxels are copied and would dilute it. Angles leave this module in
degrees, and names say so.
"""

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import sparse

from polymicros_jax.orientation import grains, rogsh
from polymicros_jax.orientation.matching import group_means, pairwise_disorientation
from polymicros_jax.orientation.uncertainty import disorientation_map
from polymicros_jax.types import ArrayLike

ROGSH_LOW = np.array([-0.456, -0.509, -0.456])
ROGSH_HIGH = np.array([0.456, 0.764, 0.655])
"""Ranges over all orientations of the three ROGSH channels, in the order of Eqs. 8 to 10 of the paper."""


def reconstruction_errors(
    reference_q: Float[ArrayLike, "nx ny nz 4"],
    reconstructed_q: Float[ArrayLike, "nx ny nz 4"],
    missing_mask: Bool[ArrayLike, "nx ny nz"],
    group: str = "432",
    *,
    observed: Bool[ArrayLike, "nx ny nz"] | None = None,
    grain_labels: Int[ArrayLike, "nx ny nz"] | None = None,
    threshold_deg: float = 5.0,
    reach: int = 4,
) -> dict[str, float | int | None]:
    """The table row of one reconstruction, on the voxels that were missing from its input.

    Args:
        reference_q: The truth.
        reconstructed_q: What was reconstructed.
        missing_mask: True where the input had nothing.
        group: Crystal symmetry.
        observed: True where the reference itself was measured; all by default.
        grain_labels: Grain number of each reference voxel, negative for none; segmented at `threshold_deg` by default.
        threshold_deg: Angle of a grain boundary, for the share of gross errors and for telling grains apart.
        reach: How far, in voxels, the rivals of a grain are looked for (see `wrong_grain`).

    Returns:
        `missing_voxels` (how many were scored), `mean_disorientation_deg`, `p95_disorientation_deg`,
        `share_above_5deg` (the key names the threshold) and `wrong_grain_share` (see `wrong_grain`), both as fractions,
        the latter None where no missing voxel belongs to a grain, and `mape_percent` (see `mape_percent`), None for
        symmetries other than 432.

    Raises:
        ValueError: no missing voxel was observed in the reference; or one that was has no orientation (zeros, NaN) in
            either volume.

    >>> truth = np.zeros((6, 1, 3, 4))
    >>> truth[..., 0] = 1.0
    >>> guess = truth.copy()
    >>> guess[:, :, 1] = [np.cos(np.radians(2.0)), np.sin(np.radians(2.0)), 0.0, 0.0]  # 4 degrees off
    >>> missing = np.broadcast_to([False, True, False], (6, 1, 3))
    >>> row = reconstruction_errors(truth, guess, missing)
    >>> row["missing_voxels"], round(row["mean_disorientation_deg"], 2), row["share_above_5deg"]
    (6, 4.0, 0.0)
    """
    scored = np.asarray(missing_mask)
    if observed is not None:
        scored = scored & np.asarray(observed)
    if not scored.any():
        raise ValueError("missing_mask: no voxel is both missing and observed in the reference; nothing can be scored")
    for name, q in (("reference_q", reference_q), ("reconstructed_q", reconstructed_q)):
        length = np.linalg.norm(np.asarray(q)[scored], axis=-1)
        if without := int((~(np.isfinite(length) & (length > 0))).sum()):
            raise ValueError(f"{name}: {without} of {len(length)} scored voxels have no orientation (zeros or NaN)")
    error = np.asarray(disorientation_map(reference_q, reconstructed_q, group))[scored]
    labels = grain_labels
    if labels is None:
        labels = grains.segment(reference_q, float(np.deg2rad(threshold_deg)), group, mask=observed)
    wrong = wrong_grain(reference_q, reconstructed_q, labels, scored, group, threshold_deg=threshold_deg, reach=reach)
    in_grain = scored & (np.asarray(labels) >= 0)
    return {
        "missing_voxels": int(scored.sum()),
        "mean_disorientation_deg": float(error.mean(dtype=np.float64)),
        "p95_disorientation_deg": float(np.percentile(error, 95)),
        f"share_above_{threshold_deg:g}deg": float((error > threshold_deg).mean()),
        "wrong_grain_share": float(wrong[in_grain].mean()) if in_grain.any() else None,
        "mape_percent": mape_percent(reference_q, reconstructed_q, scored) if group == "432" else None,
    }


def wrong_grain(
    reference_q: Float[ArrayLike, "nx ny nz 4"],
    reconstructed_q: Float[ArrayLike, "nx ny nz 4"],
    grain_labels: Int[ArrayLike, "nx ny nz"],
    missing_mask: Bool[ArrayLike, "nx ny nz"],
    group: str = "432",
    *,
    threshold_deg: float = 5.0,
    reach: int = 4,
) -> Bool[np.ndarray, "nx ny nz"]:
    """Missing voxels whose reconstructed orientation belongs to another grain.

    A voxel is in the wrong grain when its reconstructed orientation is nearer to the mean orientation of a rival than
    to the mean of its own grain. Rivals are the grains found within `reach` voxels of its own grain along a coordinate
    axis and whose mean differs from it by more than `threshold_deg`. This asks where the boundary was put, not how
    exact the orientation is: a blurred orientation on the right side of the boundary counts as right, and its error
    shows in the mean disorientation instead. Only nearby grains compete, since among many grains of a volume some lie
    close to any orientation by chance.

    Args:
        reference_q: The truth; grain means are taken from it.
        reconstructed_q: What was reconstructed.
        grain_labels: Grain number of each reference voxel; negative for none (such voxels are never wrong).
        missing_mask: Voxels to judge.
        group: Crystal symmetry.
        threshold_deg: Grains closer than this are one for the purpose (fragments of a grain, twins of a twin).
        reach: In voxels; half the largest gap or more, so that the grain a slice was copied from is among the rivals.

    Returns:
        True at missing voxels in the wrong grain, False everywhere else.

    >>> angle = np.array([0.0, 0.0, 0.3, 0.3]).reshape(4, 1, 1)
    >>> truth = np.stack([np.cos(angle), np.sin(angle), 0 * angle, 0 * angle], axis=-1)
    >>> guess = truth[[0, 0, 0, 3]]  # the third voxel was copied from the other grain
    >>> missing = np.array([False, True, True, False]).reshape(4, 1, 1)
    >>> wrong_grain(truth, guess, np.array([0, 0, 1, 1]).reshape(4, 1, 1), missing).ravel().tolist()
    [False, False, True, False]
    """
    labels, missing = np.asarray(grain_labels), np.asarray(missing_mask)
    inside = labels >= 0
    wrong = np.zeros(labels.shape, dtype=bool)
    if not inside.any():
        return wrong
    numbers, members = np.unique(labels[inside], return_inverse=True)
    compact = np.full(labels.shape, -1, dtype=np.int64)
    compact[inside] = members
    means = group_means(np.asarray(reference_q)[inside], members, len(numbers), group)
    rivals = neighbouring_grains(compact, len(numbers), reach)
    judged = np.flatnonzero((missing & inside).ravel())
    judged = judged[np.argsort(compact.ravel()[judged], kind="stable")]
    owner = compact.ravel()[judged]
    values = np.asarray(reconstructed_q).reshape(-1, 4)
    starts = np.searchsorted(owner, np.arange(len(numbers) + 1))
    for grain in np.unique(owner):
        near = rivals.indices[rivals.indptr[grain] : rivals.indptr[grain + 1]]
        own_mean = means[grain : grain + 1]
        between = pairwise_disorientation(own_mean, means[near], group)[0]
        rival = between > np.deg2rad(threshold_deg)
        if not rival.any():
            continue
        voxels = judged[starts[grain] : starts[grain + 1]]
        own = pairwise_disorientation(values[voxels], own_mean, group)[:, 0]
        # By the triangle inequality nobody is nearer than the own grain below half the distance to the nearest rival.
        doubtful = own > 0.5 * between[rival].min()
        distance = pairwise_disorientation(values[voxels[doubtful]], means[near[rival]], group)
        wrong.ravel()[voxels[doubtful]] = distance.min(axis=1) < own[doubtful]
    return wrong


def neighbouring_grains(labels: Int[np.ndarray, "nx ny nz"], count: int, reach: int = 1) -> sparse.csr_matrix:
    """Which grains 0 .. count-1 come within `reach` voxels of each other along x, y or z: symmetric (count, count).

    Negative labels are no grain. A grain is no neighbour of itself.

    >>> neighbouring_grains(np.array([0, 0, 1, 1, 2, 2]).reshape(6, 1, 1), 3).toarray().astype(int).tolist()
    [[0, 1, 0], [1, 0, 1], [0, 1, 0]]
    """
    found = []
    for axis in range(3):
        along = np.moveaxis(labels, axis, 0)
        for step in range(1, min(reach, along.shape[0] - 1) + 1):
            a, b = along[:-step].ravel(), along[step:].ravel()
            differ = (a != b) & (a >= 0) & (b >= 0)
            found.append(np.unique(a[differ].astype(np.int64) * count + b[differ]))
    codes = np.unique(np.concatenate(found)) if found else np.zeros(0, dtype=np.int64)
    rows = np.concatenate([codes // count, codes % count])
    columns = np.concatenate([codes % count, codes // count])
    matrix = sparse.coo_matrix((np.ones(len(rows), dtype=bool), (rows, columns)), shape=(count, count)).tocsr()
    matrix.sum_duplicates()
    return matrix


def mape_percent(
    reference_q: Float[ArrayLike, "nx ny nz 4"],
    reconstructed_q: Float[ArrayLike, "nx ny nz 4"],
    scored: Bool[ArrayLike, "nx ny nz"],
) -> float:
    """The paper's error figure (Sec. 5.1): mean absolute error of the three ROGSH channels, in percent of range.

    Each channel is mapped to [0, 1] by its range over all orientations (`ROGSH_LOW`, `ROGSH_HIGH`). The error is then
    a percentage of that range, averaged over the scored voxels and channels. It is not divided by the mapped value of
    the voxel, which comes arbitrarily close to zero: that quotient is set by the few voxels nearest to the end of the
    range. Cubic symmetry only.

    >>> q = np.zeros((2, 1, 1, 4))
    >>> q[..., 0] = 1.0
    >>> mape_percent(q, q, np.ones((2, 1, 1), bool))
    0.0
    """
    where = np.asarray(scored)
    channels = [np.asarray(rogsh.encode(np.asarray(q)[where])) for q in (reference_q, reconstructed_q)]
    share = np.abs(channels[0] - channels[1]) / (ROGSH_HIGH - ROGSH_LOW)[None, :]
    return float(100.0 * share.mean(dtype=np.float64))
