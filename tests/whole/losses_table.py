"""Writes the page on which losses and activations the default takes a preconditioned step with.

python -m tests.whole.losses_table

Each cell is a small network and what the first step on it decides. That is found out by the real
`fit`, `train_on_batch`, train step and `minimize`, up to the decision: no step is taken.
"""

import functools
import importlib.metadata
import pathlib
import re

import keras
import numpy as np
import tensorflow as tf
from absl import app, flags, logging

import keras_sfn
from keras_sfn.optimizers import decisions
from tests.whole import coverage_cases as cases

_PAGE = "docs/losses.md"
_ALL_WAYS = flags.DEFINE_bool("all_ways", False, "Whether to look at every cell in all ways.")

_COLUMNS = 6  # of each table
_HEAD = """# Which losses are preconditioned

Written by `python -m tests.whole.losses_table`, with Keras {keras} and TensorFlow {tensorflow}.
The same cells are tests (`tests/whole/test_losses_table.py`).

The default, `SaddleFreeNewton()`, looks at the loss before its first step. It then decides whether
its steps are [preconditioned](training.md#preconditioned-directions). This page shows the decision
for a small network. A row is a loss of Keras. A column is the activation of the last layer. Two
names of one function share a column.

**{summary}**

| in a cell | the first step |
|---|---|
| yes | is preconditioned |
| no | takes Lanczos vectors instead |
| refused (op) | is not taken: TensorFlow has no right second derivative of the op |

The loss can reach the optimizer in eight ways:

| call | loss as targets | loss by `add_loss` |
|---|---|---|
| `fit` | `fit/targets` | `fit/add_loss` |
| `train_on_batch` | `batch/targets` | `batch/add_loss` |
| `fit` with a `train_step` of your own, which calls `minimize` | `own/targets` | `own/add_loss` |
| `minimize` in a `tf.function` | `minimize/targets` | `minimize/add_loss` |

A cell is looked at in one of these ways, and the next cell in the next way. Each activation and
each loss also has a cell that is looked at in all eight. A cell with a "no" is looked at in all
eight too. Where ways differ, the cell names them. `--all_ways` looks at every cell in all eight.
"""
_FOOT = """
The page shows the decision alone: no step is taken. A preconditioner needs curvature besides.
Where there is none, [`options_in_use`](reference.md#krylov_dimension) says so after the first
step. The base class `Loss` has no row, since it is no loss.
"""

L = keras.layers
ROWS, WIDTH = 16, 4

# Losses that take classes as numbers, and what takes sequences.
_OF_LABELS = {"SparseCategoricalCrossentropy", "CategoricalGeneralizedCrossEntropy", "Circle"}
_OF_SEQUENCES = {"CTC"}

# What Keras exports, by inspection; the base class `Loss` is no loss.
LOSSES = cases.LOSSES


def _by_function():
    names = {}
    for name in cases.ACTIVATIONS:
        names.setdefault(getattr(keras.activations, name), []).append(name)
    return {" = ".join(same): function for function, same in names.items()}


# A function that Keras exports by two names has one column.
ACTIVATIONS = _by_function()


class Deciding(keras_sfn.SaddleFreeNewton):
    """Stops each step once it is known of which kind it is."""

    def step(self, batch, jit_of_model="auto"):
        # Whether a part of the rows can be taken does not matter here, and costs a trace.
        batch.try_part = lambda: None
        self._frozen(batch, jit_of_model)
        return tf.zeros(()), None

    def forget(self):
        """Makes the next step the first one. New state would take longer than the decision."""
        self._arguments = keras_sfn.SaddleFreeNewton()._arguments
        self._decisions = decisions.Decisions()

    @property
    def decision(self):
        assert self._arguments.decided
        return "yes" if self._arguments.kind.preconditioned else "no"


class WithLoss(L.Layer):
    """Adds a loss of its inputs, if it has one, and returns the first."""

    loss = None

    def call(self, outputs, y):
        if self.loss is not None:
            self.add_loss(self.loss(y, outputs))
        return outputs


class Own(keras.Model):
    """Has a train step of its own."""

    def train_step(self, data):
        x, y, _ = keras.utils.unpack_x_y_sample_weight(data)

        def loss_fn():
            return self.compute_loss(x=x, y=y, y_pred=self(x, training=True))

        return {"loss": self.optimizer.minimize(loss_fn, self.trainable_variables)}


def _fit(model, *data):
    model.fit(tf.data.Dataset.from_tensors(data), verbose=0, shuffle=False)


def _train_on_batch(model, *data):
    model.train_on_batch(*data)


def _minimize(model, x, y=None):
    def loss_fn():
        outputs = model(x, training=True)
        return model.losses[0] if y is None else model.loss(y, outputs)

    def step():
        return model.optimizer.minimize(loss_fn, model.trainable_variables)

    tf.function(step, autograph=False)()


_CALLS = {
    "fit": (keras.Model, _fit),
    "batch": (keras.Model, _train_on_batch),
    "own": (Own, _fit),
    "minimize": (keras.Model, _minimize),
}
# How the loss gets to the optimizer: by which call, and from where.
WAYS = {f"{call}/{by}": (call, by) for by in ("targets", "add_loss") for call in _CALLS}


def _kind(loss):
    """Returns the name of a loss that takes what this one takes."""
    for alike in (_OF_SEQUENCES, _OF_LABELS):
        if loss in alike:
            return min(alike)
    return "MeanSquaredError"


def _data(loss):
    rng = np.random.default_rng(0)
    if loss in _OF_SEQUENCES:
        return rng.normal(size=(ROWS, 6, 3)).astype("float32"), rng.integers(1, 4, (ROWS, 2))
    x, classes = rng.normal(size=(ROWS, 3)).astype("float32"), np.arange(ROWS) % WIDTH
    return x, classes if loss in _OF_LABELS else np.eye(WIDTH, dtype="float32")[classes]


@functools.cache
def _optimizer():
    # One for all models: a decision reads no state of theirs.
    optimizer = Deciding()
    optimizer.build([keras.Variable(np.zeros(2))])
    return optimizer


@functools.cache
def _model(activation, kind, cls, by):
    """Returns a network that ends in an activation, and its layer with a loss, or None."""
    x, y = _data(kind)
    function = ACTIVATIONS[activation]
    if activation == "threshold":
        # The one that needs more than its input.
        function = lambda z: keras.activations.threshold(z, 0.3, 0.1)
    inputs = keras.Input(x.shape[1:], dtype=x.dtype)
    hidden = L.Dense(3, activation="tanh")(inputs)
    # `glu` gives half of what it takes.
    outputs = L.Dense(2 * WIDTH if activation == "glu" else WIDTH, function)(hidden)
    if by == "targets":
        return cls(inputs, outputs), None
    targets, layer = keras.Input(y.shape[1:], dtype=y.dtype), WithLoss()
    return cls([inputs, targets], layer(outputs, targets)), layer


def decision(activation, loss, way, run_eagerly=True):
    """Returns "yes" for a preconditioned step, "no", or that the loss is refused.

    Args:
        activation: Key of `ACTIVATIONS`.
        loss: Name of a class.
        way: Key of `WAYS`.
        run_eagerly: As in `compile`. The decision is the same, and there is a graph less to trace.
    """
    call, by = WAYS[way]
    cls, run = _CALLS[call]
    optimizer, given = _optimizer(), getattr(keras.losses, loss)()
    model, layer = _model(activation, _kind(loss), cls, by)
    data = _data(loss)
    if by == "add_loss":
        # The targets are an input, and `compile` is given no loss.
        layer.loss, given, data = given, None, (data,)
    optimizer.forget()
    # XLA has no part in the decision.
    model.compile(optimizer, given, jit_compile=False, run_eagerly=run_eagerly)
    try:
        run(model, *data)
    except NotImplementedError as error:
        op = re.search(r"through the op (\w+)", str(error))[1]
        return f"refused ({op})"
    return optimizer.decision


def ways(activation, loss):
    """Returns in which ways a cell is looked at.

    One, the next one in the next cell: every activation and every loss meets each way. And all, in
    a cell of each activation and each loss.
    """
    column, row = list(ACTIVATIONS).index(activation), LOSSES.index(loss)
    if column % len(LOSSES) == row:
        return list(WAYS)
    return [list(WAYS)[(column + row) % len(WAYS)]]


def cell(decided):
    """Returns what a cell says.

    Args:
        decided: `decision` by way.
    """
    by_decision = {}
    for way, found in decided.items():
        by_decision.setdefault(found, []).append(way)
    if len(by_decision) == 1:
        return next(iter(by_decision))
    return "; ".join(f"{found}: {', '.join(those)}" for found, those in sorted(by_decision.items()))


def expected(cell, way):
    """Returns the decision in one way from what a cell says."""
    for group in cell.split("; "):
        found, _, those = group.partition(": ")
        if not those or way in those.split(", "):
            return found
    return None


def _table(names, cells):
    yield "| | " + " | ".join(_code(name) for name in names) + " |"
    yield "|---" * (len(names) + 1) + "|"
    for loss in LOSSES:
        found = (cells[name, loss] for name in names)
        yield f"| `{loss}` | " + " | ".join(found) + " |"


def _summary(cells):
    found = {(name, loss): cells[name, loss] for name in ACTIVATIONS for loss in LOSSES}
    others = {loss: decided for (_, loss), decided in found.items() if decided != "yes"}
    yes = sum(decided == "yes" for decided in found.values())
    rows = ", ".join(f"`{loss}`" for loss in sorted(others)) or "none"
    return f"{yes} of {len(found)} cells say yes. Rows with another cell: {rows}."


def _code(name):
    return " = ".join(f"`{part}`" for part in name.split(" = "))


def page(cells, keras_version, tensorflow_version):
    """Returns the page.

    Args:
        cells: What the cell of each activation and loss says.
        keras_version: With which these were found.
        tensorflow_version: Likewise.
    """
    names = list(ACTIVATIONS)
    blocks = (names[start : start + _COLUMNS] for start in range(0, len(names), _COLUMNS))
    tables = ["\n".join(_table(block, cells)) for block in blocks]
    head = _HEAD.format(keras=keras_version, tensorflow=tensorflow_version, summary=_summary(cells))
    return "\n\n".join([head.strip(), *tables, _FOOT.strip()]) + "\n"


def parsed(text):
    """Returns what the cells of a page say, by the name of an activation and of a loss."""
    cells, names = {}, []
    for line in text.splitlines():
        first, *others = (part.strip() for part in line.strip("|").split("|"))
        if line.startswith("| |"):
            names = [part.replace("`", "") for part in others]
        elif not line:
            names = []
        elif names and line.startswith("| `"):
            loss = first.strip("`")
            for name, found in zip(names, others, strict=True):
                cells.update({(part, loss): found for part in [name, *name.split(" = ")]})
    return cells


def main(argv):
    """Looks at every cell and writes the page."""
    del argv
    # Each decision is logged.
    logging.set_verbosity(logging.WARNING)
    cells = {}
    for loss in LOSSES:
        for activation in ACTIVATIONS:
            looked_at = WAYS if _ALL_WAYS.value else ways(activation, loss)
            found = {way: decision(activation, loss, way) for way in looked_at}
            if "no" in found.values():
                found = {way: decision(activation, loss, way) for way in WAYS}
            cells[activation, loss] = cell(found)
    versions = [importlib.metadata.version(name) for name in ("keras", "tensorflow")]
    pathlib.Path(_PAGE).write_text(page(cells, *versions))


if __name__ == "__main__":
    app.run(main)
