"""How the file formats name Laue groups, as proper rotation groups."""

DREAM3D_CODES = {
    "622": 0,
    "432": 1,
    "6": 2,
    "23": 3,
    "1": 4,
    "2": 5,
    "222": 6,
    "4": 7,
    "422": 8,
    "3": 9,
    "32": 10,
}
"""Proper rotation group to the number in DREAM.3D's `CrystalStructures`."""

DREAM3D_GROUPS = {code: group for group, code in DREAM3D_CODES.items()}

TSL_CODES = {
    "1": 1,
    "2": 20,
    "222": 22,
    "4": 4,
    "422": 42,
    "3": 3,
    "32": 32,
    "6": 6,
    "622": 62,
    "23": 23,
    "432": 43,
}
"""Proper rotation group to the number in the `Symmetry` line of EDAX files."""

TSL_GROUPS = {code: group for group, code in TSL_CODES.items()} | {2: "2"}

HKL_GROUPS = {
    1: "1",
    2: "2",
    3: "222",
    4: "4",
    5: "422",
    6: "3",
    7: "32",
    8: "6",
    9: "622",
    10: "23",
    11: "432",
}
"""Number of the Laue group in Oxford files to the proper rotation group."""

_LAST_SPACE_GROUP = (
    (2, "1"),
    (15, "2"),
    (74, "222"),
    (88, "4"),
    (142, "422"),
    (148, "3"),
    (167, "32"),
    (176, "6"),
    (194, "622"),
    (206, "23"),
    (230, "432"),
)


def from_space_group(number: int) -> str | None:
    """Proper rotation group of the Laue class of a space group, None outside 1 to 230.

    >>> from_space_group(225), from_space_group(194)
    ('432', '622')
    """
    if number < 1:
        return None
    return next((group for last, group in _LAST_SPACE_GROUP if number <= last), None)
