"""Comparison with the GSH tables of pymks 0.4.1 (MIT), for 432 and 622 to degree 16 and no symmetry to degree 4.

pymks installs but cannot be imported with current packages (it needs `pkg_resources`, and a Dask without pyarrow), so
the values its table functions return for three orientations, not its code, are stored in
`tests/reference/pymks_gsh.npz`. Its functions carry the factor (2l+1). Its hexagonal and triclinic tables take Bunge
angles as we do; its cubic table is symmetric in phi1, so it was evaluated with phi1 and phi2 exchanged.
"""

from pathlib import Path

import numpy as np
import pytest

from polymicros_jax.orientation import harmonics, quaternion

pytestmark = [pytest.mark.reference, pytest.mark.usefixtures("x64")]
TABLES = Path(__file__).parents[1] / "reference" / "pymks_gsh.npz"


def table(group: str) -> tuple[np.ndarray, dict[int, tuple[np.ndarray, np.ndarray]]]:
    """Euler angles, and by degree the rows (degree, sample index, crystal index) with the value at each orientation."""
    with np.load(TABLES) as stored:
        euler, index, values = stored["euler"], stored[f"index_{group}"].astype(int), stored[f"values_{group}"]
    return euler, {
        degree: (index[index[:, 0] == degree], values[:, index[:, 0] == degree]) for degree in set(index[:, 0].tolist())
    }


@pytest.mark.parametrize(("group", "degrees", "count"), [("432", range(17), 283), ("622", range(17), 551)])
def test_symmetrised_harmonics(group, degrees, count):
    """The same functions up to the choice of an orthonormal basis of the crystal functions of each degree.

    That choice is free: a sign where there is one function, a unitary matrix where there are more. Their tables are
    polynomials with alternating coefficients and lose digits with the degree: 1e-10 at degree 16.
    """
    euler, by_degree = table(group)
    q = quaternion.from_euler(euler)
    assert sum(len(index) for index, _ in by_degree.values()) == count
    assert set(by_degree) == {degree for degree in degrees if harmonics.multiplicity(degree, group)}
    for degree, (index, values) in by_degree.items():
        ours = (2 * degree + 1) * np.asarray(harmonics.symmetrised(q, degree, group))
        theirs = np.zeros_like(ours)
        theirs[:, degree + index[:, 1], index[:, 2] - 1] = values
        ours, theirs = (each.reshape(-1, each.shape[-1]) for each in (ours, theirs))
        mixing = np.linalg.lstsq(ours, theirs)[0]  # 3 (2 degree + 1) equations for at most 3 unknowns a column
        np.testing.assert_allclose(ours @ mixing, theirs, atol=(2 * degree + 1) * 1e-10)
        np.testing.assert_allclose(np.conj(mixing.T) @ mixing, np.eye(len(mixing)), atol=1e-10)


def test_wigner_functions():
    """Without symmetry; their second index is the sample's, their third the crystal's."""
    euler, by_degree = table("1")
    q = quaternion.from_euler(euler)
    for degree, (index, values) in by_degree.items():
        ours = np.asarray(harmonics.wigner(q, degree))[:, degree + index[:, 2], degree + index[:, 1]]
        np.testing.assert_allclose((2 * degree + 1) * ours, values, atol=1e-13)


def test_cubic_table_needs_the_exchanged_angles():
    """Negative control: at the same angles the cubic functions are others."""
    euler, by_degree = table("432")
    index, values = by_degree[4]
    ours = np.asarray(harmonics.symmetrised(quaternion.from_euler(euler[:, ::-1]), 4, "432"))
    assert np.abs(9 * ours[:, 4 + index[:, 1], 0] - values).max() > 1
