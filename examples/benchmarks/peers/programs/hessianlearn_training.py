"""Trains a network for so many seconds with hessianlearn's low-rank saddle-free Newton.

    ENVIRONMENT/bin/python examples/benchmarks/peers/programs/hessianlearn_training.py \
        --repository=FOLDER --training=training.npz --budget=60

The environment is that which `make_environments.py` made for hessianlearn, and `training_file.py`
writes the network and its rows; `time_to_loss/compare.py` runs a grid of settings. Prints a line of
JSON with versions and settings, then one for each record: seconds, steps, gradient equivalents,
loss on all rows. As for the other optimizers, the clock starts after the first step, the seconds of
which are reported apart, and stands still while the loss is recorded. A gradient equivalent is a
gradient of all rows; a product counts two, a trial of the line search a half. Ends early where the
loss is no longer finite.

All settings are the repository's defaults unless told otherwise. Its line search takes the last
step it tried, lower loss or not. Its `spectral_step` is left out: the option is compared by
identity, which only a literal passes.
"""

from __future__ import annotations

import argparse
import json
import math
import pathlib
import sys
import time
from collections.abc import Iterator
from typing import Any

sys.path.insert(1, str(pathlib.Path(__file__).resolve().parents[3]))

import numpy as np
import tensorflow as tf

from benchmarks.peers import protocol, training_file
from benchmarks.peers.programs import legacy_network

_GLOBALIZATIONS = {"fixed": None, "line_search": "line_search"}
# Arguments that are no settings: they name places of this machine.
_PATHS = ("repository", "training", "points_file")


def parse_arguments() -> argparse.Namespace:
    """Returns the settings."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repository", type=pathlib.Path, required=True)
    parser.add_argument("--training", type=pathlib.Path, required=True)
    parser.add_argument("--budget", type=float, required=True, help="seconds of training")
    parser.add_argument("--points", type=int, default=100, help="records over the budget")
    parser.add_argument("--rank", type=int, default=20)
    parser.add_argument("--step", type=float, default=1e-3, help="of the globalization 'fixed'")
    parser.add_argument("--damping", type=float, default=1e-3)
    parser.add_argument("--globalization", choices=list(_GLOBALIZATIONS), default="fixed")
    parser.add_argument("--trials", type=int, default=5, help="of the line search, at most")
    parser.add_argument("--batch_rows", type=int, help="of the gradient; all without it")
    parser.add_argument("--hessian_rows", type=int, help="of the products; the batch without it")
    parser.add_argument("--seed", type=int, default=0, help="of the batches")
    parser.add_argument(
        "--points_file", type=pathlib.Path, help="takes the weights at each record, shape (m, n)"
    )
    return parser.parse_args()


def batches(rows: int, size: int, seed: int) -> Iterator[np.ndarray]:
    """Yields the rows of one batch after another, shuffled anew in each epoch."""
    rng = np.random.default_rng(seed)
    while True:
        order = rng.permutation(rows)
        yield from (order[i : i + size] for i in range(0, rows - size + 1, size))


def build_optimizer(hessianlearn: Any, problem: Any, session: Any, options: Any) -> Any:
    """Returns the repository's optimizer."""
    parameters = hessianlearn.ParametersLowRankSaddleFreeNewton({})
    parameters["alpha"] = options.step
    parameters["default_damping"] = options.damping
    parameters["hessian_low_rank"] = options.rank
    parameters["max_backtracking_iter"] = options.trials
    parameters["globalization"] = _GLOBALIZATIONS[options.globalization]
    # Without a weight decay of its own, which is 0.1 where none is named.
    none = hessianlearn.L2Regularization(problem, gamma=0.0)
    return hessianlearn.LowRankSaddleFreeNewton(problem, none, session, parameters)


def steps(optimizer: Any, feeds: Iterator[tuple[Any, Any]]) -> Iterator[int]:
    """Takes one step after another and yields their number; ends where one cannot be taken."""
    for step, (batch, sub_batch) in enumerate(feeds, start=1):
        try:
            optimizer.minimize(batch, sub_batch)
        except ValueError as error:
            # SciPy refuses a projected matrix that is not finite.
            if "infs or NaNs" not in str(error):
                raise
            return
        yield step


def build_problem(hessianlearn: Any, training: training_file.Training) -> Any:
    """Returns the mean squared error as one of the repository's problems."""

    class MeanSquaredError(hessianlearn.Problem):
        def _initialize_loss(self) -> None:
            self._loss = tf.reduce_mean(tf.square(self.y_prediction - self.y_true))

    network = legacy_network.build_network(training.inputs, training.layers, training.residual)
    return MeanSquaredError(network, dtype=training.inputs.dtype)


class Recorder:
    """Prints a line for each record.

    Args:
        session: Of TensorFlow 1.
        problem: What is trained.
        training: Its rows.
        points_file: Where the weights go too, or None.
    """

    def __init__(
        self,
        session: Any,
        problem: Any,
        training: training_file.Training,
        points_file: pathlib.Path | None,
    ) -> None:
        self._session = session
        self._problem = problem
        self._feed = {problem.x: training.inputs, problem.y_true: training.targets}
        self._points_file = points_file
        self._points: list[np.ndarray] = []

    def record(self, seconds: float, step: int, gradients: float) -> bool:
        """Prints the loss on all rows; returns whether it is finite."""
        loss = float(self._session.run(self._problem.loss, feed_dict=self._feed))
        if self._points_file is not None:
            self._points.append(self._session.run(self._problem.w))
            np.save(self._points_file, np.stack(self._points))
        line = {"seconds": seconds, "steps": step, "gradients": gradients, "loss": loss}
        print(json.dumps(line), flush=True)
        return math.isfinite(loss)


def train(options: argparse.Namespace) -> None:
    """Trains and prints the records."""
    training = training_file.read(options.training)
    rows = len(training.inputs)
    batch_rows = min(options.batch_rows or rows, rows)
    hessian_rows = min(options.hessian_rows or batch_rows, batch_rows)
    hessianlearn = legacy_network.import_from(options.repository, "hessianlearn")
    problem = build_problem(hessianlearn, training)

    def feed(chosen: np.ndarray) -> dict[Any, np.ndarray]:
        return {problem.x: training.inputs[chosen], problem.y_true: training.targets[chosen]}

    feeds = (
        (feed(chosen), feed(chosen[:hessian_rows]))
        for chosen in batches(rows, batch_rows, options.seed)
    )
    with tf.compat.v1.Session() as session:
        optimizer = build_optimizer(hessianlearn, problem, session, options)
        legacy_network.assign(session, problem, training.point)
        recorder = Recorder(session, problem, training, options.points_file)

        def record(seconds: float, step: int) -> bool:
            gradients, products = np.broadcast_to(optimizer._sweeps, 2)
            cost = (gradients * batch_rows + 2 * products * hessian_rows) / rows
            return recorder.record(seconds, step, float(cost))

        step = 0
        record(0.0, step)
        marks = [options.budget * (i + 1) / options.points for i in range(options.points)]
        start = time.perf_counter()
        for step in steps(optimizer, feeds):
            now = time.perf_counter()
            if step == 1:
                print(json.dumps({"first_step_seconds": now - start}), flush=True)
                start = now
            elif now - start >= marks[0]:
                marks = [mark for mark in marks if mark > now - start]
                if not record(now - start, step) or not marks:
                    return
                start += time.perf_counter() - now
        record(time.perf_counter() - start, step)


def main() -> None:
    """Prints the settings and trains."""
    options = parse_arguments()
    settings = {name: value for name, value in vars(options).items() if name not in _PATHS}
    made_with = protocol.versions(["tensorflow", "tf_keras", "scipy"])
    print(json.dumps({"versions": made_with, **settings}), flush=True)
    train(options)


if __name__ == "__main__":
    main()
