r"""What a step costs on one and on several replicas, the batch of all of them being the same.

    python examples/benchmarks/cost/replica_cost.py

For each number of --replicas: seconds a step on logical CPUs of this machine, which share its
cores, so that the difference is what the sums and the copies cost and no gain is to be seen; and,
counted in steps run op by op, the sums over replicas and the numbers in them, in a step and in one
that renews the preconditioner, with those that several processes send besides to agree on. Written
to --output_dir: replicas.csv, replicas.png.
"""

from __future__ import annotations

import contextlib
import pathlib
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

sys.path.insert(1, str(pathlib.Path(__file__).resolve().parents[2]))

import keras
import numpy as np
import tensorflow as tf
from absl import app, flags
from matplotlib import pyplot as plt

import keras_sfn
from benchmarks.common import measure
from helpers import command_line, tables
from keras_sfn.backend import collectives

_REPLICAS = flags.DEFINE_list("replicas", ["1", "2"], "Numbers of replicas to measure.")
_ROWS = flags.DEFINE_integer("rows", 4096, "Rows of the batch, over all replicas.", lower_bound=1)
_WIDTH = flags.DEFINE_integer("width", 512, "Units of each of three layers.", lower_bound=1)
_KRYLOV = flags.DEFINE_integer(
    "krylov_dimension", None, "Lanczos vectors a step; the default kind of step if unset.", 1
)
_STEPS = flags.DEFINE_integer(
    "steps", 20, "Steps to time, after ten others; 20 have one renewal.", lower_bound=1
)
_QUICK = flags.DEFINE_bool("quick", False, "64 rows, 16 units and two steps, for a try-out.")
_OUTPUT_DIR = flags.DEFINE_string("output_dir", "results/replicas", "Where results go.")

_INPUTS = 64

# Steps before those that are timed: the first ones renew the preconditioner more often.
_BEFORE = 10

# Of the steps that are run op by op, the first without and with a renewal: of those before the
# third, one is of both, and in the second the search for the shift begins.
_PLAIN, _RENEWED = 3, 4


class Cost(NamedTuple):
    """What steps cost.

    Attributes:
        replicas: How many there were.
        parameters: Number n of trained parameters.
        seconds: Mean time of a step, renewals among them.
        sums: Sums over the replicas in one step.
        long_sums: Those of n numbers and more.
        numbers: Numbers that one replica put into the sums of one step.
        agreed: Numbers that processes would send besides, to agree on.
        renewal_sums: As `sums`, of a step that renews the preconditioner.
        renewal_long_sums: As `long_sums`, likewise.
        renewal_numbers: As `numbers`, likewise.
        renewal_agreed: As `agreed`, likewise.
    """

    replicas: int
    parameters: int
    seconds: float
    sums: int
    long_sums: int
    numbers: int
    agreed: int
    renewal_sums: int
    renewal_long_sums: int
    renewal_numbers: int
    renewal_agreed: int


class Clock(keras.callbacks.Callback):
    """Takes the time of every step."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: list[float] = []
        self._start = 0.0

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Starts the clock."""
        self._start = time.perf_counter()

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Reads it."""
        self.seconds.append(time.perf_counter() - self._start)


def build_model(width: int, **options: Any) -> keras.Model:
    """Returns a compiled dense network."""
    keras.utils.set_random_seed(0)
    hidden = [keras.layers.Dense(width, activation="tanh") for _ in range(3)]
    model = keras.Sequential([keras.Input((_INPUTS,)), *hidden, keras.layers.Dense(10)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    # Batches that are noisy by their labels: the kind of step is that of one batch an epoch.
    optimizer = keras_sfn.SaddleFreeNewton(
        krylov_dimension=_KRYLOV.value or "auto", stochastic=False
    )
    model.compile(optimizer, loss, **options)
    return model


class Counts(NamedTuple):
    """Sizes of what was sent in a step.

    Attributes:
        sums: Over the replicas.
        agreed: What processes would agree on.
    """

    sums: list[int]
    agreed: list[int]


@contextlib.contextmanager
def counting(strategy: tf.distribute.Strategy) -> Iterator[Counts]:
    """Gives lists that get the sizes of all that is sent in eager code."""
    counts = Counts([], [])
    original, agree = strategy.reduce, collectives.agree

    def reduce(operation: Any, value: Any, axis: Any) -> Any:
        total = original(operation, value, axis)
        # Means are of Keras's logs, and graphs of its data.
        if tf.executing_eagerly() and operation == tf.distribute.ReduceOp.SUM:
            counts.sums.append(int(tf.size(total)))
        return total

    def agreed(value: tf.Tensor) -> tf.Tensor:
        counts.agreed.append(int(tf.size(value)))
        return agree(value)

    strategy.reduce, collectives.agree = reduce, agreed
    try:
        yield counts
    finally:
        strategy.reduce, collectives.agree = original, agree


def cost_of(replicas: int) -> Cost:
    """Trains one model on so many replicas and takes the cost of its steps."""
    rows, width, steps = _ROWS.value, _WIDTH.value, _STEPS.value
    if _QUICK.value:
        rows, width, steps = 64, 16, 2
    rng = np.random.default_rng(0)
    x = rng.normal(size=(rows, _INPUTS)).astype("float32")
    batch = tf.data.Dataset.from_tensors((x, rng.integers(0, 10, rows)))
    strategy = tf.distribute.get_strategy()
    if replicas > 1:
        strategy = tf.distribute.MirroredStrategy([f"CPU:{i}" for i in range(replicas)])
    with strategy.scope():
        model = build_model(width)
        stepwise = build_model(width, run_eagerly=True)
    clock = Clock()
    model.fit(batch.repeat(_BEFORE + steps), verbose=0, callbacks=[clock])
    counted = []
    for _ in range(_RENEWED + 1):
        with counting(strategy) as counts:
            stepwise.fit(batch, verbose=0)
        counted.append(counts)
    parameters = int(model.count_params())
    figures = []
    for step in (_PLAIN, _RENEWED):
        sums, agreed = counted[step]
        long_ones = sum(size >= parameters for size in sums)
        figures += [len(sums), long_ones, sum(sums), sum(agreed)]
    return Cost(replicas, parameters, float(np.mean(clock.seconds[_BEFORE:])), *figures)


def plot(path: pathlib.Path, costs: Sequence[Cost], made_with: str) -> None:
    """Draws the seconds a step as bars."""
    figure, axes = plt.subplots(figsize=(5, 4), layout="constrained")
    axes.bar(range(len(costs)), [cost.seconds for cost in costs])
    axes.set_xticks(range(len(costs)), [str(cost.replicas) for cost in costs])
    axes.set(xlabel="replicas (logical CPUs of one machine)", ylabel="seconds a step")
    axes.set_title(f"n = {costs[0].parameters}, the same batch")
    measure.save_figure(path, figure, made_with)


def main(argv: Sequence[str]) -> None:
    """Measures and writes the results."""
    command_line.refuse_arguments(argv)
    if not all(number.isdigit() and int(number) for number in _REPLICAS.value):
        sys.exit(f"--replicas={_REPLICAS.value} must be integers >= 1, such as --replicas=1,2.")
    numbers = [int(number) for number in _REPLICAS.value]
    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0],
        [tf.config.LogicalDeviceConfiguration()] * max(numbers),
    )
    output = command_line.output_directory(_OUTPUT_DIR.value)
    costs = []
    for number in numbers:
        costs.append(cost_of(number))
        print(costs[-1], flush=True)
    made_with = measure.versions()
    tables.write_csv(output / "replicas.csv", Cost._fields, costs, made_with)
    plot(output / "replicas.png", costs, made_with)
    print(f"Results in {output}/: replicas.csv, replicas.png")


if __name__ == "__main__":
    app.run(main)
