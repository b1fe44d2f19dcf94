"""What the README promises: its commands, its numbers, its links."""

import json
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def _command(name: str) -> str:
    found = re.search(rf"<!-- command: {name} -->\n```\w*\n(.*?)\n```", README, re.DOTALL)
    assert found is not None
    return found.group(1)


def test_linked_files_exist() -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", README)
    assert len(links) > 5
    missing = [link for link in links if not (ROOT / link).exists()]
    assert missing == []


@pytest.mark.entry
def test_the_quick_start_does_what_the_readme_says(tmp_path: Path) -> None:
    """The README's command after its installation part, by this interpreter, into a folder of its own."""
    run = _command("quickstart").split("&&")[-1].replace(".venv/bin/python", sys.executable)
    began = time.monotonic()
    subprocess.run([*shlex.split(run), f"--workdir={tmp_path / 'run'}"], cwd=ROOT, check=True)
    seconds = time.monotonic() - began
    folder = tmp_path / "run"
    scores = json.loads((folder / "metrics.json").read_text())["methods"]
    keys = {
        "mean_disorientation_deg",
        "p95_disorientation_deg",
        "share_above_5deg",
        "wrong_grain_share",
        "mape_percent",
    }
    for method in ("prior and shapes", "diffusion prior", "nearest slice", "linear"):
        assert keys <= scores[method].keys()
        assert all(np.isfinite(scores[method][key]) for key in keys)
    # The table of the README, to the digits it prints; another processor rounds another draw.
    for method, row in scores.items():
        printed = re.search(rf"^\| {re.escape(method)} \| \**([\d.]+)", README, re.MULTILINE)
        assert printed is not None, f"the README has no row for {method}"
        tolerance = 0.15 if "prior" in method else 0.006
        assert row["mean_disorientation_deg"] == pytest.approx(float(printed.group(1)), abs=tolerance)
    page = (folder / "report.html").read_text()
    assert page.count("data:image/png;base64,") >= 5
    assert re.search(r'(src|href)="(?!data:|#)', page) is None
    _check_vti(folder / "reconstruction.vti", scores)
    print(f"quick start: {seconds:.0f} s")


def _check_vti(path: Path, scores: dict) -> None:
    """ParaView's own reader finds orientations, colours and errors as cell arrays, and the errors are the table's."""
    vtk = pytest.importorskip("vtkmodules.vtkIOXML")
    from vtkmodules.util.numpy_support import vtk_to_numpy

    reader = vtk.vtkXMLImageDataReader()
    reader.SetFileName(str(path))
    reader.Update()
    cells = reader.GetOutput().GetCellData()
    arrays = {cells.GetArrayName(i): vtk_to_numpy(cells.GetArray(i)) for i in range(cells.GetNumberOfArrays())}
    np.testing.assert_allclose(np.linalg.norm(arrays["quaternion"], axis=1), 1.0, atol=1e-5)
    assert arrays["ipf_z"].dtype == np.uint8
    assert arrays["ipf_z"].shape[1] == 3
    missing = (arrays["known"] == 0) & np.isfinite(arrays["error_deg"])
    assert arrays["error_deg"][missing].mean() == pytest.approx(
        scores["prior and shapes"]["mean_disorientation_deg"], rel=1e-4
    )
