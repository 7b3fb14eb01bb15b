"""HGQ2: networks whose numbers of bits are trained, by gradients that pass through rounding."""

from __future__ import annotations

import hgq.config
import hgq.layers
import keras

from clients.packages import data

HOW = "by name"


def losses(optimizer: str) -> dict[str, tuple[float, float]]:
    """Trains two quantised layers."""
    x, y = data.digits()
    keras.utils.set_random_seed(0)
    with hgq.config.LayerConfigScope(beta0=1e-6):
        model = keras.Sequential(
            [
                keras.Input((64,)),
                hgq.layers.QDense(24, activation="tanh"),
                hgq.layers.QDense(10),
            ]
        )
    model.compile(optimizer, loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return {"HGQ2, two `QDense`": data.ends(model.fit(x, y, batch_size=512, epochs=15, verbose=0))}
