"""Every link between the pages of the repository, and every picture in them, leads to something that is there."""

import json
import re
import tomllib
from pathlib import Path
from urllib.parse import unquote

import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    [
        *ROOT.glob("*.md"),
        *ROOT.glob("docs/**/*.md"),
        *ROOT.glob("configs/**/*.py"),
        *ROOT.glob("notebooks/**/*.py"),
        *ROOT.glob("notebooks/**/*.md"),
        *ROOT.glob("notebooks/**/*.ipynb"),
    ]
)

LINK = re.compile(r"\]\(\s*<?([^()\s>]+)>?(?:\s+\"[^\"]*\")?\s*\)")
HTML = re.compile(r"<(?:a|img|source)\s[^>]*?(?:href|src)\s*=\s*[\"']([^\"']+)[\"']")
FILE = re.compile(r"`((?:configs|docs|launch|benchmarks|tests|notebooks|polymicros_jax)/[\w./-]+\.\w+)`")
"""A file of the repository that running text names."""


def prose(page: Path) -> str:
    """The text of a page in which links stand: without its code blocks, of a notebook the Markdown cells."""
    text = page.read_text()
    if page.suffix == ".ipynb":
        cells = json.loads(text)["cells"]
        text = "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    return re.sub(r"^(```|~~~).*?^\1", "", text, flags=re.DOTALL | re.MULTILINE)


def anchors(text: str) -> set[str]:
    """What the headings of a page are called in links on GitHub: a second one of a name gets ``-1``."""
    found: set[str] = set()
    for heading in re.findall(r"^#{1,6} +(.*?)\s*#*$", text, flags=re.MULTILINE):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "")
        base = re.sub(r"[^\w\- ]", "", plain.lower()).replace(" ", "-")
        number, name = 0, base
        while name in found:
            number += 1
            name = f"{base}-{number}"
        found.add(name)
    return found | set(re.findall(r"<a\s[^>]*?(?:id|name)=[\"']([^\"']+)[\"']", text))


def broken(page: Path, root: Path = ROOT) -> list[str]:
    """Links of a page that lead nowhere. Addresses of the web are not followed: no test needs a network."""
    text = prose(page)
    wrong = []
    # Markup in the code of a config is no link; names of files in its docstring and comments are.
    for target in [*LINK.findall(text), *HTML.findall(text)] if page.suffix != ".py" else []:
        if re.match(r"[a-z][a-z0-9+.-]*:", target):
            continue
        name, _, anchor = unquote(target).partition("#")
        place = page if not name else (root / name[1:] if name.startswith("/") else page.parent / name)
        if not place.exists() or (anchor and place.suffix == ".md" and anchor not in anchors(prose(place))):
            wrong.append(target)
    return wrong + [name for name in FILE.findall(text) if not (root / name).exists()]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    assert broken(page) == []


def test_tests_that_pages_name_exist() -> None:
    """The errata and the conventions name what proves each line: `file.py::test`, and `::test` of the same file."""
    named = 0
    for page in sorted(ROOT.glob("docs/*.md")):
        place = None
        for file, test in re.findall(r"`([\w/.]*)::(test_\w+)", page.read_text()):
            place = ROOT / "tests" / file.removeprefix("tests/") if file else place
            assert place is not None, f"{page.name}: ::{test} follows no file"
            assert re.search(rf"^def {test}\(", place.read_text(), re.MULTILINE), f"{page.name}: {file}::{test}"
            named += 1
    assert named > 30


def test_rows_of_the_design_are_those_that_the_linter_checks() -> None:
    contract = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"][0]
    table = (ROOT / "docs" / "design.md").read_text().partition("| row |")[2].partition("\n\n")[0]
    rows = [set(re.findall(r"`(\w+)`", line.split("|")[1])) for line in table.splitlines()[2:]]
    assert rows == [set(layer.split(" | ")) for layer in contract["layers"]]


def test_links_of_pages_are_found_at_all() -> None:
    """A pattern that finds nothing would find nothing broken."""
    readme = prose(ROOT / "README.md")
    assert "docs/figures/quickstart.png" in LINK.findall(readme)
    assert "configs/quickstart.py" in LINK.findall(readme)
    assert "benchmarks/convolution.py" in FILE.findall(prose(ROOT / "docs" / "design.md"))


def test_broken_links_are_named(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "other.md").write_text("# A *title*, of `words`\n\n## Twice\n\n## Twice\n")
    page = tmp_path / "page.md"
    good = "[a](docs/other.md#a-title-of-words) [b](docs/other.md#twice-1) ![c](docs) [d](https://example.org/no#where)"
    page.write_text(f"{good} `docs/other.md`\n\n```\n[in code](nowhere.md)\n```\n")
    assert broken(page, tmp_path) == []
    page.write_text("[a](docs/none.md) [b](docs/other.md#twice-2) ![c](<no.png>) <img src='gone.png'> `docs/none.py`\n")
    assert broken(page, tmp_path) == ["docs/none.md", "docs/other.md#twice-2", "no.png", "gone.png", "docs/none.py"]
