"""adapt: domain adaptation by networks, whose models have train steps of their own."""

from __future__ import annotations

from typing import Any

import adapt.feature_based
import keras
import numpy as np

from clients.packages import data

HOW = "by name"


def losses(optimizer: str) -> dict[str, tuple[float, float]]:
    """Trains an encoder for digits and for their negatives."""
    x, y = data.digits(256)
    labels = keras.utils.to_categorical(y, 10).astype("float32")
    found = {}
    for name, networks in (("DeepCORAL", {}), ("DANN", {"discriminator": (1, "sigmoid")})):
        keras.utils.set_random_seed(0)
        encoder, task = _layer(64, 16, "tanh"), _layer(16, 10, "softmax")
        start = task(encoder(x))
        model = getattr(adapt.feature_based, name)(
            encoder=encoder,
            task=task,
            **{key: _layer(16, *layer) for key, layer in networks.items()},
            Xt=1 - x,
            loss="categorical_crossentropy",
            optimizer=optimizer,
            random_state=0,
            verbose=0,
        )
        model.fit(x, labels, epochs=15, batch_size=256, verbose=0)
        # Under Keras 3 the "loss" of its logs is another number: the mean of labels, weighted.
        found[f"adapt, `{name}`"] = _loss(labels, start), _loss(labels, model.predict(x))
    return found


def _loss(labels: np.ndarray, predicted: Any) -> float:
    return float(np.mean(keras.losses.categorical_crossentropy(labels, predicted)))


def _layer(inputs: int, units: int, activation: str) -> keras.Model:
    return keras.Sequential([keras.Input((inputs,)), keras.layers.Dense(units, activation)])
