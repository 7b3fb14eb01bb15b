"""KerasTuner: a random search over the width of a network."""

from __future__ import annotations

import tempfile
from typing import Any

import keras
import keras_tuner

from clients.packages import data

HOW = "by name"


def losses(optimizer: str) -> dict[str, tuple[float, float]]:
    """Searches among two widths, and trains the better one on."""
    x, y = data.digits()

    def build(settings: Any) -> keras.Model:
        return data.classifier(optimizer, settings.Choice("width", [8, 32]))

    with tempfile.TemporaryDirectory() as folder:
        tuner = keras_tuner.RandomSearch(
            build, objective="loss", max_trials=2, seed=0, directory=folder, overwrite=True
        )
        tuner.search(x, y, batch_size=512, epochs=5, verbose=0)
        best = tuner.get_best_models()[0]  # Compiled anew, with the weights of the search.
        settings = tuner.get_best_hyperparameters()[0]
    assert best.count_params() == data.classifier(optimizer, settings["width"]).count_params()
    history = tuner.hypermodel.build(settings).fit(x, y, batch_size=512, epochs=15, verbose=0)
    return {"KerasTuner, `RandomSearch`": data.ends(history)}
