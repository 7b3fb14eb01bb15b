"""TensorFlow Probability's L-BFGS on the whole training set, by the clock."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from benchmarks.common import task as task_lib
from benchmarks.time_to_loss import training_runs

# A call into the compiled loop lasts about this part of the time between two records.
_CALL = 0.2

# Iterations timed with and without XLA to find out which is faster.
_TRIALS = 3

# Lengths of the first trial step: the next one where L-BFGS began anew and gained nothing.
_FIRST_STEPS = (1.0, 1e-1, 1e-2, 1e-3, 1e-4)


class Objective:
    """The loss of a task as a function of one vector.

    Args:
        task: Rows and loss.
        model: Its network; not changed but by `assign`.
    """

    def __init__(self, task: task_lib.Task, model: keras.Model) -> None:
        self._task = task.tensors()
        self._model = model
        self._variables = model.trainable_variables
        self._sizes = [math.prod(variable.shape) for variable in self._variables]

    def start(self) -> tf.Tensor:
        """Returns the parameters as they are now, shape (n,)."""
        return tf.concat([tf.reshape(v.value, (-1,)) for v in self._variables], axis=0)

    def assign(self, point: tf.Tensor) -> None:
        """Puts a point of shape (n,) into the network."""
        for variable, value in zip(self._variables, self._split(point), strict=True):
            variable.assign(value)

    def value_and_gradient(self, point: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the loss at a point of shape (n,) and its gradient."""
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(point)
            loss = self._task.loss_at(self._model, self._split(point), training=False)
        return loss, tape.gradient(loss, point)

    def _split(self, point: tf.Tensor) -> list[tf.Tensor]:
        parts = tf.split(point, self._sizes)
        return [
            tf.reshape(part, variable.shape)
            for part, variable in zip(parts, self._variables, strict=True)
        ]


class State(NamedTuple):
    """Where the minimiser is.

    Attributes:
        results: TFP's, of the loss times `scale`.
        scale: Scalar.
        steps: Iterations before it began anew the last time.
        evaluations: The same of evaluations.
    """

    results: Any
    scale: tf.Tensor
    steps: int = 0
    evaluations: int = 0

    @property
    def loss(self) -> float:
        """The loss here."""
        return float(self.results.objective_value / self.scale)

    @property
    def counts(self) -> tuple[int, int]:
        """Iterations and evaluations so far."""
        done = self.results
        evaluations = self.evaluations + int(done.num_objective_evaluations)
        return self.steps + int(done.num_iterations), evaluations

    @property
    def ended(self) -> bool:
        """Whether the line search found no better point."""
        return bool(self.results.failed | self.results.converged)


class Minimizer:
    """The compiled loop, which goes on from where it was.

    Args:
        objective: What to minimise.
        memory: Pairs of differences that are kept.
        xla: Whether XLA compiles the loop.
    """

    def __init__(self, objective: Objective, memory: int, xla: bool) -> None:
        def minimize(point: tf.Tensor | None, results: Any, scale: tf.Tensor, most: Any) -> Any:
            def scaled(at: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
                loss, gradient = objective.value_and_gradient(at)
                return loss * scale, gradient * scale

            return tfp.optimizer.lbfgs_minimize(
                scaled,
                initial_position=point,
                previous_optimizer_results=results,
                num_correction_pairs=memory,
                max_iterations=most,
                tolerance=0,  # As the others are: the clock ends the run.
            )

        # Without XLA, which would compile the whole loop for the sake of one evaluation.
        self._begin = tf.function(lambda at, scale: minimize(at, None, scale, 0), autograph=False)
        self._evaluate = tf.function(objective.value_and_gradient, autograph=False)
        self._go_on = tf.function(
            lambda results, scale, most: minimize(None, results, scale, most),
            jit_compile=xla,
            autograph=False,
        )

    def begin(self, point: tf.Tensor, length: float, counts: tuple[int, int] = (0, 0)) -> State:
        """Begins at a point without memory.

        TFP's first trial step is the gradient itself. That of the loss times a scale has a length
        that can be chosen.

        Args:
            point: Shape (n,).
            length: Of the first trial step.
            counts: Iterations and evaluations so far.
        """
        _, gradient = self._evaluate(point)
        # At a gradient of zero any scale will do.
        least = np.sqrt(np.finfo(gradient.dtype.as_numpy_dtype).tiny)
        scale = length / tf.maximum(tf.norm(gradient), least)
        steps, evaluations = counts
        return State(self._begin(point, scale), scale, steps, evaluations + 1)

    def go_on(self, state: State, iterations: int) -> State:
        """Returns the state after so many more iterations, fewer where the line search fails."""
        most = state.results.num_iterations + iterations
        return state._replace(results=self._go_on(state.results, state.scale, most))


def xla_is_faster(task: task_lib.Task, memory: int) -> bool:
    """Tells whether the loop takes less time an evaluation with XLA, from a short trial of both."""
    objective, seconds = Objective(task, task.build(0)), {}
    for xla in (False, True):
        minimizer = Minimizer(objective, memory, xla)
        state = minimizer.go_on(minimizer.begin(objective.start(), _FIRST_STEPS[0]), 1)
        _, before = state.counts
        start = time.perf_counter()
        _, after = minimizer.go_on(state, _TRIALS).counts
        seconds[xla] = (time.perf_counter() - start) / max(after - before, 1)
    print(
        f"lbfgs: {1e3 * seconds[False]:.3g} ms an evaluation, "
        f"with XLA {1e3 * seconds[True]:.3g} ms",
        flush=True,
    )
    return seconds[True] < seconds[False]


def train(
    task: task_lib.Task,
    label: str,
    memory: int,
    seed: int,
    budget: training_runs.Budget,
    *,
    xla: bool,
) -> tuple[list[training_runs.Record], float]:
    """Minimises the task's loss for so many seconds.

    Where the line search fails, L-BFGS begins anew from there without memory, with a shorter first
    trial step each time that this gains nothing, and ends where the shortest does not. An
    evaluation counts as one gradient.

    Args:
        task: What to train.
        label: Shown beside the progress.
        memory: Pairs of differences that are kept.
        seed: Of the weights.
        budget: Seconds and points.
        xla: Whether XLA compiles the loop.

    Returns:
        The records, and the seconds that compilation took.
    """
    model = task.build(seed)
    objective = Objective(task, model)
    minimizer = Minimizer(objective, memory, xla)
    start = time.perf_counter()
    state = minimizer.begin(objective.start(), _FIRST_STEPS[0])
    minimizer.go_on(state, 0)  # Compiles; nothing is iterated.
    compilation = time.perf_counter() - start
    print(f"{label}: training for {budget.seconds:g} s", flush=True)
    records = []
    for seconds, now in _states(minimizer, state, budget):
        steps, evaluations = now.counts
        figure = now.loss
        if task.error is not None:
            objective.assign(now.results.position)
            figure = task.error(model)
        record = training_runs.Record(seconds, steps, float(evaluations), now.loss, figure)
        records.append(record)
    return records, compilation


def _states(
    minimizer: Minimizer, state: State, budget: training_runs.Budget
) -> Iterator[tuple[float, State]]:
    """Yields seconds and state at the beginning and at each mark.

    Only what the minimiser does is timed, so that the clock stands still in between.
    """
    marks = [budget.seconds * (i + 1) / budget.points for i in range(budget.points)]
    pace = _CALL * budget.seconds / budget.points
    progress = keras.utils.Progbar(max(round(budget.seconds), 1), unit_name="second")
    rounding = 10 * np.finfo(state.scale.dtype.as_numpy_dtype).eps
    spent, iterations, began_at, failures = 0.0, 1, state.loss, 0
    yield spent, state
    while marks:
        before, start = state.counts, time.perf_counter()
        state = minimizer.go_on(state, iterations)
        done = max(state.counts[0] - before[0], 1)
        if state.ended:
            failures = 0 if state.loss < (1 - rounding) * began_at else failures + 1
            began_at = state.loss
            if failures < len(_FIRST_STEPS):
                point, length = state.results.position, _FIRST_STEPS[failures]
                state = minimizer.begin(point, length, state.counts)
        seconds = time.perf_counter() - start
        spent += seconds
        iterations = min(max(int(done * pace / seconds), 1), 2 * done)
        ended = failures == len(_FIRST_STEPS)
        if ended or spent >= marks[0]:
            marks = [] if ended else [mark for mark in marks if mark > spent]
            progress.update(min(int(spent), progress.target - 1))
            yield spent, state
    progress.update(progress.target, finalize=True)
