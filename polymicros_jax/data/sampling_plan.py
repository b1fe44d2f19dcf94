"""The design of a generated dataset: from a sample number to what the sample is made from."""

from typing import NamedTuple


class Plan(NamedTuple):
    """Every covariance with every local model, ``repeats`` times.

    Attributes:
      seed: of the dataset.
      covariances: G.
      models: L.
      repeats: R.
    """

    seed: int
    covariances: int
    models: int
    repeats: int

    @property
    def samples(self) -> int:
        """G L R."""
        return self.covariances * self.models * self.repeats


class Ingredients(NamedTuple):
    """What one sample is made from.

    Attributes:
      seed: the seed of the dataset and the number of the sample; together they seed the sample.
      covariance: number of the covariance, below G.
      model: number of the local model, below L.
      repeat: below R.
    """

    seed: tuple[int, int]
    covariance: int
    model: int
    repeat: int


def ingredients(plan: Plan, index: int) -> Ingredients:
    """Ingredients of sample ``index``.

    The model changes fastest and the repeat slowest: the first samples are the most diverse ones, and a plan with more
    repeats begins with the samples of a plan with fewer.

    Raises:
      ValueError: an index outside ``0 <= index < plan.samples``.

    >>> plan = Plan(seed=0, covariances=10, models=2, repeats=3)
    >>> [(part.covariance, part.model, part.repeat) for part in (ingredients(plan, index) for index in (0, 1, 2, 20))]
    [(0, 0, 0), (0, 1, 0), (1, 0, 0), (0, 0, 1)]
    """
    if not 0 <= index < plan.samples:
        raise ValueError(f"sample {index}: accepted is 0 <= sample < {plan.samples}")
    rest, model = divmod(index, plan.models)
    repeat, covariance = divmod(rest, plan.covariances)
    return Ingredients(seed=(plan.seed, index), covariance=covariance, model=model, repeat=repeat)


def share(samples: int, worker: int, workers: int) -> range:
    """The samples that worker ``worker`` of ``workers`` makes; the ranges of all workers cover every sample once.

    Raises:
      ValueError: there is no such worker.

    >>> [share(10, worker, 3) for worker in range(3)]
    [range(0, 3), range(3, 6), range(6, 10)]
    """
    if not 0 <= worker < workers:
        raise ValueError(f"worker {worker} of {workers}: accepted is 0 <= worker < workers")
    return range(worker * samples // workers, (worker + 1) * samples // workers)
