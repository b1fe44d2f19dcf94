"""Rebuilds the bundled samples from the published files, or those of a generated dataset.

Usage:
    python launch/bundle_samples.py DATA_FOLDER
    python launch/bundle_samples.py --dataset=runs/generate_64/dataset

DATA_FOLDER holds `exp3d_in100_crop` with `FeatureIds.raw` and `grain_orientations.csv` (columns FeatureId, assigned,
phi1_rad, Phi_rad, phi2_rad), `exp3d_al1050_labdct` with `lab_dct_Al1050.h5`, and `exp3d_in100_raw_slices_1to5` with
`Slice_1.ang` to `Slice_5.ang`. All are published (docs/data_card.md) but for the table of orientations, which holds the
result of a matching that is not part of this repository.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from polymicros_jax.data import store
from polymicros_jax.data.atomic import replacing
from polymicros_jax.data.samples import FOLDER
from polymicros_jax.orientation import quaternion, representation

IN100_CITATION = "M.A. Groeber, M.A. Jackson, Integr. Mater. Manuf. Innov. 3:5 (2014), doi:10.1186/2193-9772-3-5"


def write(name: str, header: dict[str, Any], arrays: dict[str, Any]) -> None:
    """Writes one bundle and reports its size."""
    path = FOLDER / f"{name}.npz"
    with replacing(path) as temporary, temporary.open("wb") as handle:
        np.savez_compressed(handle, header=np.array(json.dumps(header)), **arrays)
    print(f"{path.name}: {path.stat().st_size / 1e6:.2f} MB")


def in100(folder: Path) -> None:
    """Inconel 100: grain ids and one orientation per grain; grains without one get a zero row."""
    shape = (68, 100, 100)
    grain = np.fromfile(folder / "FeatureIds.raw", dtype="<i4").reshape(shape)
    table = np.genfromtxt(folder / "grain_orientations.csv", delimiter=",", names=True)
    assigned = table["assigned"] == 1
    ids = table["FeatureId"].astype(int)
    euler = np.stack([table["phi1_rad"], table["Phi_rad"], table["phi2_rad"]], axis=-1)
    orientation = np.zeros((max(ids.max(), grain.max()) + 1, 4), np.float32)
    orientation[ids[assigned]] = np.asarray(quaternion.from_euler(euler[assigned].astype(np.float32)))
    header = {
        "spacing": [0.25, 0.25, 0.25],
        "symmetry": "432",
        "frame": "none",
        "provenance": {
            "sample": "in100",
            "material": "Inconel 100, nickel superalloy",
            "method": "FIB-SEM serial-section EBSD, reconstructed with DREAM.3D; measured",
            "source": "https://github.com/BlueQuartzSoftware/complex, src/Plugins/ComplexCore/data, "
            "commit df38a94f0ad812e682edce86ef8517bde3572f96",
            "licence": "BSD-3-Clause, Copyright (c) 2021 BlueQuartz Software, LLC",
            "citation": IN100_CITATION,
            "conversions": "first 68 sections of X 41-140, Y 41-140, Z 0-99; one orientation per grain, derived by "
            "matching grains to the 5414 features of FindConnectedFeatures_Input.dream3d through IPF colours; grains "
            "without a match are masked; transposed from z, y, x to x, y, z",
            "convention": "positions and orientations share one frame: 76 % of the flat twin boundaries lie within 10 "
            "degrees of a shared {111} plane, at most 10 % in any of the 23 other axis frames",
            "limits": "no orientation spread inside a grain",
            "phases": ["Nickel"],
        },
    }
    write("in100", header, {"grain": grain.transpose(2, 1, 0).astype(np.uint16), "orientation": orientation})


def al1050(folder: Path) -> None:
    """Aluminium 1050: grain ids and one orientation per grain."""
    with h5py.File(folder / "lab_dct_Al1050.h5") as file:
        data = file["LabDCT/Data"]
        grain, phase, rodrigues = data["GrainId"][()], data["PhaseId"][()], data["Rodrigues"][()]
        spacing = [float(h) * 1e3 for h in file["LabDCT/Spacing"][()]]  # mm to micrometres
    grain = np.where(phase > 0, grain, 0)
    orientation = np.zeros((grain.max() + 1, 4), np.float32)
    for number in np.unique(grain[grain > 0]):
        vectors = np.unique(rodrigues[grain == number], axis=0)
        if len(vectors) != 1:
            raise ValueError(f"grain {number}: found {len(vectors)} orientations, accepted is one")
        orientation[number] = quaternion.from_rodrigues(-vectors[0])  # see data.ebsd.grainmapper for the sign
    header = {
        "spacing": spacing,
        "symmetry": "432",
        "frame": "none",
        "provenance": {
            "sample": "al1050",
            "material": "aluminium 1050",
            "method": "laboratory diffraction contrast tomography, GrainMapper3D 3.2.5; measured",
            "source": "https://github.com/AxelHenningsson/crispy, assets/lab_dct_Al1050.h5, "
            "commit 739e3302a7f539c778a8017a79db3c341fff1416",
            "licence": "MIT, Copyright (c) 2024 Axel Henningsson",
            "citation": "A. Henningsson, crispy, https://github.com/AxelHenningsson/crispy",
            "conversions": "Rodrigues vector r of a grain taken as the quaternion (1, -r) / |(1, r)|, sample to "
            "crystal; transposed from z, y, x to x, y, z",
            "convention": "the source states neither the sign nor active or passive; the sign used here is the one "
            "that agrees with the file's own IPF001 colours; not verified against an independent map",
            "limits": "no orientation spread inside a grain",
            "phases": ["Aluminum"],
        },
    }
    write("al1050", header, {"grain": grain.transpose(2, 1, 0).astype(np.uint16), "orientation": orientation})


def in100_raw_slices(folder: Path) -> None:
    """Five raw sections of Inconel 100, as measured: neither aligned nor cleaned."""
    stack = []
    for number in range(1, 6):
        rows = np.loadtxt(folder / f"Slice_{number}.ang", comments="#", usecols=(0, 1, 2, 5, 6))
        stack.append(rows.reshape(201, 189, 5).transpose(1, 0, 2))
    data = np.stack(stack, axis=2)
    mask = data[..., 4] >= 0
    # Unindexed points hold angles of 4 pi: constants that mean nothing.
    euler = np.where(mask[..., None], np.round(data[..., :3] * 1e5), 0).astype(np.int32)
    header = {
        "spacing": [0.25, 0.25, 0.25],
        "symmetry": "432",
        "frame": "none",
        "provenance": {
            "sample": "in100_raw_slices",
            "material": "Inconel 100, nickel superalloy",
            "method": "FIB-SEM serial-section EBSD; measured, first 5 of 117 sections, neither aligned nor cleaned",
            "source": "https://github.com/BlueQuartzSoftware/NXWorkshop, PythonTutorial/Data/Small_IN100/Slice_1.ang "
            "to Slice_5.ang, commit 0089a5ae52ab26acf9ed0b9d49b3f548148f2367",
            "licence": "BSD-3-Clause, Copyright (c) 2024 BlueQuartz Software",
            "citation": IN100_CITATION,
            "conversions": "voxels of confidence index -1 are unobserved; Euler angles as written, in the file's own "
            "frame (frame none)",
            "limits": "the same specimen as in100, other sections: for demonstrations of repair, not for evaluation",
            "phases": ["Nickel"],
        },
    }
    arrays = {
        "euler": euler,
        "mask": mask,
        "confidence": np.round(data[..., 4] * 1000).astype(np.int16),
        "image_quality": np.round(data[..., 3] * 10).astype(np.int16),
    }
    write("in100_raw_slices", header, arrays)


def generated(folder: Path) -> None:
    """The first sample of each local model of a dataset: what the engine makes, for those who will not run it."""
    dataset = store.open(folder)
    settings = dataset.settings
    kind = representation.get(settings["representation"])
    records = {index: store.read_record(dataset, index) for index in store.completed(dataset)}
    for model in settings["local_models"]:
        source = model["name"].removeprefix("local_")
        index, record = next(item for item in records.items() if item[1]["local_model"] == model["name"])
        # The volumes are grain averaged: as many different values as grains.
        voxels = store.read_volume(dataset, index).reshape(-1, kind.channels)
        values, grain = np.unique(voxels, axis=0, return_inverse=True)
        orientation = np.asarray(kind.decode(values.astype(np.float32))[0])
        if len(values) > np.iinfo(np.uint16).max:
            raise ValueError(f"sample {index}: found {len(values)} orientations, accepted are those of grains")
        header = {
            "spacing": [1.0, 1.0, 1.0],
            "symmetry": kind.group,
            "frame": "none",
            "provenance": {
                "sample": f"generated_{source}",
                "simulated": True,
                "periodic": True,
                "material": f"none: structure in the manner of {source}",
                "method": f"simulated: local-to-global diffusion, local model {model['name']} (sha256 of its weights "
                f"{model['sha256'][:12]}), trained on {model['source']}",
                "source": f"configs/generate_64.py, sample {index}, seed {record['seed']}, "
                f"covariance {record['covariance']}",
                "licence": "Apache-2.0, as this project",
                "citation": "M. Buzzy, A. Robertson, P. Chen, S. Kalidindi, arXiv:2506.11055 (2025)",
                "conversions": "channels decoded to the nearest orientation",
                "limits": "the draw was grain averaged: orientations inside grains, which varied by some ten degrees, "
                "are those of the means; a voxel has no size (1 um is a placeholder)",
            },
        }
        arrays = {"grain": grain.reshape(dataset.shape).astype(np.uint16), "orientation": orientation}
        write(f"generated_{source}", header, arrays)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?", help="folder with the published files")
    parser.add_argument("--dataset", type=Path, help="folder of a generated dataset")
    options = parser.parse_args()
    if options.data:
        in100(options.data / "exp3d_in100_crop")
        al1050(options.data / "exp3d_al1050_labdct")
        in100_raw_slices(options.data / "exp3d_in100_raw_slices_1to5")
    if options.dataset:
        generated(options.dataset)
