"""A trained model in other formats: SavedModel, ONNX, LiteRT; each predicts as the model does."""

from __future__ import annotations

import pathlib
import tempfile
from collections.abc import Callable

import keras
import numpy as np
import onnxruntime
import tensorflow as tf

from clients.packages import data

HOW = "by name"


def losses(optimizer: str) -> dict[str, tuple[float, float]]:
    """Trains once and exports in each format."""
    x, y = data.digits()
    model = data.classifier(optimizer)
    found = data.ends(model.fit(x, y, batch_size=512, epochs=15, verbose=0))
    wanted = model.predict(x, verbose=0)
    formats: dict[str, Callable[[keras.Model, pathlib.Path, np.ndarray], np.ndarray]] = {
        "SavedModel": _saved_model,
        "ONNX": _onnx,
        "LiteRT": _litert,
    }
    for predict in formats.values():
        with tempfile.TemporaryDirectory() as folder:
            got = predict(model, pathlib.Path(folder), x)
        np.testing.assert_allclose(got, wanted, atol=1e-4)
    return {f"{name} of a trained model": found for name in formats}


def _saved_model(model: keras.Model, folder: pathlib.Path, x: np.ndarray) -> np.ndarray:
    model.export(folder / "model", verbose=False)
    loaded = tf.saved_model.load(folder / "model")
    predicted: np.ndarray = loaded.serve(x).numpy()
    return predicted


def _onnx(model: keras.Model, folder: pathlib.Path, x: np.ndarray) -> np.ndarray:
    path = folder / "model.onnx"
    model.export(path, format="onnx", verbose=False)
    session = onnxruntime.InferenceSession(path)
    predicted: np.ndarray = session.run(None, {session.get_inputs()[0].name: x})[0]
    return predicted


def _litert(model: keras.Model, folder: pathlib.Path, x: np.ndarray) -> np.ndarray:
    path = folder / "model.tflite"
    model.export(path, format="litert", verbose=False)
    interpreter = tf.lite.Interpreter(str(path))
    (given,), (wanted,) = interpreter.get_input_details(), interpreter.get_output_details()
    interpreter.resize_tensor_input(given["index"], x.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(given["index"], x)
    interpreter.invoke()
    predicted: np.ndarray = interpreter.get_tensor(wanted["index"])
    return predicted
