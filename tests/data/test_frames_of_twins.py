"""Frames checked against nature: a coherent annealing twin of an fcc metal lies on a {111} plane that both crystals
share.

Where the angles are in the frame of the positions, the measured boundary is that plane (in a map: its trace). In a
wrong frame it is not, so that the right one can be told, up to what a trace cannot see: a half turn about the normal of
a map, and inversion.
"""

import dataclasses
import itertools
from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from polymicros_jax.data import ebsd, samples
from polymicros_jax.data.ebsd.frames import to_map
from polymicros_jax.data.volume import OrientationVolume, crop
from polymicros_jax.orientation import quaternion

SHARED = Path(__file__).parents[2].parent / "shared" / "data"
PLANES = np.array([[1, 1, 1], [1, 1, -1], [1, -1, 1], [-1, 1, 1]]) / np.sqrt(3)


def faces(volume: OrientationVolume) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of observed neighbours (flat indices) and the midpoints between them, in voxels."""
    number = np.arange(volume.mask.size).reshape(volume.shape)
    pairs, midpoints = [], []
    for axis in range(3):
        low = tuple(slice(None, -1) if d == axis else slice(None) for d in range(3))
        high = tuple(slice(1, None) if d == axis else slice(None) for d in range(3))
        both = volume.mask[low] & volume.mask[high]
        pairs.append(np.stack([number[low][both], number[high][both]], axis=1))
        midpoints.append(np.argwhere(both) + 0.5 * np.eye(3)[axis])
    return np.concatenate(pairs), np.concatenate(midpoints)


def shared_plane(a: np.ndarray, b: np.ndarray) -> np.ndarray | None:
    """Normal, in the frame of the orientations, of the {111} plane two crystals have in common to 3 degrees."""
    first, second = (PLANES @ np.asarray(quaternion.to_matrix(q), dtype=float) for q in (a, b))
    overlap = np.abs(first @ second.T)
    i, _ = np.unravel_index(overlap.argmax(), overlap.shape)
    return first[i] if overlap.max() > np.cos(np.radians(3)) else None


def twin_boundaries(volume: OrientationVolume, label: np.ndarray, smallest: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """For every pair of grains in twin relation: eigenvectors of its boundary (smallest extent first) and the shared
    normal."""
    pairs, midpoints = faces(volume)
    grain = np.sort(label.reshape(-1)[pairs], axis=1)
    q = volume.quaternions.reshape(-1, 4)
    other = grain[:, 0] != grain[:, 1]
    pairs, midpoints, grain = pairs[other], midpoints[other], grain[other]
    angle = np.degrees(np.asarray(quaternion.disorientation(q[pairs[:, 0]], q[pairs[:, 1]], "432")))
    twin = (angle > 57) & (angle < 62.9)
    pairs, midpoints, grain = pairs[twin], midpoints[twin], grain[twin]
    _, which, count = np.unique(grain, axis=0, return_inverse=True, return_counts=True)
    found = []
    for k in np.flatnonzero(count >= smallest):
        mine = np.flatnonzero(which.reshape(-1) == k)
        points = midpoints[mine] - midpoints[mine].mean(axis=0)
        spread, axes = np.linalg.eigh(points.T @ points / len(points))
        # Planar boundaries only: thickness below 1.2 voxels, extent well above.
        if spread[-2 if volume.shape[2] > 1 else -1] < 8 * max(spread[0 if volume.shape[2] > 1 else 1], 0.1):
            continue
        one, two = pairs[mine[len(mine) // 2]]
        normal = shared_plane(q[one], q[two])
        if normal is not None and spread[0] < 1.5:
            found.append((axes, normal))
    return found


def trace_angles(volume: OrientationVolume) -> np.ndarray:
    """Degrees between the measured and the predicted trace of every straight twin boundary of a map."""
    pairs, _ = faces(volume)
    q = volume.quaternions.reshape(-1, 4)
    same = np.asarray(quaternion.disorientation(q[pairs[:, 0]], q[pairs[:, 1]], "432")) < np.radians(5)
    edges = pairs[same].T
    graph = coo_matrix((np.ones(edges.shape[1]), edges), shape=(volume.mask.size,) * 2)
    _, label = connected_components(graph, directed=False)
    found = []
    for axes, normal in twin_boundaries(volume, label.reshape(volume.shape), 12):
        trace = np.array([-normal[1], normal[0], 0.0])
        if np.linalg.norm(trace) > 0.5:  # steep planes only: the trace of a flat one is ill-defined
            cosine = abs(trace @ axes[:, -1]) / np.linalg.norm(trace)
            found.append(np.degrees(np.arccos(min(1.0, cosine))))
    return np.array(found)


def assert_frame_is(volume: OrientationVolume, frame: str) -> None:
    """Nine of ten traces within 10 degrees in the right frame; at random one of nine would be. The wrong ones fail."""
    for candidate in ("edax", "oxford", "none"):
        angles = trace_angles(to_map(volume, candidate))
        share = float(np.mean(angles < 10))
        assert len(angles) >= 20
        assert share > 0.85 if candidate == frame else share < 0.3


def test_edax_frame_on_bundled_sections() -> None:
    raw = samples.load("in100_raw_slices")
    good = dataclasses.replace(raw, mask=raw.mask & (raw.fields["confidence"] >= 0.05))
    assert_frame_is(crop(good, (0, 0, 4), (189, 201, 5)), "edax")


@pytest.mark.skipif(not SHARED.is_dir(), reason="the published files are not here")
@pytest.mark.parametrize(
    ("path", "frame"),
    [
        ("exp2d_ni_edax_ebsdlib/EdaxAngOnly.h5", "edax"),
        ("exp2d_nisuperalloy_defdap/testDataEBSD.cpr", "oxford"),
    ],
    ids=["EDAX", "Oxford"],
)
def test_frames_of_both_vendors(path: str, frame: str) -> None:
    assert_frame_is(ebsd.read(SHARED / path, frame="none"), frame)


def test_in100_volume_has_positions_and_orientations_in_one_frame() -> None:
    volume = samples.load("in100")
    boundaries = twin_boundaries(volume, volume.fields["grain"], 80)
    assert len(boundaries) >= 80
    shares = {}
    for order in itertools.permutations(range(3)):
        for signs in itertools.product((1.0, -1.0), repeat=3):
            turn = np.eye(3)[list(order)] * np.array(signs)[:, None]
            if np.linalg.det(turn) > 0:
                cosines = [min(1.0, abs(axes[:, 0] @ turn @ normal)) for axes, normal in boundaries]
                shares[tuple(turn.ravel())] = float(np.mean(np.degrees(np.arccos(cosines)) < 10))
    right = shares.pop(tuple(np.eye(3).ravel()))
    # Three of four boundaries are coherent; any other of the 24 frames leaves what chance leaves.
    assert right > 0.6
    assert max(shares.values()) < 0.25
