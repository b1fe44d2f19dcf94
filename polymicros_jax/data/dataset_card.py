"""The card of a generated dataset, written from what is in it."""

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from polymicros_jax.data import store as stores
from polymicros_jax.data import throughput
from polymicros_jax.data.atomic import replacing
from polymicros_jax.data.simulated import PREFIX
from polymicros_jax.orientation import representation


def describe(store: stores.Store) -> dict[str, Any]:
    """What the records and the files of a dataset say, as a JSON-compatible dict. The volumes are not read."""
    complete, refused = stores.completed(store), stores.refused(store)
    records = [stores.read_record(store, index) for index in complete]
    refusals = [stores.read_refusal(store, index) for index in refused]
    failures = [failure for record in [*records, *refusals] for failure in record["rejected"]]
    attempts = len(records) + len(failures)
    size = sum(store.shard(index).stat().st_size for index in complete if store.shard(index).is_file())
    raw = len(complete) * store.channels * int(np.prod(store.shape)) * np.dtype(store.dtype).itemsize
    return {
        "samples": {"planned": store.samples, "complete": len(complete), "refused": len(refused)},
        "shape": list(store.shape),
        "channels": store.channels,
        "dtype": store.dtype,
        "bytes": size,
        "compressed_to": size / raw if raw else None,
        "rejection_rate": len(failures) / attempts if attempts else None,
        "rejected_because": dict(Counter(failure["check"] for failure in failures)),
        "by_local_model": dict(sorted(Counter(record["local_model"] for record in records).items())),
        "covariances_present": len({record["covariance"] for record in records}),
        "checks": _summaries([record["checks"] for record in records]),
        "channel_mean": _across([record["channels"]["mean"] for record in records]),
        "channel_std": _across([record["channels"]["std"] for record in records]),
        "made_with": [json.loads(text) for text in sorted({json.dumps(record["made_with"]) for record in records})],
        "settings": dict(store.settings),
    }


def write_card(store: stores.Store) -> dict[str, Any]:
    """Writes ``dataset.json``, ``throughput.json`` and ``README.md`` into the folder of a dataset.

    Of several workers that end together, one may write an account that another has overtaken. So each looks again
    after it has written, and the last word is that of a worker that saw everything.

    Returns:
      What ``dataset.json`` holds.
    """
    while True:
        content = describe(store)
        rates = throughput.throughput(store)
        with replacing(store.directory / "dataset.json") as temporary:
            temporary.write_text(json.dumps(content, indent=1) + "\n")
        with replacing(store.directory / "throughput.json") as temporary:
            temporary.write_text(json.dumps(rates, indent=1) + "\n")
        with replacing(store.directory / "README.md") as temporary:
            temporary.write_text(_page(content, rates))
        seen = (content["samples"]["complete"], content["samples"]["refused"])
        if seen == (len(stores.completed(store)), len(stores.refused(store))):
            return content


def _summaries(checks: Sequence[dict[str, float]]) -> dict[str, dict[str, float]]:
    """Quantiles over samples, by check."""
    names = sorted({name for check in checks for name in check})
    summaries = {}
    for name in names:
        values = np.array([check[name] for check in checks if name in check])
        low, median, high = np.quantile(values, [0.05, 0.5, 0.95])
        summaries[name] = {"p5": float(low), "median": float(median), "p95": float(high)}
    return summaries


def _across(values: Sequence[Sequence[float]]) -> list[float] | None:
    """Mean over samples, per channel."""
    return np.mean(np.array(values), axis=0).tolist() if values else None


def _label(source: str) -> str:
    """What a model learnt from is measured unless its source says otherwise; the label travels with the data."""
    return f"*simulated*: {source}" if PREFIX in source else source


def _page(content: dict[str, Any], rates: list[dict[str, Any]]) -> str:
    settings, samples = content["settings"], content["samples"]
    nx, ny, nz = content["shape"]
    models = [
        f"| {model['name']} | {_label(model['source'])} | {content['by_local_model'].get(model['name'], 0)} "
        f"| {model['parameters']:,} | {model['sigma_data']:.4g} | `{model['sha256'][:12]}` |"
        for model in settings["local_models"]
    ]
    checks = [
        f"| {name} | {value['p5']:.4g} | {value['median']:.4g} | {value['p95']:.4g} |"
        for name, value in content["checks"].items()
    ]
    reasons = "; ".join(f"{name}: {count}" for name, count in content["rejected_because"].items()) or "none"
    rate = content["rejection_rate"]
    compression = content["compressed_to"]
    lines = [
        "# Generated polycrystals",
        "",
        f"{samples['complete']} of {samples['planned']} periodic volumes of {nx} x {ny} x {nz} voxels, "
        f"{content['channels']} channels ({settings['representation']}), {content['dtype']}. They are synthetic: drawn "
        "by local-to-global diffusion from Gaussian fields with prescribed two-point statistics, refined by local "
        "models. This page is written from the data.",
        "",
        "## How they were made",
        "",
        f"{settings['covariances']} covariances x {settings['models']} local models x {settings['repeats']} repeats, "
        f"seed {settings['seed']}, diffusion from step {settings['skip']} of {settings['steps']}, "
        f"{settings['mixtures']} mixtures a covariance. {content['covariances_present']} covariances are present.",
        "",
        "| local model | trained on | samples | parameters | sigma_data | weights |",
        "|---|---|---|---|---|---|",
        *models,
        "",
        "## Checks",
        "",
        f"Rejected attempts: {'none yet' if rate is None else f'{100 * rate:.1f} %'} ({reasons}). "
        f"Refused samples (every attempt rejected): {samples['refused']}.",
        "",
        "| check | 5 % | median | 95 % |",
        "|---|---|---|---|",
        *checks,
        "",
        "Distances are to the nearest orientation, in units of the norm of the representation.",
        "",
        "## Throughput",
        "",
        *throughput.sentences(rates, store_shape=(nx, ny, nz)),
        "",
        "## Files",
        "",
        f"`fields/` is a zarr v3 array `(sample, x, y, z, channel)`, one shard a volume, "
        f"{content['bytes'] / 1e6:.1f} MB"
        + (f", compressed to {100 * compression:.0f} %." if compression is not None else "."),
        "`records/` has one JSON file per complete sample with its seed, covariance parameters, local model, rejected",
        "attempts, checks and the SHA-256 of its values; samples without a record are not complete. `dataset.json` has",
        "the numbers of this page and all settings, `throughput.json` the rates.",
        "",
        "```python",
        "import zarr",
        'volume = zarr.open_group("FOLDER", mode="r")["fields"][0]',
        "```",
        "",
    ]
    if representation.get(settings["representation"]).invertible:
        lines += [
            "As orientations, and as input of DAMASK; `export.write` has the other formats. A voxel has no size: the",
            "1.0 micrometres stand for yours. Grains that were averaged are materials, otherwise voxels are.",
            "",
            "```python",
            *_ORIENTATIONS.format(representation=settings["representation"]).splitlines(),
            "```",
            "",
        ]
    return "\n".join(lines)


_ORIENTATIONS = """\
import numpy as np
import polymicros_jax as pm
from polymicros_jax.data import export, store
from polymicros_jax.data.volume import OrientationVolume

kind = pm.representation("{representation}")
field = store.read_volume(store.open("FOLDER"), 0).astype(np.float32)
every = np.ones(field.shape[:3], int)
volume = OrientationVolume(
    kind.decode(field)[0], every, every, (1.0, 1.0, 1.0), kind.group, provenance={{"periodic": True}}
)
export.write_damask(volume, "geometry.vti")
"""
