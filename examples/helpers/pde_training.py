"""Trainings of a physics-informed network by the clock: ours, Adam, L-BFGS and chains of these."""

from __future__ import annotations

import math
import pathlib
from collections.abc import Callable, Iterator, Sequence

import keras
import numpy as np
import scipy.optimize
import tensorflow as tf

import keras_sfn
from helpers import pde_clock, pde_problem

OURS = ("saddle_free_newton", "exact_saddle_free_newton", "damped_newton")
METHODS = (*OURS, "adam", "lbfgs")

# Adam's steps are too short to look at the clock after each.
_ADAM_STEPS = 20


def train(
    problem: pde_problem.Problem,
    chain: Sequence[str],
    limits: pde_clock.Limits,
    folder: pathlib.Path,
) -> list[pde_clock.Record]:
    """Trains by one method after the other, each from the checkpoint of the one before.

    Args:
        problem: Its network is trained.
        chain: Methods of `METHODS`.
        limits: When it ends.
        folder: Where checkpoints go: CHAIN.weights.h5 after each part.

    Returns:
        The history.
    """
    clock = pde_clock.Clock(problem, "+".join(chain), limits)
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


def _by_ours(
    problem: pde_problem.Problem, method: str, limits: pde_clock.Limits, report: Report
) -> None:
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


def _by_adam(
    problem: pde_problem.Problem, method: str, limits: pde_clock.Limits, report: Report
) -> None:
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


class _Flat:
    """The loss on fixed points as a function of one vector, as SciPy wants it."""

    def __init__(self, problem: pde_problem.Problem) -> None:
        points = problem.draw()
        self._variables = problem.network.trainable_variables

        @tf.function(autograph=False)
        def value_and_gradient() -> tuple[tf.Tensor, tf.Tensor]:
            with tf.GradientTape() as tape:
                loss = problem.loss(points)
            gradients = tape.gradient(loss, [variable.value for variable in self._variables])
            return loss, tf.concat([tf.reshape(gradient, (-1,)) for gradient in gradients], axis=0)

        self._value_and_gradient = value_and_gradient

    def values(self) -> np.ndarray:
        """Returns the parameters, shape (n,)."""
        parts = [keras.ops.convert_to_numpy(variable).ravel() for variable in self._variables]
        return np.concatenate(parts).astype("float64")

    def assign(self, flat: np.ndarray) -> None:
        """Puts parameters of shape (n,) into the network."""
        ends = np.cumsum([math.prod(variable.shape) for variable in self._variables])[:-1]
        for variable, part in zip(self._variables, np.split(flat, ends), strict=True):
            variable.assign(part.reshape(variable.shape))

    def __call__(self, flat: np.ndarray) -> tuple[float, np.ndarray]:
        """Returns the loss and its gradient, shape (n,), at parameters of shape (n,)."""
        self.assign(flat)
        loss, gradient = self._value_and_gradient()
        return float(loss), gradient.numpy().astype("float64")


def _by_lbfgs(
    problem: pde_problem.Problem, method: str, limits: pde_clock.Limits, report: Report
) -> None:
    """SciPy's, on fixed points; it begins anew where its line search fails, while that helps."""
    del method, limits
    function, going, before = _Flat(problem), True, math.inf
    options = {"maxiter": 10**9, "maxfun": 10**9, "maxcor": 50, "ftol": 0.0, "gtol": 0.0}

    def callback(intermediate_result: scipy.optimize.OptimizeResult) -> None:
        nonlocal going
        function.assign(intermediate_result.x)
        going = report(float(intermediate_result.fun))
        if not going:
            raise StopIteration

    while going:
        result = scipy.optimize.minimize(
            function,
            function.values(),
            jac=True,
            method="L-BFGS-B",
            callback=callback,
            options=options,
        )
        function.assign(result.x)
        if not result.fun < before:
            break
        before = float(result.fun)


def _batches(problem: pde_problem.Problem, steps: int = 1) -> Iterator[list[tf.Tensor]]:
    """Yields the points of each step, or of each so many steps."""
    taken, points = 0, problem.draw()
    while True:
        yield points
        taken += steps
        if problem.resample_every and taken % problem.resample_every == 0:
            points = problem.draw()


_RUNS = {"adam": _by_adam, "lbfgs": _by_lbfgs}
