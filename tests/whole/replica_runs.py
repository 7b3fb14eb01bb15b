"""The same small training runs on one device and on several replicas, and what they give.

`train` runs one of `CASES` under the strategy in force; run as a program this file is one worker of
several processes.
"""

from __future__ import annotations

import hashlib
import json
import pathlib
import sys
import time

import keras
import numpy as np
import tensorflow as tf

import keras_sfn

BATCH = 8
# Batches of 8, 8, 8, 8 and 5 rows: the last replica of three or four has none of the 5.
ROWS = 37
EPOCHS = 2

layers = keras.layers


def data(rows=ROWS):
    """Inputs (rows, 6), targets (rows, 2) and sample weights (rows,)."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(rows, 6))
    return x, np.tanh(x[:, :2] * x[:, 2:4]), rng.uniform(0.5, 2, rows)


def nan_in_the_last_row_of_the_second_batch(x):
    x[2 * BATCH - 1] = np.nan
    return x


# Layers between the two dense ones, arguments of the optimizer, and anything else as below.
CASES = {
    "plain": {},
    # One function to lower: renewals of P at five of 21 steps, from parts of the rows.
    "all rows": {"batch": 1100, "rows": 1100, "epochs": 21},
    "Lanczos vectors": {"krylov_dimension": 4},
    "compiled": {"jit_compile": True, "batch": 37, "epochs": 5},
    "replicas without rows": {"rows": 34},
    "the same, not averaged": {"rows": 34, "stochastic": False},
    "slices, inner steps, adaptive": {
        "micro_batch_size": 4,
        "inner_steps": 2,
        "damping": "adaptive",
    },
    "part of the rows, three steps at once": {
        "curvature_batch_size": 6,
        "steps_per_execution": 3,
    },
    "no previous step, decay, average, schedule": {
        "use_previous_step": False,
        "damping": 0.5,
        "max_step_norm": 0.5,
        "weight_decay": 1e-3,
        "use_ema": True,
        "ema_momentum": 0.5,
        "learning_rate": keras.optimizers.schedules.ExponentialDecay(1.0, 5, 0.8),
    },
    "eager": {"run_eagerly": True, "epochs": 2, "rows": 10, "batch": 10},
    "sum": {"loss": lambda: keras.losses.MeanSquaredError(reduction="sum"), "rows": 34},
    "recurrent": {
        "layers": lambda: [layers.Reshape((5, 1)), layers.SimpleRNN(3)],
        "batch": 37,
        "epochs": 5,
    },
    "synchronized": {
        "layers": lambda: [layers.BatchNormalization(synchronized=True)],
        "batch": 37,
        "epochs": 5,
    },
    "whole Hessian": {"optimizer": keras_sfn.ExactSaddleFreeNewton, "epochs": 1},
    "stop_gradient": {
        "layers": lambda: [layers.Lambda(lambda x: x + tf.stop_gradient(x**2))],
        "batch": 37,
        "epochs": 5,
    },
    "NaN": {"change": nan_in_the_last_row_of_the_second_batch, "stochastic": False},
    "batch statistics": {"layers": lambda: [layers.BatchNormalization()], "rows": 32},
    "dropout": {"layers": lambda: [layers.Dropout(0.3)]},
}


def build(optimizer, between=list, loss="mse", **fit):
    """Returns a compiled model with the same weights at every call."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((6,)),
            layers.Dense(5, activation="tanh", kernel_regularizer="l2"),
            *between(),
            layers.Dense(2),
        ]
    )
    model.compile(optimizer, loss, metrics=["mae"], **fit)
    return model


class Watch(keras.callbacks.Callback):
    """Keeps what each step did, and raises where replicas of this process differ."""

    def __init__(self):
        super().__init__()
        self.losses, self.digests = [], []

    def on_train_batch_end(self, batch, logs=None):
        self.losses.append(self.model.optimizer.last_step.loss)
        content = b""
        for variable in self.model.trainable_variables:
            first, *others = (
                copy.numpy() for copy in getattr(variable.value, "values", [variable.value])
            )
            content += first.tobytes()
            for other in others:
                np.testing.assert_array_equal(first, other)
        self.digests.append(hashlib.sha256(content).hexdigest())


def train(case, callbacks=(), **changes):
    """Runs a case under the strategy in force; returns figures, as JSON takes them."""
    options = {**CASES[case], **changes}
    rows, epochs = options.pop("rows", ROWS), options.pop("epochs", EPOCHS)
    batch = options.pop("batch", BATCH)
    change, between = options.pop("change", lambda x: x), options.pop("layers", list)
    fit = {
        name: options.pop(name)
        for name in ("run_eagerly", "steps_per_execution")
        if name in options
    }
    loss = options.pop("loss", keras.losses.MeanSquaredError)()
    kind = options.pop("optimizer", keras_sfn.SaddleFreeNewton)
    if kind is keras_sfn.SaddleFreeNewton:
        options = {"jit_compile": False, **options}
    model = build(kind(**options), between, loss, **fit)
    x, y, weights = (part.astype(keras.config.floatx()) for part in data(rows))
    batches = tf.data.Dataset.from_tensor_slices((change(x), y, weights)).batch(batch)
    watch = Watch()
    history = model.fit(
        batches, epochs=epochs, shuffle=False, verbose=0, callbacks=[watch, *callbacks]
    ).history
    return {
        "losses": watch.losses,
        "digests": watch.digests,
        "history": history,
        "weights": [value.tolist() for value in model.get_weights()],
        "rejected": int(model.optimizer.rejected_steps.numpy()),
    }


def go_on_from_the_chief(directory, strategy):
    """Trains an epoch, saves on the chief alone, loads on all workers and trains another."""
    path = pathlib.Path(directory, "model.keras")
    x, y, weights = (part.astype(keras.config.floatx()) for part in data())
    batches = tf.data.Dataset.from_tensor_slices((x, y, weights)).batch(BATCH)
    with strategy.scope():
        model = build(keras_sfn.SaddleFreeNewton(jit_compile=False))
    watch = Watch()
    model.fit(batches, verbose=0, callbacks=[watch])
    if strategy.cluster_resolver.task_id == 0:
        model.save(path)
    strategy.reduce("SUM", strategy.run(lambda: tf.constant(1)), axis=None)  # All wait.
    with strategy.scope():
        model = keras.models.load_model(path)
    model.fit(batches, verbose=0, callbacks=[watch])
    return {"losses": watch.losses, "digests": watch.digests}


def backed_up(directory, strategy):
    """Trains three epochs with a backup after each, and tells how far it is.

    The other workers stop after as many steps as the file "stop" says, in the second epoch, until
    there is a file "killed".
    """
    last = int(pathlib.Path(directory, "stop").read_text())
    chief = strategy.cluster_resolver.task_id == 0
    backup = keras.callbacks.BackupAndRestore(
        pathlib.Path(directory, "backup"),
        save_freq="epoch" if chief else sys.maxsize,  # The others only restore.
        delete_checkpoint=False,
    )

    def tell(batch, logs):
        steps = int(keras.ops.convert_to_numpy(model.optimizer.iterations))
        if chief:
            pathlib.Path(directory, "steps").write_text(str(steps))
        while steps == last and not chief and not pathlib.Path(directory, "killed").exists():
            time.sleep(0.05)

    callbacks = [backup, keras.callbacks.LambdaCallback(on_train_batch_end=tell)]
    with strategy.scope():
        model = build(keras_sfn.SaddleFreeNewton(jit_compile=False))
    x, y, weights = (part.astype(keras.config.floatx()) for part in data())
    batches = tf.data.Dataset.from_tensor_slices((x, y, weights)).batch(BATCH)
    watch = Watch()
    model.fit(batches, epochs=3, verbose=0, callbacks=[*callbacks, watch])
    return {"losses": watch.losses, "digests": watch.digests}


def unlike(directory, strategy):
    """Trains on targets of another width on one worker; returns the error's text."""
    del directory
    x, y, _ = (part.astype(keras.config.floatx()) for part in data(8))
    width = 1 + strategy.cluster_resolver.task_id
    with strategy.scope():
        model = build(keras_sfn.SaddleFreeNewton())
    batches = tf.data.Dataset.from_tensor_slices((x, y[:, :width])).batch(8)
    try:
        model.fit(batches, verbose=0)
    except ValueError as error:
        return str(error)
    return "no error"


def one_batch(directory, strategy):
    """Trains by `train_on_batch`, which gives no data set; returns the losses."""
    del directory
    x, y, _ = (part.astype(keras.config.floatx()) for part in data(16))
    with strategy.scope():
        model = build(keras_sfn.SaddleFreeNewton(jit_compile=False))
    return [float(np.ravel(model.train_on_batch(x, y))[0]) for _ in range(3)]


def main(directory, floatx, *cases):
    """One worker: runs cases, writes what they gave into a file of its own."""
    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    keras.config.set_floatx(floatx)
    keras.config.set_dtype_policy(floatx)
    results = {}
    for case in cases:
        if case in CASES:
            with strategy.scope():
                results[case] = train(case)
        else:
            others = {
                "go on": go_on_from_the_chief,
                "backed up": backed_up,
                "one batch": one_batch,
                "unlike": unlike,
            }
            results[case] = others[case](directory, strategy)
    index = strategy.cluster_resolver.task_id
    pathlib.Path(directory, f"{index}.json").write_text(json.dumps(results))


if __name__ == "__main__":
    main(*sys.argv[1:])
