"""One self-contained HTML page: figures inside, no script, no network, readable on a phone and in print."""

import html
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Real
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from polymicros_jax.data.atomic import replacing
from polymicros_jax.viz import canvas


@dataclass(frozen=True)
class Column:
    """A column of numbers.

    Attributes:
        key: Entry of a row's mapping.
        heading: Text over the column, with the unit.
        best: "min" or "max" marks the best row; None marks nothing.
        digits: Digits after the point.
        scale: Factor on the shown value; 100 shows a fraction as a percentage.
    """

    key: str
    heading: str
    best: str | None = "min"
    digits: int = 2
    scale: float = 1.0


@dataclass(frozen=True)
class Table:
    """Methods by metrics.

    Attributes:
        columns: The metrics, in order.
        rows: Name of a method to its values by key; a missing key or None shows as a dash.
        corner: Heading of the column of names.
        note: A line under the table: on what the values were taken.
    """

    columns: Sequence[Column]
    rows: Mapping[str, Mapping[str, Any]]
    corner: str = "method"
    note: str = ""


@dataclass(frozen=True)
class Section:
    """A heading with text, figures (caption and figure) and at most one table."""

    heading: str
    text: str = ""
    figures: Sequence[tuple[str, Figure]] = field(default_factory=tuple)
    table: Table | None = None


WIDE = 34
"""Least width, in letters of 16 pixels, of a figure of several panels: their labels cannot be read on a phone below."""

RECONSTRUCTION_COLUMNS = (
    Column("mean_disorientation_deg", "mean disorientation (°)"),
    Column("p95_disorientation_deg", "95th percentile (°)"),
    Column("share_above_5deg", "off by more than 5° (%)", scale=100.0),
    Column("wrong_grain_share", "wrong grain (%)", scale=100.0),
    Column("mape_percent", "MAPE, ROGSH on [0, 1] (%)"),
)
"""The columns every reconstruction is reported with, by the keys of `orientation.metrics.reconstruction_errors`."""


def write(
    path: str | os.PathLike[str],
    *,
    title: str,
    summary: str,
    sections: Sequence[Section],
    headline: Sequence[tuple[str, str]] = (),
    provenance: Mapping[str, Any] | None = None,
    config: Mapping[str, Any] | str | None = None,
) -> Path:
    """Writes the report; the file appears whole or not at all.

    Args:
        path: File to write, ending in .html.
        title: Heading and name of the page.
        summary: One paragraph in words. Blank lines separate paragraphs, here and in sections.
        sections: What follows, in order.
        headline: Large numbers at the top: (value with unit, what it is).
        provenance: Source, licence, versions, commit, seed: shown as a list.
        config: The resolved configuration, in a box of its own that scrolls on screen.

    Returns:
        The path written.

    Raises:
        ValueError: the ending is not .html, or a table's `best` is not "min", "max" or None.

    >>> write("report.html", title="Gaps of my scan", summary="All filled.", sections=[]).name
    'report.html'
    """
    target = Path(path)
    if target.suffix.lower() != ".html":
        raise ValueError(f"{target}: reports are written as .html, got the ending {target.suffix!r}")
    page = render(
        title=title, summary=summary, sections=sections, headline=headline, provenance=provenance, config=config
    )
    with replacing(target) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return target


def render(
    *,
    title: str,
    summary: str,
    sections: Sequence[Section],
    headline: Sequence[tuple[str, str]] = (),
    provenance: Mapping[str, Any] | None = None,
    config: Mapping[str, Any] | str | None = None,
) -> str:
    """The page as text; arguments as for `write`.

    >>> page = render(title="Gaps of my scan", summary="All filled.", sections=[], headline=[("4.2°", "mean error")])
    >>> page.startswith("<!DOCTYPE html>"), "mean error" in page
    (True, True)
    """
    parts = [f"<header><h1>{_escape(title)}</h1>{_paragraphs(summary)}</header>"]
    if headline:
        tiles = "".join(f"<li><b>{_escape(value)}</b><span>{_escape(what)}</span></li>" for value, what in headline)
        parts.append(f'<ul class="headline">{tiles}</ul>')
    parts.extend(_section(section) for section in sections)
    if provenance:
        rows = "".join(f"<dt>{_escape(key)}</dt><dd>{_escape(_plain(value))}</dd>" for key, value in provenance.items())
        parts.append(f"<section><h2>Provenance</h2><dl>{rows}</dl></section>")
    if config is not None:
        text = config if isinstance(config, str) else json.dumps(config, indent=2, default=str, ensure_ascii=False)
        parts.append(f"<section><h2>Configuration</h2><pre>{_escape(text)}</pre></section>")
    return _PAGE.format(title=_escape(title), style=_STYLE, body="\n".join(parts))


def _section(section: Section) -> str:
    table = _table(section.table) if section.table is not None else ""
    figures = "".join(
        f"<figure>{_picture(drawing, caption)}<figcaption>{_escape(caption)}</figcaption></figure>"
        for caption, drawing in section.figures
    )
    return f"<section><h2>{_escape(section.heading)}</h2>{_paragraphs(section.text)}{table}{figures}</section>"


def _picture(drawing: Figure, caption: str) -> str:
    image = f'<img src="{canvas.to_data_uri(drawing)}" alt="{_escape(caption)}">'
    return f'<div class="scroll">{image}</div>' if drawing.get_figwidth() * canvas.DPI > 16 * WIDE else image


def _table(table: Table) -> str:
    best = {column.key: _best(column, table.rows) for column in table.columns}
    head = "".join(f'<th scope="col">{_escape(column.heading)}</th>' for column in table.columns)
    body = []
    for name, values in table.rows.items():
        cells = []
        for column in table.columns:
            value = values.get(column.key)
            text = _number(value, column)
            # Marked by what is shown: rows that print alike share the mark.
            is_best = best[column.key] is not None and text == best[column.key]
            cells.append(f'<td class="best">{text}</td>' if is_best else f"<td>{text}</td>")
        body.append(f'<tr><th scope="row">{_escape(name)}</th>{"".join(cells)}</tr>')
    marked = any(text is not None for text in best.values())
    notes = " ".join(
        text for text in (table.note, "Best value of a column in bold, with a mark." if marked else "") if text
    )
    caption = f'<p class="note">{_escape(notes)}</p>' if notes else ""
    return (
        f'<div class="scroll"><table><thead><tr><th scope="col">{_escape(table.corner)}</th>{head}</tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table></div>{caption}"
    )


def _best(column: Column, rows: Mapping[str, Mapping[str, Any]]) -> str | None:
    """The best value of a column as printed; None where nothing is to be marked (one row, or no order given)."""
    if column.best not in ("min", "max", None):
        raise ValueError(f"column {column.key!r}: best is {column.best!r}, accepted are 'min', 'max' and None")
    values = [row[column.key] for row in rows.values() if _is_number(row.get(column.key))]
    if column.best is None or len(values) < 2:
        return None
    return _number(min(values) if column.best == "min" else max(values), column)


def _is_number(value: Any) -> bool:
    # `Real` covers the scalars of NumPy, which are neither int nor, but for float64, float.
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def _number(value: Any, column: Column) -> str:
    if isinstance(value, str):
        return _escape(value)
    if value is None or not _is_number(value):
        return "–"
    return f"{float(value) * column.scale:.{column.digits}f}"


def _paragraphs(text: str) -> str:
    return "".join(f"<p>{_escape(part.strip())}</p>" for part in text.split("\n\n") if part.strip())


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)


def _escape(text: str) -> str:
    return html.escape(text, quote=True)


_STYLE = """
:root { --ink: #1b1f24; --soft: #57606a; --line: #d0d7de; --tint: #f6f8fa; --mark: #0b5cad; }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem; max-width: 70rem; color: var(--ink); background: #fff;
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0.5rem 0; }
h2 { font-size: 1.2rem; margin: 2rem 0 0.5rem; padding-top: 0.75rem; border-top: 1px solid var(--line); }
p { max-width: 44rem; margin: 0.5rem 0; }
.headline { list-style: none; display: grid;
  grid-template-columns: repeat(auto-fit, minmax(9rem, 1fr)); gap: 0.75rem; margin: 1rem 0; padding: 0; }
.headline li { background: var(--tint); border: 1px solid var(--line); border-radius: 6px; padding: 0.6rem 0.8rem; }
.headline b { display: block; font-size: 1.4rem; line-height: 1.2; }
.headline span { color: var(--soft); font-size: 0.85rem; }
.scroll { overflow-x: auto; margin: 1rem 0 0.25rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 0.92rem; }
th, td { padding: 0.4rem 0.7rem; border-bottom: 1px solid var(--line); text-align: right; }
thead th { vertical-align: bottom; font-weight: 600; max-width: 9rem; background: var(--tint); }
th:first-child { text-align: left; position: sticky; left: 0; background: #fff; }
thead th:first-child { background: var(--tint); }
tbody th { font-weight: 500; }
td { white-space: nowrap; }
td.best { font-weight: 700; color: var(--mark); }
td.best::before { content: "\\25B8\\00A0"; }
.note, figcaption { color: var(--soft); font-size: 0.88rem; }
figure { margin: 1.25rem 0; }
figure .scroll { margin: 0; }
img { display: block; max-width: 100%; height: auto; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 0.25rem 1rem; font-size: 0.92rem; }
dt { color: var(--soft); }
dd { margin: 0; overflow-wrap: anywhere; }
pre { max-height: 24rem; overflow: auto; background: var(--tint);
  padding: 0.75rem; border-radius: 6px; font-size: 0.82rem; }
/* Panels shrunk to a phone have labels nobody can read: they keep a size and are pushed along in their box. */
@media screen and (max-width: 30rem) { .scroll img { max-width: 34rem; } }
@media (max-width: 30rem) { dl { grid-template-columns: 1fr; } dd { margin-bottom: 0.5rem; } }
/* A browser shrinks the whole print to the widest table: tables are set smaller than the text instead. */
@media print {
  body { max-width: none; font-size: 10.5pt; padding: 0; }
  figure, tr, .headline li { break-inside: avoid; }
  h2 { break-after: avoid; }
  .scroll { overflow: visible; }
  table { font-size: 7.5pt; }
  th, td { padding: 0.25rem 0.35rem; }
  th:first-child { position: static; }
  thead th { max-width: 5.75rem; }
  pre { max-height: none; white-space: pre-wrap; overflow-wrap: anywhere; }
}
"""

# The policy forbids the page to fetch anything, whatever text ends up in it.
_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
{body}
</body>
</html>
"""
