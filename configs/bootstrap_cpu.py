"""The complete chain on a CPU, from raw measured volumes to a report, with nothing given.

What:     local models of two measured volumes -> MOSM covariances -> Gaussian random fields -> LGD-refined dataset ->
          a foundation model pre-trained on patches and fine-tuned on the dataset -> missing slices of a held-out region
          filled, three 2D maps grown to a periodic volume.
Command:  python -m polymicros_jax.main --config=configs/bootstrap_cpu.py
Cost:     at most 45 minutes on two cores.
Expect:   every stage runs and reports honestly; models trained for minutes do not beat classical interpolation, and the
          dataset they draw may be blurred. The shipped prior (configs/compact_gsh4.py) is stage 3 with rounds on
          the half and the full grid, Al1050 at half its resolution besides, and more patience.
"""

from ml_collections import ConfigDict

from polymicros_jax import config as defaults


def get_config() -> ConfigDict:
    """A chain of seven stages."""
    config = defaults.default("bootstrap")
    stages = config.bootstrap
    sources = {"in100": "in100/train", "al1050": "al1050/train"}
    for name, source in sources.items():
        stages[f"1_local_{name}"] = _training(steps=100, volumes=(source,), name=f"local_{name}")

    generate = defaults.default("generate")
    generate.generate.priors = tuple(f"stage:1_local_{name}/local_{name}.safetensors" for name in sources)
    generate.generate.shape = (32, 32, 32)
    generate.generate.covariances = 4
    generate.generate.repeats = 1
    # Models trained for two minutes need not draw crystals: a Gaussian field is 0.67 of the manifold's norm away from
    # it, what an untrained model draws 0.92. All pass here, and their records say how far they are.
    generate.generate.largest_mean_distance = 1.0
    stages["2_generate"] = generate

    stages["3_pretrain"] = _training(steps=200, volumes=tuple(sources.values()), name="pretrained")
    finetune = _training(steps=60, volumes=(), name="finetuned")
    finetune.train.dataset = "stage:2_generate/dataset"
    finetune.train.initial = "stage:3_pretrain/pretrained.safetensors"
    finetune.train.optimisation.learning_rate = 2e-4
    stages["4_finetune"] = finetune

    fill = defaults.default("super_resolve")
    fill.super_resolve.prior = "stage:4_finetune/finetuned.safetensors"
    fill.super_resolve.volume = defaults.volume("in100/evaluate")
    fill.super_resolve.volume.stop = (36, 48, 33)
    fill.super_resolve.draws = 2
    fill.super_resolve.steps = 32
    stages["5_super_resolve"] = fill

    expand = defaults.default("expand")
    expand.expand.prior = "stage:4_finetune/finetuned.safetensors"
    expand.expand.volume = defaults.volume("in100/evaluate")
    stages["6_expand"] = expand
    return config


def _training(steps: int, volumes: tuple[str, ...], name: str) -> ConfigDict:
    config = defaults.default("train")
    config.train.name = name
    config.train.volumes = tuple(defaults.volume(source) for source in volumes)
    config.train.optimisation.steps = steps
    config.train.validation = (defaults.volume("in100/evaluate"),) if len(volumes) != 1 else ()
    config.train.checkpoint_every = 50
    return config
