"""Trainings of a physics-informed network by the clock: ours, Adam, L-BFGS and chains of these."""

from __future__ import annotations

import math
import pathlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import keras
import numpy as np
import scipy.optimize
import tensorflow as tf

import keras_sfn
from helpers import pde_problem

OURS = ("saddle_free_newton", "exact_saddle_free_newton", "damped_newton")
METHODS = (*OURS, "adam", "lbfgs")

# Adam's steps are too short to look at the clock after each.
_ADAM_STEPS = 20


class Record(NamedTuple):
    """A line of the history of a run.

    Attributes:
        method: Which trained at that time.
        seconds: Since the start, with compilation and without the time that records take.
        steps: So many were taken.
        loss: At the last step, before it.
        rms_error: Of the solution.
        relative_error: The same over the root mean square of the solution.
    """

    method: str
    seconds: float
    steps: int
    loss: float
    rms_error: float
    relative_error: float


class Limits(NamedTuple):
    """When a training ends, and how often it is recorded.

    Attributes:
        seconds: The whole chain's.
        first_seconds: Of each part of a chain but the last.
        steps: Most steps of each part, or None.
        records: Per factor of ten in time.
        jit_compile: Of our optimizers.
        adam_rate: Learning rate of Adam.
    """

    seconds: float
    first_seconds: float = 10.0
    steps: int | None = None
    records: int = 10
    jit_compile: bool | str = "auto"
    adam_rate: float = 1e-3


class Clock:
    """Records a run and says when it is over.

    Args:
        problem: What is trained.
        name: Of the run, for the progress bar.
        limits: When it ends.

    Attributes:
        records: So far.
    """

    def __init__(self, problem: pde_problem.Problem, name: str, limits: Limits) -> None:
        self.records: list[Record] = []
        self._problem, self._limits = problem, limits
        self._start = time.perf_counter()
        self._paused = 0.0
        self._steps = 0
        self._next = 0.0
        print(f"{name}: training for {limits.seconds:g} s", flush=True)
        self._bar = keras.utils.Progbar(
            max(math.ceil(limits.seconds), 1),
            unit_name="second",
            stateful_metrics=["loss", "error"],
        )

    def begin(self, method: str, seconds: float) -> None:
        """Starts a part of the run, which ends when so many seconds have passed in all."""
        self._method, self._end, self._begun = method, seconds, self._steps

    def __call__(self, loss: float, steps: int = 1) -> bool:
        """Counts steps; returns whether the part goes on.

        Args:
            loss: Before the last of them.
            steps: How many.
        """
        self._steps += steps
        self._loss = loss
        seconds = self._seconds()
        allowed = self._limits.steps
        over = seconds >= self._end or not math.isfinite(loss)
        over |= allowed is not None and self._steps - self._begun >= allowed
        if over or seconds >= self._next:
            self._record(seconds, loss)
            self._next = max(seconds, 0.1) * 10 ** (1 / self._limits.records)
        return not over

    def end(self) -> None:
        """Records where a part ended by itself."""
        if self.records[-1].steps < self._steps:
            self._record(self._seconds(), self._loss)

    def finish(self) -> None:
        """Completes the progress bar."""
        self._bar.update(self._bar.target, self._shown(), finalize=True)

    def _seconds(self) -> float:
        return time.perf_counter() - self._start - self._paused

    def _record(self, seconds: float, loss: float) -> None:
        begin = time.perf_counter()
        self.records.append(
            Record(self._method, seconds, self._steps, loss, *self._problem.errors())
        )
        self._bar.update(min(int(seconds), self._bar.target), self._shown())
        self._paused += time.perf_counter() - begin

    def _shown(self) -> list[tuple[str, float]]:
        last = self.records[-1]
        return [("loss", last.loss), ("error", last.rms_error)]


def train(
    problem: pde_problem.Problem,
    chain: Sequence[str],
    limits: Limits,
    folder: pathlib.Path,
) -> list[Record]:
    """Trains by one method after the other, each from the checkpoint of the one before.

    Args:
        problem: Its network is trained.
        chain: Methods of `METHODS`.
        limits: When it ends.
        folder: Where checkpoints go: CHAIN.weights.h5 after each part.

    Returns:
        The history.
    """
    clock = Clock(problem, "+".join(chain), limits)
    for index, method in enumerate(chain):
        end = limits.seconds if index + 1 == len(chain) else (index + 1) * limits.first_seconds
        clock.begin(method, end)
        if index:
            problem.network.load_weights(_checkpoint(folder, chain[:index]))
        _RUNS.get(method, _by_ours)(problem, method, limits, clock)
        clock.end()
        problem.network.save_weights(_checkpoint(folder, chain[: index + 1]))
    clock.finish()
    return clock.records


def _checkpoint(folder: pathlib.Path, chain: Sequence[str]) -> str:
    return str(folder / f"{'+'.join(chain)}.weights.h5")


Report = Callable[..., bool]


def _by_ours(problem: pde_problem.Problem, method: str, limits: Limits, report: Report) -> None:
    options = {} if method == "exact_saddle_free_newton" else {"jit_compile": limits.jit_compile}
    kinds = {
        "saddle_free_newton": keras_sfn.SaddleFreeNewton,
        "exact_saddle_free_newton": keras_sfn.ExactSaddleFreeNewton,
        "damped_newton": keras_sfn.DampedNewton,
    }
    optimizer = kinds[method](**options)
    variables = problem.network.trainable_variables

    @tf.function(autograph=False)
    def step(points: list[tf.Tensor]) -> tf.Tensor:
        return optimizer.minimize(lambda: problem.loss(points), variables)

    for points in _batches(problem):
        if not report(float(step(points))):
            break


def _by_adam(problem: pde_problem.Problem, method: str, limits: Limits, report: Report) -> None:
    del method
    optimizer = keras.optimizers.Adam(limits.adam_rate)
    variables = problem.network.trainable_variables
    optimizer.build(variables)
    count = _ADAM_STEPS
    if problem.resample_every:
        count = math.gcd(count, problem.resample_every)
    if limits.steps is not None:
        count = math.gcd(count, limits.steps)

    @tf.function(autograph=False)
    def step(points: list[tf.Tensor]) -> tf.Tensor:
        def one() -> tf.Tensor:
            with tf.GradientTape() as tape:
                loss = problem.loss(points)
            gradients = tape.gradient(loss, [variable.value for variable in variables])
            optimizer.apply(gradients, variables)
            return loss

        first = one()
        if count == 1:
            return first
        return tf.while_loop(
            lambda index, _: index < count,
            lambda index, _: (index + 1, one()),
            (tf.constant(1), first),
        )[1]

    for points in _batches(problem, count):
        if not report(float(step(points)), count):
            break


def _by_lbfgs(problem: pde_problem.Problem, method: str, limits: Limits, report: Report) -> None:
    """SciPy's, on fixed points; it begins anew where its line search fails, while that helps."""
    del method, limits
    points = problem.draw()
    variables = problem.network.trainable_variables
    shapes = [tuple(variable.shape) for variable in variables]
    ends = np.cumsum([math.prod(shape) for shape in shapes])[:-1]

    @tf.function(autograph=False)
    def value_and_gradient() -> tuple[tf.Tensor, tf.Tensor]:
        with tf.GradientTape() as tape:
            loss = problem.loss(points)
        gradients = tape.gradient(loss, [variable.value for variable in variables])
        return loss, tf.concat([tf.reshape(gradient, (-1,)) for gradient in gradients], axis=0)

    def assign(flat: np.ndarray) -> None:
        for variable, part, shape in zip(variables, np.split(flat, ends), shapes, strict=True):
            variable.assign(part.reshape(shape))

    def function(flat: np.ndarray) -> tuple[float, np.ndarray]:
        assign(flat)
        loss, gradient = value_and_gradient()
        return float(loss), np.asarray(gradient, "float64")

    going = True

    def callback(intermediate_result: scipy.optimize.OptimizeResult) -> None:
        nonlocal going
        assign(intermediate_result.x)
        going = report(float(intermediate_result.fun))
        if not going:
            raise StopIteration

    options = {"maxiter": 10**9, "maxfun": 10**9, "maxcor": 50, "ftol": 0.0, "gtol": 0.0}
    flat = np.concatenate([np.asarray(variable.value, "float64").ravel() for variable in variables])
    before = math.inf
    while going:
        result = scipy.optimize.minimize(
            function, flat, jac=True, method="L-BFGS-B", callback=callback, options=options
        )
        flat = result.x
        assign(flat)
        if not result.fun < before:
            break
        before = result.fun


def _batches(problem: pde_problem.Problem, steps: int = 1) -> Iterator[list[tf.Tensor]]:
    """Yields the points of each step, or of each so many steps."""
    taken, points = 0, problem.draw()
    while True:
        yield points
        taken += steps
        if problem.resample_every and taken % problem.resample_every == 0:
            points = problem.draw()


_RUNS = {"adam": _by_adam, "lbfgs": _by_lbfgs}
