"""The examples of the docstrings run, whatever a user is meant to call has one, and docs/api.md is made of them."""

import ast
import contextlib
import doctest
import importlib
import importlib.util
import inspect
import pkgutil
import re
from pathlib import Path
from types import ModuleType

import pytest

import polymicros_jax


def _page_writer() -> ModuleType:
    path = Path(__file__).parents[1] / "launch" / "api_page.py"
    spec = importlib.util.spec_from_file_location("api_page", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


api_page = _page_writer()

# `main` defines command-line flags when it is imported, and has no examples.
MODULES = ["polymicros_jax"] + [
    found.name
    for found in pkgutil.walk_packages(polymicros_jax.__path__, "polymicros_jax.")
    if found.name != "polymicros_jax.main"
]

WITHOUT = {
    "orientation/rogsh.py: lookup",  # its grid of 2 degrees takes seconds, and what it finds cannot be trusted
}
"""Public functions of the two sciences that people call one by one, and that have no example all the same."""

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


@pytest.mark.parametrize(
    ("module", "name"),
    [("polymicros_jax", name) for name in api_page.ROOT]
    + [(f"polymicros_jax.{module}", name) for module, names in api_page.MODULES.items() for name in names],
)
def test_the_names_that_users_build_on_have_an_example(module: str, name: str) -> None:
    thing = getattr(importlib.import_module(module), name)
    if inspect.ismodule(thing):  # its functions are on the list themselves
        assert thing.__name__.removeprefix("polymicros_jax.") in api_page.MODULES
    else:
        assert ">>>" in (inspect.getdoc(thing) or ""), f"{module}.{name} has no example in its docstring"


def test_every_function_of_orientations_and_statistics_has_an_example() -> None:
    package = Path(polymicros_jax.__file__).parent
    missing = {
        f"{path.relative_to(package)}: {node.name}"
        for part in ("orientation", "spectral")
        for path in package.glob(f"{part}/*.py")
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.FunctionDef)
        and not node.name.startswith("_")
        and ">>>" not in (ast.get_docstring(node) or "")
    }
    assert missing == WITHOUT


def test_the_page_of_the_api_is_that_of_the_docstrings() -> None:
    assert sorted(api_page.ROOT) == sorted(polymicros_jax.__all__)
    assert api_page.PAGE.read_text() == api_page.page(), "run: python launch/api_page.py"


def test_a_docstring_becomes_a_page() -> None:
    text = api_page.body(
        "First ``line``.\n\nCode follows::\n\n    a = 1\n\n    b = 2\n\nArgs:\n    x, y: one\n        and more.\n"
        "    *rest: others.\n\nReturns:\n    What: it is.\n\n>>> f(1)\n2\n"
    )
    assert text.split("\n\n**") == [
        "First ``line``.\n\nCode follows:\n\n```python\na = 1\n\nb = 2\n```",
        "Args**\n\n- `x`, `y`: one and more.\n- `*rest`: others.",
        "Returns**\n\n- `What`: it is.\n\n```python\n>>> f(1)\n2\n```",
    ]


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
