"""Rewrites docs/api.md from the docstrings: the package root and the names that other code may build on.

    python launch/api_page.py

Sources are read and nothing is imported, so that signatures stand as they are written, with the shapes of their arrays.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

REPOSITORY = Path(__file__).parents[1]
PAGE = REPOSITORY / "docs" / "api.md"

ROOT = (
    "read",
    "load_sample",
    "write",
    "plot",
    "representation",
    "load_prior",
    "super_resolve",
    "expand",
    "generate",
    "two_point",
)
"""Names of the package root, in the order of a day's work."""

MODULES: dict[str, tuple[str, ...]] = {
    "orientation.quaternion": ("from_euler", "to_euler", "multiply", "disorientation"),
    "orientation.rogsh": ("from_euler",),
    "orientation.embedding": ("encode", "decode"),
    "orientation.harmonics": ("symmetrised",),
    "orientation.grains": ("segment", "sizes", "equivalent_diameters", "neighbours", "boundary_disorientations"),
    "orientation.grain_averaging": ("grain_averaged", "merge"),
    "orientation.texture": ("odf_coefficients", "odf", "texture_index", "pole_figure", "disorientation_distribution"),
    "spectral.two_point": (
        "correlations",
        "covariances",
        "orthogonal_planes",
        "slice_planes",
        "map_pairs",
        "pair_counts",
    ),
    "spectral.averages": ("radial_average", "directional_average", "coherence_length"),
    "spectral.descriptors": ("chord_length_counts", "lineal_path", "three_point"),
    "spectral.mosm": ("MosmParams", "covariance", "sample_params", "fit"),
    "spectral.random_field": ("sample_mosm", "sample_spectral", "sample_reference_row"),
    "diffusion.schedule": ("karras",),
    "diffusion.preconditioning": ("denoiser",),
    "diffusion.sampler": ("sample",),
    "models.unet3d": ("UNet3DConfig", "init", "apply"),
    "data.volume": ("OrientationVolume", "crop", "resample", "rotate_frame", "save", "load"),
    "data.repair": ("fill", "reject", "to_cubic"),
    "viz.pole_figures": ("pole_figures",),
    "data.export": ("write_paraview", "write_damask", "write_dream3d", "write_ang", "write_vti"),
}
"""The names that are kept, by module; those of the package root are not repeated."""

SECTIONS = ("Args", "Returns", "Raises", "Attributes", "Methods")
ITEM = re.compile(r"(\*{0,2}\w[\w, ]*): (.*)")


class Found(NamedTuple):
    """Where a name is defined: file, node of the syntax tree (a `Module` for a whole module), lines of the file."""

    path: Path
    node: ast.FunctionDef | ast.ClassDef | ast.Module
    lines: list[str]


def module_path(name: str) -> Path:
    """File of a dotted module name."""
    path = REPOSITORY.joinpath(*name.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def locate(module: str, name: str) -> Found:
    """Follows imports from a module to where a name is defined.

    Raises:
        LookupError: the module neither defines nor imports the name.
    """
    path = module_path(module)
    source = path.read_text()
    tree = ast.parse(source)
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == name:
            return Found(path, node, source.splitlines())
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    inner = module_path(f"{node.module}.{alias.name}")
                    if inner.is_file():
                        text = inner.read_text()
                        return Found(inner, ast.parse(text), text.splitlines())
                    return locate(node.module, alias.name)
    raise LookupError(f"{path}: has no {name!r}")


def signature(found: Found, name: str) -> str:
    """The head of a function as its file has it, under `name`; nothing for a class, whose attributes say it, or a
    module.
    """
    if not isinstance(found.node, ast.FunctionDef):
        return ""
    head = "\n".join(found.lines[found.node.lineno - 1 : found.node.body[0].lineno - 1])
    head = head.replace(f"def {found.node.name}(", f"def {name}(", 1)
    return f"```python\n{head.rstrip().removesuffix(':')}\n```"


def methods(node: ast.ClassDef) -> str:
    """Public methods and properties of a class with the first paragraphs of their docstrings."""
    rows = []
    for each in node.body:
        text = ast.get_docstring(each) if isinstance(each, ast.FunctionDef) else None
        if isinstance(each, ast.FunctionDef) and text and not each.name.startswith("_"):
            bare = any(isinstance(mark, ast.Name) and mark.id == "property" for mark in each.decorator_list)
            rows.append(f"- `{each.name}{'' if bare else '(...)'}`: {' '.join(text.split(chr(10) * 2)[0].split())}")
    return "\n".join(["**Methods and properties**", "", *rows]) if rows else ""


def blocks(docstring: str) -> Iterator[list[str]]:
    """The parts of a docstring between blank lines; a section stays whole, whatever blank lines it has."""
    part: list[str] = []
    for line in docstring.splitlines():
        inside = bool(part) and part[0].rstrip(":") in SECTIONS
        if (not line.strip() and not inside) or (inside and line.strip() and not line.startswith(" ")):
            if part:
                yield part
            part = []
        if line.strip() or inside:
            part.append(line)
    if part:
        yield part


def items(lines: list[str]) -> list[str]:
    """The entries of a section as a list; text that names nothing stays a paragraph."""
    margin = min(len(line) - len(line.lstrip()) for line in lines if line.strip())
    out: list[str] = []
    for line in lines:
        text = line[margin:]
        entry = ITEM.fullmatch(text)
        if entry:
            names = ", ".join(f"`{name.strip()}`" for name in entry[1].split(","))
            out.append(f"- {names}: {entry[2]}")
        elif text.startswith(" ") and out and out[-1].startswith("- "):
            out[-1] += f" {text.strip()}"
        else:
            out.append(text.rstrip())
    return out


def body(docstring: str) -> str:
    """A docstring as Markdown: sections become lists, examples and indented blocks become code."""
    out = []
    for part in blocks(docstring):
        head = part[0].rstrip(":")
        if head in SECTIONS:
            rows = [line for line in part[1:] if line.strip()]
            out.append("\n".join([f"**{head}**", "", *(rows if head == "Methods" else items(rows))]))
        elif part[0].startswith(">>>"):
            out.append("\n".join(["```python", *part, "```"]))
        elif part[0].startswith("    "):
            code = "\n".join(line[4:] for line in part)
            # Blocks that only a blank line parts are one listing.
            if out and out[-1].endswith("```") and out[-1].startswith("```python\n") and ">>>" not in out[-1]:
                out[-1] = out[-1].removesuffix("```") + f"\n{code}\n```"
            else:
                out.append(f"```python\n{code}\n```")
        else:
            out.append(re.sub(r"::$", ":", "\n".join(part)))
    return "\n\n".join(out)


def entry(module: str, name: str) -> str:
    """The section of one name."""
    found = locate(module, name)
    source = found.path.relative_to(REPOSITORY)
    defined = getattr(found.node, "name", name)
    parts = [
        f"### {'.'.join([*module.split('.')[1:], name])}",
        signature(found, name),
        body(ast.get_docstring(found.node) or ""),
        methods(found.node) if isinstance(found.node, ast.ClassDef) else "",
        f"Source: [{source}](../{source})" + (f", where it is called `{defined}`" if defined != name else ""),
    ]
    return "\n\n".join(part for part in parts if part)


def anchor(heading: str) -> str:
    """What a heading is called in a link."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def page() -> str:
    """The whole page."""
    package = "polymicros_jax"
    lines = [
        "# API",
        "<!-- written by launch/api_page.py from the docstrings; edit those -->",
        "What code outside this repository may build on. Lengths are micrometres and angles radians unless a name says "
        "`deg`; arrays are channel last; orientations are Bunge passive quaternions `(w, x, y, z)` "
        "([conventions](conventions.md)). Every example here is run by the tests.",
    ]
    listed = {f"{package} as pm": [(package, name) for name in ROOT]}
    listed |= {module: [(f"{package}.{module}", name) for name in names] for module, names in MODULES.items()}
    lines.append(
        "\n".join(
            f"- `{title}`: "
            + ", ".join(f"[{name}](#{anchor('.'.join([*module.split('.')[1:], name]))})" for module, name in names)
            for title, names in listed.items()
        )
    )
    for title, names in listed.items():
        home = title.removesuffix(" as pm")
        path = module_path(home if home == package else f"{package}.{home}")
        lines += [f"## {title}", body(ast.get_docstring(ast.parse(path.read_text())) or "")]
        lines += [entry(module, name) for module, name in names]
    return "\n\n".join(line for line in lines if line) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page())
    print(PAGE)
