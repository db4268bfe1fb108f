"""Searches without the time of their trainings."""

import keras
import pytest

from kerasrnn.recipes import training


@pytest.fixture
def there(tmp_path, monkeypatch):
    """A new working folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def fits(monkeypatch):
    """A function that replaces the training: `outcome(config)` becomes its validation loss.

    It returns the list of the configurations that are trained from then on.
    """

    def replace(outcome):
        trained = []

        def fit(recipe, config, run, data, execution, progress, placement):
            trained.append(config)
            loss = outcome(config)
            return [{"epoch": 0, "val_loss": loss, "val_accuracy": 1 - loss, "seconds": 0.1}]

        monkeypatch.setattr(training, "fit", fit)
        monkeypatch.setattr(keras.utils, "clear_session", lambda: None)  # there is nothing to clear
        return trained

    return replace
