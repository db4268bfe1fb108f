"""How a search for a good configuration is carried out."""

from dataclasses import dataclass

from kerasrnn.recipes.config import HIGHEST_SEED, ConfigError, Options, option

ALGORITHMS = ("random", "hyperband", "bayesian")


@dataclass(frozen=True)
class Searching(Options):
    """How a search for a good configuration is carried out."""

    algorithm: str = option(
        "random",
        "what is tried next: values drawn at random (Bergstra & Bengio 2012); many, trained "
        "briefly, and the best of them for longer, up to the recipe's epochs (hyperband, Li et al. "
        "2018); or what a Gaussian process expects most of (bayesian, Snoek et al. 2012)",
        choices=ALGORITHMS,
    )
    trials: int = option(
        20,
        "configurations that are tried, the defaults among them; 0: as many as there is time for, "
        "or as Hyperband takes, which is what it has where --minutes or Hyperband is asked for",
        low=0,
    )
    minutes: float = option(0.0, "after which no trial is begun, from now on; 0: no end", low=0.0)
    objective: str = option(
        "val_loss", "measure on the validation data: val_loss, or a val_NAME of the recipe's log"
    )
    workers: int = option(1, "processes on this machine that run trials side by side", low=1)
    search_seed: int = option(0, "random seed of the search", low=0, high=HIGHEST_SEED - 1)

    RESUMABLE = ("trials", "minutes", "workers")
    """What a search may be resumed with another value of."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.trials and not self.minutes and self.algorithm != "hyperband":
            raise ConfigError("trials=0: expected at least 1, or a budget of minutes.")
