"""The report is one file that needs nothing else, says what it was given, and cannot be half-written."""

import base64
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from polymicros_jax.viz import canvas, report, slices

VOID = {"meta", "img", "br", "hr", "link", "input"}


class Page(HTMLParser):
    """Collects elements with attributes and text; notes tags that do not close."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None], list[str]]] = []
        self.open: list[tuple[str, list[str]]] = []
        self.feed(text)
        assert not self.open, f"left open: {[tag for tag, _ in self.open]}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        words: list[str] = []
        self.elements.append((tag, dict(attrs), words))
        if tag not in VOID:
            self.open.append((tag, words))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop()[0] == tag

    def handle_data(self, data: str) -> None:
        for _, words in self.open:
            words.append(data)

    def texts(self, tag: str, **attributes: str) -> list[str]:
        return ["".join(w).strip() for t, a, w in self.elements if t == tag and attributes.items() <= a.items()]

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [a for t, a, _ in self.elements if t == tag]


def drawing() -> Figure:
    return slices.orthogonal(np.random.default_rng(0).random((4, 4, 4, 3)))


ROWS = {
    "nearest slice": {"mean_disorientation_deg": 6.6, "wrong_grain_share": 0.144, "mape_percent": None},
    "signed distance": {"mean_disorientation_deg": 4.7, "wrong_grain_share": 0.102, "mape_percent": float("nan")},
    "prior": {"mean_disorientation_deg": 5.001, "wrong_grain_share": 0.102},
}


def written(tmp_path: Path, **changes: object) -> tuple[Path, str, Page]:
    arguments: dict = {
        "title": "A report",
        "summary": "First.\n\nSecond.",
        "headline": [("4.7°", "mean error")],
        "sections": [
            report.Section(
                "Results",
                "Text.",
                figures=[("Three planes", drawing()), ("Again", drawing())],
                table=report.Table(report.RECONSTRUCTION_COLUMNS, ROWS, note="Missing voxels only."),
            )
        ],
        "provenance": {"seed": 7, "commit": "abc"},
        "config": {"task": "super_resolve", "steps": 100},
    }
    path = report.write(tmp_path / "out" / "report.html", **{**arguments, **changes})
    text = path.read_text(encoding="utf-8")
    return path, text, Page(text)


def test_figures_are_inside_the_file(tmp_path: Path) -> None:
    _, _, page = written(tmp_path)
    images = page.named("img")
    assert len(images) == 2
    expected = canvas.to_png(drawing())
    for image in images:
        head, _, body = str(image["src"]).partition(",")
        assert head == "data:image/png;base64"
        assert base64.b64decode(body, validate=True) == expected
    assert [image["alt"] for image in images] == ["Three planes", "Again"]
    assert page.texts("figcaption") == ["Three planes", "Again"]


def test_nothing_is_fetched_and_nothing_runs(tmp_path: Path) -> None:
    _, text, page = written(tmp_path)
    without_images = re.sub(r"data:image/png;base64,[A-Za-z0-9+/=]+", "", text)
    for forbidden in (
        "http:",
        "https:",
        "//",
        "@import",
        "url(",
        "<script",
        "<link",
        "<iframe",
        "javascript:",
        "srcset",
    ):
        assert forbidden not in without_images, forbidden
    policies = [a["content"] for a in page.named("meta") if a.get("http-equiv") == "Content-Security-Policy"]
    assert policies == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'"]


def test_table_shows_scaled_values_and_marks_the_best(tmp_path: Path) -> None:
    _, _, page = written(tmp_path)
    cells = page.texts("td")
    assert len(cells) == 3 * 5
    assert cells[:5] == ["6.60", "–", "–", "14.40", "–"]
    assert page.texts("td", **{"class": "best"}) == ["4.70", "10.20", "10.20"]
    assert page.texts("th", scope="row") == list(ROWS)
    assert "wrong grain (%)" in page.texts("th", scope="col")
    assert page.texts("p", **{"class": "note"}) == ["Missing voxels only. Best value of a column in bold, with a mark."]


def test_scalars_of_numpy_are_numbers(tmp_path: Path) -> None:
    columns = [report.Column("error", "error", digits=1), report.Column("count", "count", best="max", digits=0)]
    rows = {
        "a": {"error": np.float32(1.5), "count": np.int64(3)},
        "b": {"error": np.float64(2.5), "count": np.float32(np.nan)},
    }
    section = report.Section("Scores", table=report.Table(columns, rows))
    page = Page(report.render(title="t", summary="s", sections=[section]))
    assert page.texts("td") == ["1.5", "3", "2.5", "–"]


def test_best_can_be_the_largest_and_a_single_row_is_not_marked(tmp_path: Path) -> None:
    columns = [report.Column("coverage", "coverage", best="max"), report.Column("n", "draws", best=None, digits=0)]
    rows = {"a": {"coverage": 0.8, "n": 4}, "b": {"coverage": 0.9, "n": 8}}
    section = report.Section("S", table=report.Table(columns, rows))
    assert written(tmp_path, sections=[section])[2].texts("td", **{"class": "best"}) == ["0.90"]
    alone = report.Section("S", table=report.Table(columns, {"a": rows["a"]}))
    assert written(tmp_path, sections=[alone])[2].texts("td", **{"class": "best"}) == []
    wrong = report.Section("S", table=report.Table([report.Column("n", "n", best="least")], rows))
    with pytest.raises(ValueError, match="best is 'least'"):
        written(tmp_path, sections=[wrong])


def test_words_arrive_and_markup_in_them_stays_words(tmp_path: Path) -> None:
    nasty = '<script>alert("x")</script> & "quotes"'
    _, text, page = written(tmp_path, title=nasty, provenance={"file": nasty}, headline=[("<b>", nasty)])
    assert "<script" not in text
    assert page.texts("h1") == [nasty]
    assert page.texts("dd") == [nasty]
    assert page.texts("h2") == ["Results", "Provenance", "Configuration"]
    assert page.texts("p")[:2] == ["First.", "Second."]
    assert '"steps": 100' in page.texts("pre")[0]


def test_it_adapts_to_phone_and_print(tmp_path: Path) -> None:
    _, text, page = written(tmp_path)
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in page.named("meta")
    style = re.sub(r"\s+", " ", page.texts("style")[0])
    assert "img { display: block; max-width: 100%;" in style
    assert re.search(r"\.scroll \{[^}]*overflow-x: auto", style)
    assert "@media print" in style
    assert text.index('<div class="scroll">') < text.index("<table>")


def test_same_input_same_bytes(tmp_path: Path) -> None:
    assert written(tmp_path / "a")[1] == written(tmp_path / "b")[1]


def test_a_failure_leaves_the_earlier_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, text, _ = written(tmp_path)

    def full_disk(self: Path, *args: object, **kwargs: object) -> int:
        raise OSError("no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", full_disk)
        with pytest.raises(OSError, match="no space"):
            written(tmp_path, title="Another")
    assert path.read_text(encoding="utf-8") == text
    assert list(path.parent.iterdir()) == [path]
    with pytest.raises(ValueError, match=r"ending '\.pdf'"):
        report.write(tmp_path / "r.pdf", title="", summary="", sections=[])
