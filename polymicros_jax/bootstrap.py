"""The bootstrap task: a chain of other tasks, each in its own folder, resumed at the first that is not done."""

from collections.abc import Callable
from pathlib import Path

from polymicros_jax.config import Config
from polymicros_jax.results import Results
from polymicros_jax.viz import report
from polymicros_jax.viz.report import Section


def run(stages: dict[str, Config], workdir: Path, run_task: Callable[[Config, Path], Results]) -> Results:
    """Runs the stages in order and lists what they wrote on one page."""
    files, sections, summaries = [], [], []
    for number, (name, stage) in enumerate(stages.items(), start=1):
        print(f"== {name} ({stage.task}), {number} of {len(stages)}", flush=True)
        results = run_task(stage, workdir / name)
        made = ", ".join(results.to_json(workdir)["files"])
        sections.append(Section(f"{name}: {stage.task}", f"{results.summary}\n\nFiles: {made}"))
        summaries.append(f"== {name} ({stage.task})\n{results.summary}")
        files += list(results.files)
    page = report.write(
        workdir / "report.html",
        title="From measured volumes to a reconstructed one",
        summary="Every stage of the chain with what it made, in order. The files lie beside this page.",
        sections=sections,
        config=(workdir / "config.json").read_text(),
    )
    return Results("\n".join(summaries), [page, *files])
