"""Options of a hyperparameter search."""

from dataclasses import dataclass

from kerasrnn.recipes.base.config import HIGHEST_SEED, ConfigError, Options, option

ALGORITHMS = ("random", "hyperband", "bayesian")


@dataclass(frozen=True)
class SearchOptions(Options):
    """Options of a hyperparameter search."""

    algorithm: str = option(
        "random",
        "search algorithm: random search (Bergstra & Bengio 2012); hyperband, which trains many "
        "configurations briefly and the best ones longer, up to the recipe's epochs (Li et al. "
        "2018); or bayesian optimization with a Gaussian process (Snoek et al. 2012)",
        choices=ALGORITHMS,
    )
    trials: int = option(
        20,
        "number of trials, including one with the defaults; 0: as many as the time allows or "
        "Hyperband needs, which is the default with --minutes or Hyperband",
        low=0,
    )
    minutes: float = option(
        0.0, "time budget in minutes, after which no new trial is started; 0: unlimited", low=0.0
    )
    objective: str = option(
        "val_loss", "validation metric to optimize: val_loss, or a val_NAME of the recipe's log"
    )
    workers: int = option(
        1, "number of processes that run trials in parallel on this machine", low=1
    )
    search_seed: int = option(0, "random seed of the search", low=0, high=HIGHEST_SEED - 1)

    RESUMABLE = ("trials", "minutes", "workers")
    """Options that may change when a search is resumed."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.trials and not self.minutes and self.algorithm != "hyperband":
            raise ConfigError("trials=0: expected at least 1, or a budget of minutes.")
