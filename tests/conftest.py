"""Strict modes for the whole suite."""

import os
from collections.abc import Iterator
from pathlib import Path

import jax
import pytest
from jaxtyping import install_import_hook

# The suite is compilation: thousands of programs, each run a few times on small arrays. XLA's cheapest compilation
# halves its time, and its older emitters of fused loops take a third off what remains (they compile faster only where
# little is optimised). Processes that tests start inherit both. Tests marked slow or entry compile with all
# optimisations. The emitters of this process cannot change once it runs, and processes that its results are compared
# with, to the bit, keep them; the quick start (entry) runs in a process like a user's.
QUICK = "JAX_DISABLE_MOST_OPTIMIZATIONS"
os.environ.setdefault(QUICK, "1")
jax.config.update("jax_disable_most_optimizations", os.environ[QUICK] == "1")
EMITTERS = "--xla_cpu_use_fusion_emitters=false"
FLAGS = os.environ.get("XLA_FLAGS", "").replace(EMITTERS, "").strip()  # a worker inherits what is set here
os.environ["XLA_FLAGS"] = f"{FLAGS} {EMITTERS}"

# orix compiles its ufuncs into a cache beside its own files. Two test processes that fill an empty cache at the same
# time crash each other (segmentation fault on import, numba 0.68), so each has its own.
if _worker := os.environ.get("PYTEST_XDIST_WORKER"):
    os.environ["NUMBA_CACHE_DIR"] = str(Path(__file__).parents[1] / ".pytest_cache" / f"numba_{_worker}")

# Shapes in signatures are checked at run time wherever the tests call the package.
install_import_hook("polymicros_jax", "beartype.beartype")

# (n, 3) + (3,) is a bug more often than a wish: broadcasting must be written out.
jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture(autouse=True)
def compilation(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Lets XLA optimise where a test takes minutes of computation."""
    if not any(request.node.get_closest_marker(name) for name in ("slow", "entry")):
        yield
        return
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", False)
    monkeypatch.setenv(QUICK, "0")
    if request.node.get_closest_marker("entry"):
        monkeypatch.setenv("XLA_FLAGS", FLAGS)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


@pytest.fixture(autouse=True, scope="module")
def programs() -> Iterator[None]:
    """Compiled programs do not outlive the file they were made for: a worker would grow to 6 GB."""
    yield
    jax.clear_caches()


@pytest.fixture
def x64() -> Iterator[None]:
    """Runs a test in double precision, for identities that must hold to 1e-12."""
    with jax.enable_x64(True):
        yield


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skips tests marked gpu where there is no accelerator; puts the quick start, the longest by far, first."""
    items.sort(key=lambda item: item.get_closest_marker("entry") is None)
    if jax.default_backend() == "cpu":
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="no accelerator"))
