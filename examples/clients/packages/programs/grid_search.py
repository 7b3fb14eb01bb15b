"""scikit-learn: `GridSearchCV` over a wrapped Keras model, and pickles of what it has found."""

from __future__ import annotations

import pickle

import keras
import numpy as np
import sklearn.model_selection

from clients.packages import data

HOW = "by name"


def losses(optimizer: str) -> dict[str, tuple[float, float]]:
    """Searches among two widths with two folds, pickles the best and predicts by the copy."""
    x, y = data.digits()

    def build(X: np.ndarray, y: np.ndarray, width: int) -> keras.Model:  # noqa: N803
        # The wrapper has turned labels into columns.
        return data.classifier(optimizer, width, "categorical_crossentropy")

    search = sklearn.model_selection.GridSearchCV(
        keras.wrappers.SKLearnClassifier(build, model_kwargs={"width": 8}),
        {"model_kwargs": [{"width": 8}, {"width": 32}]},
        cv=2,
        error_score="raise",
    )
    # Copies of the wrapper lose its own `fit_kwargs`.
    search.fit(x, y, batch_size=512, epochs=15, verbose=0)
    model = search.best_estimator_.model_
    copy = pickle.loads(pickle.dumps(model))
    np.testing.assert_allclose(copy.predict(x, verbose=0), model.predict(x, verbose=0), atol=1e-6)
    assert type(copy.optimizer) is type(model.optimizer)
    return {"scikit-learn, `GridSearchCV`": data.ends(search.best_estimator_.history_)}
