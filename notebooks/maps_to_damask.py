# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Three maps to a periodic DAMASK model
#
# Three orthogonal EBSD maps are all there is; a crystal-plasticity simulation wants a periodic 3D volume that is
# statistically like the material. The two-point statistics of the maps become targets; a diffusion prior draws a
# volume that is held to them while it is still mostly noise, and then makes crystals of it on its own. The result
# goes into files for the DAMASK grid solver.
#
# **A limit to know first.** The shipped prior is small. Its draws consist of crystals and look like polycrystals, but
# orientations vary inside grains as they do not in the specimen: the last step gives each grain the orientation of its
# mean. Grains come out smaller than those of the specimen and boundaries are ragged. This notebook measures what it
# can, and no number is hidden in the text.

# %% [markdown]
# The first cell installs the package where it is missing. In Colab, clone the repository before it, in a cell of its
# own: `!git clone` and the address. Everything else runs on two CPU cores in a few minutes.

# %%
import importlib.metadata
import subprocess
import sys
from pathlib import Path

try:
    importlib.metadata.version("polymicros-jax")
except importlib.metadata.PackageNotFoundError:
    near = [Path.cwd(), *Path.cwd().parents, *Path.cwd().iterdir()]
    clone = next(each for each in near if (each / "polymicros_jax" / "__init__.py").is_file())
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", str(clone)], check=True)

# %%
import importlib.util

import jax
import numpy as np

import polymicros_jax as pm
from polymicros_jax.conditioners.slice_targets import slice_targets
from polymicros_jax.conditioners.two_point import plane_covariances
from polymicros_jax.data.export import write_damask
from polymicros_jax.data.volume import OrientationVolume
from polymicros_jax.expansion import FAR
from polymicros_jax.orientation import grains
from polymicros_jax.orientation.grain_averaging import grain_averaged
from polymicros_jax.viz import correlations

# %% [markdown]
# Settings. For your own maps put `pm.read("map_z.ang", frame="edax")` and its like into `maps`; the key is the axis
# a map is normal to. A map is read as a section normal to z: `rotate_frame` turns one normal to x or y into its plane,
# with its orientations (`configs/expand.py` has the matrices). Each side of `SHAPE` is a multiple of 8, the stride of
# the shipped network.

# %% tags=["parameters"]
SHAPE = (24, 24, 24)
STEPS, BUDGET = 25, 20  # noise levels; gradient evaluations of each match
BOUNDARY_COST = 1.0  # of the grain averaging, see below
UNTIL = 1.0  # noise level down to which statistics are matched; None matches them to the end
FOLDER = Path("runs/maps_to_damask")

# %%
region = pm.load_sample("in100", "evaluate").crop((0, 30, 4), (36, 66, 40))
middle = [n // 2 for n in region.shape]
maps = {}
for number, axis in enumerate("xyz"):
    start, stop = [0, 0, 0], list(region.shape)
    start[number], stop[number] = middle[number], middle[number] + 1
    maps[axis] = region.crop(start, stop)
pm.plot(region, title="The three maps")

# %% [markdown]
# ## Targets from the maps alone
#
# In the nine channels of `gsh4` a polycrystal is a vector field; its two-point covariances say how alike two points
# are as a function of the vector between them. Three single maps are small samples that contradict each other a
# little, so that in general *no* volume has exactly their statistics. `slice_targets` finds the nearest ones that
# some volume of crystals has; the misfit it reports is that of the maps, not of the model.

# %%
kind, prior = pm.representation("gsh4"), pm.load_prior("compact_gsh4")
sections = {axis: np.asarray(kind.encode(each.quaternions)).squeeze("xyz".index(axis)) for axis, each in maps.items()}
key = jax.random.key(0)
target_key, _ = jax.random.split(key)  # `expand` makes its targets with this key: these are the same
targets = slice_targets(target_key, sections, SHAPE, kind=kind)
variance = float(np.mean([np.trace(plane[0, 0]) / kind.channels for plane in targets.planes.values()]))
print(f"variance {variance:.3f}; maps less the nearest statistics of crystals, root mean square: {targets.misfit:.4f}")

# %% [markdown]
# ## Draw
#
# Beside it the same prior without any map, which is what the maps have to improve on.

# %%
field = pm.expand(key, prior, sections, SHAPE, steps=STEPS, until=UNTIL, budget=BUDGET)[0]
free = pm.expand(key, prior, sections, SHAPE, steps=STEPS, until=1e3, budget=BUDGET)[0]  # never matched


def error(field):
    """Root mean square difference to the targets on the three planes."""
    found = plane_covariances(field)
    return float(np.sqrt(np.mean([np.nanmean(np.square(found[axis] - targets.planes[axis])) for axis in found])))


errors = {name: error(each) for name, each in {"drawn from the maps": field, "the prior alone": free}.items()}
for name, each in errors.items():
    print(f"{name}: error on the planes {each:.4f}, {100 * each / variance:.0f} % of the variance")
correlations.orthogonal_planes(
    {"target": targets.planes, "drawn": plane_covariances(field)},
    pairs=[(0, 0), (1, 1), (0, 1)],
    spacing=region.spacing,
    label="covariance",
)

# %% [markdown]
# ## Is it a polycrystal?
#
# The channels of a crystal lie on a curved surface, and every voxel of the draw lies on it: the last thing that
# happens to a draw is that each voxel takes the nearest orientation. With `UNTIL = None` statistics are met to the last
# digits instead, and hardly a voxel is a crystal: try it.

# %%
quaternions, distance = kind.decode(field)
off_surface = float(np.mean(np.asarray(distance) > FAR * 3 * prior.sigma_data))
print(f"{100 * off_surface:.0f} % of the voxels are no crystal")
pm.plot(quaternions, spacing=region.spacing, title="Drawn")

# %% [markdown]
# ## Grains
#
# Neighbours less than five degrees apart belong to one grain; grains of fewer than eight voxels do not count. The
# measured region falls into grains this way. In the draw orientations change gradually too, so that most of it hangs
# together: the eye sees grains, the count does not find them. `grain_averaged` finds the nearest volume of constant
# grains, at a price for each voxel face between two of them (Mumford and Shah's energy): the larger `BOUNDARY_COST`,
# the fewer grains.

# %%
averaged, labels = grain_averaged(field, kind, BOUNDARY_COST, periodic=True)
flat = np.asarray(kind.decode(averaged)[0])
errors["drawn, grain averaged"] = error(averaged)
print(f"error on the planes: {errors['drawn, grain averaged']:.4f}")
counted = {
    "drawn": grains.segment(quaternions, group=kind.group, periodic=True, minimum_size=8),
    "drawn, grain averaged": grains.segment(flat, group=kind.group, periodic=True, minimum_size=8),
    "measured": grains.segment(region.quaternions, group=kind.group, mask=region.mask, minimum_size=8),
}
largest = {name: grains.sizes(each).max(initial=0) / each.size for name, each in counted.items()}
for name, each in counted.items():
    print(f"{name}: {each.max() + 1} grains, the largest {100 * largest[name]:.0f} % of the voxels")
pm.plot(flat, spacing=region.spacing, title="Drawn, grain averaged")

# %% [markdown]
# ## Files for DAMASK
#
# A geometry in metres and a material configuration. Neither lattice nor constitutive law are in a scan: here the
# elastic constants of pure nickel stand for the superalloy. A voxel and its partner on the opposite face are
# neighbours, and grains run through the faces. Every grain is the material of its number.

# %%
model = OrientationVolume(
    quaternions=flat,
    phase=np.ones(SHAPE, np.int32),
    mask=np.ones(SHAPE, bool),
    spacing=region.spacing,
    symmetry=kind.group,
    frame=region.frame,
    provenance={**region.provenance, "expanded from": "three maps"},
    fields={"grain": labels},
)
nickel = {
    "lattice": "cF",
    "mechanical": {
        "output": ["F", "P"],
        "elastic": {"type": "Hooke", "C_11": 246.5e9, "C_12": 147.3e9, "C_44": 124.7e9},
    },
}
FOLDER.mkdir(parents=True, exist_ok=True)
geometry, material = write_damask(model, FOLDER / "geometry.vti", grains=labels, phases={"Nickel": nickel})
print(geometry, material)

# %% [markdown]
# Read back by DAMASK's own library, where it is installed (`pip install damask`).

# %%
if importlib.util.find_spec("damask"):
    import damask

    print(damask.GeomGrid.load(geometry))
    configuration = damask.ConfigMaterial.load(material)
    print(f"complete: {configuration.is_complete}, {len(configuration['material'])} materials")

# %% [markdown]
# What to take from this: the chain from maps to a solver's input works, and the volume consists of crystals whose
# statistics are nearer to those of the maps than the prior alone comes. How clear the grains are is the question of
# the prior. One trained longer, or on your material (see the notebook on local models), is put in by its path:
# `pm.load_prior("runs/mine/mine.safetensors")`.
