"""aeon: classifiers of time series."""

from __future__ import annotations

import contextlib
import io
import tempfile
from typing import Any

import keras
import numpy as np
from aeon.classification import deep_learning

HOW = "`optimizer=keras.optimizers.get(name)`, as for any optimizer there"


def losses(optimizer: str) -> dict[str, tuple[float, float]]:
    """Trains three classifiers on waves of two frequencies."""
    rng = np.random.default_rng(0)
    y = np.arange(64) % 2
    time = np.linspace(0, 1, 32)
    phases = rng.uniform(0, 6, size=(64, 1))
    x = np.sin((6 + 4 * y[:, None]) * time + phases) + 0.3 * rng.normal(size=(64, 32))
    kinds: dict[str, tuple[Any, dict[str, Any]]] = {
        "MLP": (deep_learning.MLPClassifier, {"n_units": 32, "use_bias": True}),
        "FCN": (deep_learning.FCNClassifier, {"n_filters": [8, 16, 8]}),
        "ResNet": (
            deep_learning.ResNetClassifier,
            {
                "n_residual_blocks": 2,
                "n_conv_per_residual_block": 2,
                "n_filters": [8, 8],
                "kernel_size": [5, 3],
            },
        ),
    }
    found = {}
    for name, (classifier, options) in kinds.items():
        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
            model = classifier(
                optimizer=keras.optimizers.get(optimizer),
                n_epochs=15,
                batch_size=64,
                random_state=0,
                file_path=folder + "/",
                **options,
            )
            model.fit(x[:, None, :], y)
            model.predict(x[:, None, :])
        history = model.summary()["loss"]
        found[f"aeon, `{name}Classifier`"] = float(history[0]), float(history[-1])
    return found
