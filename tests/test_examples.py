"""The examples of the docstrings run, and whatever a user is meant to call has one."""

import contextlib
import doctest
import importlib
import inspect
import pkgutil
import re
from pathlib import Path

import pytest

import polymicros_jax

# `main` defines command-line flags when it is imported, and has no examples.
MODULES = ["polymicros_jax"] + [
    found.name
    for found in pkgutil.walk_packages(polymicros_jax.__path__, "polymicros_jax.")
    if found.name != "polymicros_jax.main"
]

ROOT = [name for name in polymicros_jax.__all__ if not inspect.ismodule(getattr(polymicros_jax, name))]

FIXED = {
    "orientation.quaternion": ["from_euler", "to_euler", "multiply", "disorientation"],
    "orientation.rogsh": ["from_euler"],
    "orientation.embedding": ["encode", "decode"],
    "orientation.harmonics": ["symmetrised"],
    "spectral.two_point": ["correlations", "covariances", "orthogonal_planes"],
    "spectral.mosm": ["MosmParams", "covariance", "sample_params", "fit"],
    "spectral.random_field": ["sample_mosm", "sample_spectral", "sample_reference_row"],
    "diffusion.schedule": ["karras"],
    "diffusion.preconditioning": ["denoiser"],
    "diffusion.sampler": ["sample"],
    "models.unet3d": ["UNet3DConfig", "init", "apply"],
    "data.volume": ["OrientationVolume", "crop", "resample", "rotate_frame", "save", "load"],
    "data.ebsd": ["read"],
    "data.export": ["write", "write_ang", "write_damask", "write_dream3d", "write_paraview", "write_vti"],
    "reconstruct": ["super_resolve", "expand"],
}
"""The names that code outside this repository builds on, beside those of the package root."""

NUMBER = re.compile(r"-?\d+\.\d*(?:e[+-]?\d+)?")


class Rounded(doctest.OutputChecker):
    """Numbers with a point may differ by one unit of the last digit that the docstring shows.

    Float32 sums differ between processors, so a value next to a rounding edge falls to either side, and zero has either
    sign. Pytest's own collector has the same rule as its option NUMBER.
    """

    def check_output(self, want: str, got: str, optionflags: int) -> bool:
        wanted, found = NUMBER.findall(want), NUMBER.findall(got)
        if len(wanted) != len(found) or any(
            abs(float(w) - float(g)) > 1.001 * unit(w) for w, g in zip(wanted, found, strict=True)
        ):
            return super().check_output(want, got, optionflags)
        return super().check_output(NUMBER.sub("#", want), NUMBER.sub("#", got), optionflags)


def unit(number: str) -> float:
    """One in the last digit of a written number."""
    digits, _, exponent = number.partition("e")
    return 10.0 ** (int(exponent or 0) - len(digits.partition(".")[2]))


def run_examples(where: object, name: str, folder: Path) -> str:
    """What went wrong in the examples of a module; nothing where all is well. Each docstring has its own folder."""
    report: list[str] = []
    runner = doctest.DocTestRunner(Rounded(), verbose=False, optionflags=doctest.ELLIPSIS)
    for number, each in enumerate(test for test in doctest.DocTestFinder().find(where, name) if test.examples):
        place = folder / str(number)
        place.mkdir()
        with contextlib.chdir(place):
            runner.run(each, out=report.append)
    return "".join(report)


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name: str, tmp_path: Path) -> None:
    if failures := run_examples(importlib.import_module(name), name, tmp_path):
        pytest.fail(failures, pytrace=False)


def example_of(module: str, name: str) -> bool:
    """Whether the docstring of a public name shows a call."""
    return ">>>" in (inspect.getdoc(getattr(importlib.import_module(module), name)) or "")


@pytest.mark.parametrize(
    ("module", "name"),
    [("polymicros_jax", name) for name in ROOT]
    + [(f"polymicros_jax.{module}", name) for module, names in FIXED.items() for name in names],
)
def test_the_names_that_users_build_on_have_an_example(module: str, name: str) -> None:
    assert example_of(module, name), f"{module}.{name} has no example in its docstring"


def test_a_wrong_example_is_found_and_shown(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The runner itself: a wrong digit, a wrong number of values and a wrong word are failures, rounding is none."""

    def example(shown: str) -> str:
        def function() -> None:
            """Replaced below."""

        function.__doc__ = f">>> [0.12349, -0.0, 'a']\n{shown}\n"
        function.__module__ = __name__
        return run_examples(function, "function", tmp_path_factory.mktemp("example"))

    assert example("[0.123, 0.0, 'a']") == ""
    assert example("[0.124, 0.0, 'a']") == ""
    assert "Expected:\n    [0.125, 0.0, 'a']" in example("[0.125, 0.0, 'a']")
    assert "Got:\n    [0.12349, -0.0, 'a']" in example("[0.123, 'a']")
    assert example("[0.123, 0.0, 'b']")
