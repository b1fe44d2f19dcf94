"""A report as people see it: on a phone, on a screen and printed, by a headless Chromium.

The page lies in frames of given widths of a page that measures it: the report itself runs no script.
"""

import functools
import http.server
import json
import queue
import shutil
import subprocess
import threading
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pypdf
import pytest

from polymicros_jax.orientation import ipf, quaternion
from polymicros_jax.scoring import COLUMNS, UNCERTAINTY_COLUMNS
from polymicros_jax.simulate.voronoi import voronoi
from polymicros_jax.viz import ablation, cubes, ipf_key, report, slices

NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next((found for found in map(shutil.which, NAMES) if found), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason=f"no browser: none of {', '.join(NAMES)} is installed")

WIDTHS = {"phone": 360, "screen": 1280}
PATIENCE = 120.0
"""Seconds a browser may take on a busy machine."""

PHONE_FIGURE = report.WIDE * 16
"""Pixels, see `report.WIDE`."""
METHODS = ("nearest slice", "linear", "linear, snapped", "spherical", "shape-based", "diffusion prior",
           "shapes, regularised", "prior and shapes")  # fmt: skip

MEASURE = """
<!DOCTYPE html><meta charset="utf-8"><body style="margin:0"><script>
const widths = WIDTHS, found = {};
function measure(frame) {
  const page = frame.contentDocument, view = frame.contentWindow, root = page.documentElement;
  const outside = [...page.body.querySelectorAll("*")].filter(each => {
    const box = each.getBoundingClientRect();
    return (box.right > view.innerWidth + 0.5 || box.left < -0.5) && !each.closest(".scroll, pre");
  });
  return {
    inner: view.innerWidth,
    scroll: root.scrollWidth,
    column: page.querySelector("header").getBoundingClientRect().width,
    outside: outside.map(each => each.outerHTML.slice(0, 80)),
    images: [...page.images].map(each => [each.complete, each.naturalWidth, each.getBoundingClientRect().width]),
    cells: [...page.querySelectorAll("td")].map(each => each.innerText.replace(/[^-–.0-9]/g, "")),
    seen: [...page.querySelectorAll("td")].every(each => each.getBoundingClientRect().height > 8),
    boxes: [...page.querySelectorAll(".scroll")].map(each => [each.getBoundingClientRect().width, each.scrollWidth]),
    fonts: [...page.querySelectorAll("p, td, th, dd, figcaption, pre")].map(
      each => parseFloat(view.getComputedStyle(each).fontSize)),
    fetched: view.performance.getEntriesByType("resource").map(each => each.name).filter(name => !/^data:/.test(name)),
  };
}
for (const [name, width] of Object.entries(widths)) {
  const frame = document.createElement("iframe");
  frame.style = `border:0;width:${width}px;height:800px`;
  frame.onload = async () => {
    await Promise.all([...frame.contentDocument.images].map(each => each.decode()));
    found[name] = measure(frame);
    if (Object.keys(found).length == Object.keys(widths).length)
      fetch("found", {method: "POST", body: JSON.stringify(found)});
  };
  frame.src = "report.html";
  document.body.append(frame);
}
</script>
"""


def rows(columns: tuple[report.Column, ...]) -> dict[str, dict[str, float]]:
    """A value in every cell, each different, so that a missing one is missed."""
    return {
        name: {column.key: 1.0 + number + 0.07 * place for place, column in enumerate(columns)}
        for number, name in enumerate(METHODS)
    }


def realistic(path: Path) -> int:
    """A report like that of the quick start, with a table too wide for any phone; returns its number of figures."""
    shape, spacing = (24, 40, 20), (0.25, 0.25, 0.25)
    labels = voronoi(0, shape, 40)
    q = np.asarray(quaternion.random(jax.random.key(0), (40,)))[labels]
    rgb = np.asarray(ipf.colours(q, "z", "432"))
    known = np.zeros(shape, bool)
    known[..., ::4] = True
    panels = [slices.Panel("input", rgb, known), *(slices.Panel(name, rgb) for name in METHODS)]
    errors = {name: np.where(known, 0.0, rgb[..., 0] * 60).astype(np.float32) for name in METHODS}
    figures = [
        (f"Section normal to {'xy'[axis]}.", slices.comparison(panels, axis=axis, spacing=spacing)) for axis in (0, 1)
    ]
    figures.append(("Colour key.", ipf_key.ipf_key("432")))
    degrees = slices.degree_maps(errors, axis=0, spacing=spacing, known=known)
    boxes = cubes.cubes({"input": rgb, "result": rgb}, spacing=spacing, columns=2)
    overview = ablation.dots(
        {f"in100/evaluate, every {n}-th section along z": dict.fromkeys(METHODS, float(n)) for n in (2, 4, 8)},
        xlabel="mean disorientation on missing voxels (°)",
    )
    report.write(
        path,
        title="Filled: in100/evaluate",
        summary="75 % of 234,000 voxels were missing and were filled. The best of the methods is: prior and shapes.",
        headline=[(f"{4 + n / 7:.2f}°", f"mean disorientation, {name}") for n, name in enumerate(METHODS)],
        sections=[
            report.Section(
                "Errors on missing voxels", table=report.Table(COLUMNS, rows(COLUMNS), note="Missing only.")
            ),
            report.Section(
                "Uncertainty: in100/evaluate, every 4-th section along z",
                table=report.Table(UNCERTAINTY_COLUMNS, rows(UNCERTAINTY_COLUMNS)),
            ),
            report.Section("Sections", figures=figures),
            report.Section("Error in degrees", figures=[("Disorientation to the reference.", degrees)]),
            report.Section("Volume", figures=[("Input and reconstruction.", boxes)]),
            report.Section("Overview", figures=[("Every task, every method.", overview)]),
        ],
        provenance={
            "source": "https://example.org/a/very/long/address/without/any/place/to/break/it/" + "x" * 80,
            "versions": {"jax": "0.10.2", "numpy": "2.3.1", "orbax-checkpoint": "0.12.0"},
            "a_key_of_some_length_in_the_provenance": 7,
        },
        config={"task": "super_resolve", "super_resolve": {"volume": {"source": "folder/" + "y" * 120}}},
    )
    return len(figures) + 3


def command(profile: Path, *arguments: str) -> list[str]:
    """Chromium with a profile of its own; root, as in a container, may only run it without the sandbox."""
    flags = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run")
    return [str(CHROMIUM), *flags, f"--user-data-dir={profile}", *arguments]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("browser")


@pytest.fixture(scope="module")
def figures(folder: Path) -> int:
    return realistic(folder / "report.html")


@pytest.fixture(scope="module")
def found(folder: Path, figures: int) -> dict[str, Any]:
    """What the measuring page finds at each width, and under "asked" the paths that the browser asked for."""
    (folder / "measure.html").write_text(MEASURE.replace("WIDTHS", json.dumps(WIDTHS)))
    asked: list[str] = []
    answers: queue.Queue[dict[str, Any]] = queue.Queue()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            asked.append(self.path)

        def do_POST(self) -> None:
            answers.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

    handler = functools.partial(Handler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/measure.html"
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        # Headless, it stays until it is ended where it has a port to be driven by.
        with subprocess.Popen(command(folder / "profile", "--remote-debugging-port=0", address), **quiet) as browser:
            try:
                answer = answers.get(timeout=PATIENCE)
            finally:
                browser.terminate()
        server.shutdown()
    return {**answer, "asked": asked}


@pytest.mark.parametrize("name", WIDTHS)
def test_figures_and_tables_are_there(found: dict[str, Any], figures: int, name: str) -> None:
    page = found[name]
    assert page["inner"] == WIDTHS[name]
    assert len(page["images"]) == figures
    for complete, natural, width in page["images"]:
        assert complete
        assert natural > 0
        # Never blown up; on a phone figures of several panels keep a size at which their labels can be read.
        fits = PHONE_FIGURE if natural > PHONE_FIGURE else page["column"]
        largest = fits if name == "phone" else page["column"]
        assert width == pytest.approx(min(natural, largest), abs=1)
    expected = [
        f"{row[column.key] * column.scale:.{column.digits}f}"
        for columns in (COLUMNS, UNCERTAINTY_COLUMNS)
        for row in rows(columns).values()
        for column in columns
    ]
    assert page["cells"] == expected
    assert page["seen"]


@pytest.mark.parametrize("name", WIDTHS)
def test_nothing_overflows_and_letters_can_be_read(found: dict[str, Any], name: str) -> None:
    page = found[name]
    assert page["scroll"] <= page["inner"]
    assert page["outside"] == []
    assert all(width <= page["inner"] for width, _ in page["boxes"])
    assert min(page["fonts"]) >= 12
    if name == "phone":  # the control: the wide tables are wider than the phone, and scroll in their own boxes
        assert all(scroll > width for width, scroll in page["boxes"])
        assert len(page["boxes"]) == 2 + sum(natural > PHONE_FIGURE for _, natural, _ in page["images"])


def test_nothing_is_asked_for_but_the_page(found: dict[str, Any]) -> None:
    assert [found[name]["fetched"] for name in WIDTHS] == [[], []]
    assert set(found["asked"]) <= {"/measure.html", "/report.html", "/favicon.ico", "/found"}
    assert "/report.html" in found["asked"]


def test_a_print_has_every_figure_and_every_number_inside_its_paper(folder: Path, figures: int) -> None:
    target = folder / "report.pdf"
    address = (folder / "report.html").as_uri()
    arguments = ("--no-pdf-header-footer", f"--print-to-pdf={target}", address)
    subprocess.run(command(folder / "printing", *arguments), capture_output=True, check=True, timeout=PATIENCE)
    pages = pypdf.PdfReader(target).pages
    assert 3 <= len(pages) <= 20
    text = " ".join(page.extract_text() for page in pages)
    for columns in (COLUMNS, UNCERTAINTY_COLUMNS):
        for row in rows(columns).values():
            for column in columns:
                assert f"{row[column.key] * column.scale:.{column.digits}f}" in text
    assert sum(len(page.images) for page in pages) >= figures
    pieces = [piece for page in pages for piece in _pieces(page)]
    assert len(pieces) > 100
    assert all(0 < left < float(pages[0].mediabox.width) for _, left, _ in pieces)
    # A browser shrinks a print whose content is wider than the paper: then text of 10.5 points is smaller than that.
    (body,) = {round(size, 2) for text, _, size in pieces if "voxels were missing" in text}
    assert body == pytest.approx(10.5, abs=0.1)
    assert min(size for _, _, size in pieces) > 6


def _pieces(page: pypdf.PageObject) -> list[tuple[str, float, float]]:
    """Every piece of text, how far from the left it begins and how large it is, in points."""
    found: list[tuple[str, float, float]] = []

    def visit(text: str, matrix: list[float], text_matrix: list[float], font: object, size: float) -> None:
        if text.strip():
            left = matrix[0] * text_matrix[4] + matrix[2] * text_matrix[5] + matrix[4]
            found.append((text, left, size * abs(text_matrix[3] * matrix[3])))

    page.extract_text(visitor_text=visit)
    return found
