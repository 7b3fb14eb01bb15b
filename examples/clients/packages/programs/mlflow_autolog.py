"""MLflow: automatic logs of a training, with the optimizer's settings and the saved model."""

from __future__ import annotations

import pathlib
import tempfile

import mlflow
import numpy as np

from clients.packages import data

HOW = "by name"


def losses(optimizer: str) -> dict[str, tuple[float, float]]:
    """Trains under `autolog`, and predicts by the model that it has saved."""
    x, y = data.digits()
    with tempfile.TemporaryDirectory() as folder:
        mlflow.set_tracking_uri(f"sqlite:///{pathlib.Path(folder) / 'runs.db'}")
        mlflow.set_experiment(
            experiment_id=mlflow.create_experiment(
                "digits", artifact_location=(pathlib.Path(folder) / "artifacts").as_uri()
            )
        )
        mlflow.tensorflow.autolog(log_datasets=False)
        model = data.classifier(optimizer)
        with mlflow.start_run() as run:
            history = model.fit(x, y, batch_size=512, epochs=15, verbose=0)
        logged = mlflow.get_run(run.info.run_id)
        assert logged.data.params["opt_name"] == optimizer, logged.data.params
        assert np.isclose(logged.data.metrics["loss"], data.ends(history)[1])
        copy = mlflow.tensorflow.load_model(f"runs:/{run.info.run_id}/model")
        np.testing.assert_allclose(copy.predict(x, verbose=0), model.predict(x, verbose=0))
    return {"MLflow, `autolog`": data.ends(history)}
