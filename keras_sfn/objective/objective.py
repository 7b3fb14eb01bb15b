"""The loss of one batch as a pure function of the parameters.

A training step evaluates the loss many times: for the gradient, for every Hessian-vector product,
for every candidate step. All of these must see one and the same function. `Objective` evaluates the
user's loss inside a `keras.StatelessScope`: trainable variables take the values being tried, every
other variable keeps the value it had before the step, and what the pass would have assigned (moving
statistics, seeds, metrics) is recorded instead of carried out.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol, TypeAlias

import keras
import numpy as np
import tensorflow as tf

from keras_sfn.backend import second_derivatives
from keras_sfn.objective import frozen_scope, moving_statistics, parameter_space, rows

# () -> the scalar loss and whatever else is returned: a model's predictions.
LossFunction: TypeAlias = Callable[[], tuple[tf.Tensor, Any]]
# A batch, or rows of it -> its loss function.
LossOf: TypeAlias = Callable[[Any], LossFunction]


class Evaluation(NamedTuple):
    """One evaluation of the loss.

    Attributes:
        loss: Scalar tensor.
        outputs: Whatever else `loss_fn` returned (a model's predictions), or None.
        updates: Pairs of a variable and the value the pass would have assigned to it.
    """

    loss: tf.Tensor
    outputs: Any
    updates: list[tuple[keras.Variable, tf.Tensor]]


class Summed(Protocol):
    """A loss that is the sum of its parts: all that products ask of it."""

    space: parameter_space.ParameterSpace

    def over_parts(
        self, compute: Callable[[Objective], tf.Tensor], shape: tuple[int, ...]
    ) -> tf.Tensor:
        """See `Objective.over_parts`."""


class Loss(Summed, Protocol):
    """What a step asks of a loss: `Objective`, or several of them summed."""

    def loss(self, point: parameter_space.Point) -> tf.Tensor:
        """See `Objective.loss`."""

    def gradient(self, point: parameter_space.Point) -> tf.Tensor:
        """See `Objective.gradient`."""

    def evaluation_and_gradient(
        self, point: parameter_space.Point, *, hold_constants: bool = False
    ) -> tuple[Evaluation, tf.Tensor]:
        """See `Objective.evaluation_and_gradient`."""


class Objective:
    """A loss as a function of the parameters alone, with everything else frozen.

    Args:
        loss_fn: Callable without arguments that reads the variables of `space` and returns
            `(loss, outputs)` with a scalar real loss.
        space: The variables that are the function's argument.
        draws: Shared by objectives that must see the same random numbers of Python and NumPy; empty
            at first.
        seed: Shape (2,) integers or None. The i-th seed generator holds this plus [i, 0] at the
            start of each evaluation; its own state still moves by as much as the pass moves it.
        pace: Of moving statistics; None is that of the layers themselves.
        place: Where its rows lie in the batch; None where it has all of them.

    Attributes:
        place: As the argument.
        seed_generators: States of the `keras.random.SeedGenerator`s that the loss draws from, in
            the order of its first evaluation.
    """

    def __init__(
        self,
        loss_fn: LossFunction,
        space: parameter_space.ParameterSpace,
        *,
        draws: list[Any] | None = None,
        seed: tf.Tensor | None = None,
        pace: moving_statistics.Pace | None = None,
        place: rows.Place | None = None,
    ) -> None:
        self._loss_fn = loss_fn
        self.place = place
        self.space = space
        self._read_before: frozenset[int] | None = None
        self._constants = second_derivatives.Constants()
        self._python_random: list[Any] = [] if draws is None else draws
        self._seed = seed
        self._pace = pace
        self.seed_generators: list[keras.Variable] = []

    def evaluate(
        self, parameters: Sequence[tf.Tensor], *, hold_constants: bool = False
    ) -> Evaluation:
        """Evaluates the loss with `parameters`, one tensor a variable, in place of the variables.

        Args:
            parameters: One tensor a variable.
            hold_constants: Whether the values that this evaluation passes through
                `stop_gradient` are those of all later ones.

        Raises:
            ValueError: The loss is not a real scalar, or it does not read the variables, or it
                reads them through a cached `tf.function`.
        """
        mapping = zip(self.space.variables, parameters, strict=True)
        self._constants.start(hold_constants)
        with (
            frozen_scope.FrozenScope(mapping, self._seed) as scope,
            second_derivatives.exact(self._constants, parameters),
            _repeat_python_random(self._python_random),
            frozen_scope.put_in_force(scope),
            moving_statistics.at(self._pace),
        ):
            loss, outputs = self._loss_fn()
        self._check_read(scope.read)
        self.seed_generators = self.seed_generators or list(scope.generators)
        return Evaluation(_check_loss(loss), outputs, scope.all_updates())

    def over_parts(
        self, compute: Callable[[Objective], tf.Tensor], shape: tuple[int, ...]
    ) -> tf.Tensor:
        """Returns the sum of what `compute` gives over the parts of this loss: there is one.

        Args:
            compute: Part -> tensor that is linear in the part's loss.
            shape: Of that tensor.
        """
        del shape
        return compute(self)

    def loss(self, point: parameter_space.Point) -> tf.Tensor:
        """Returns the loss at a point, in the dtype of the vectors."""
        return tf.cast(self.evaluate(self.space.tensors(point)).loss, self.space.dtype)

    def evaluation_and_gradient(
        self, point: parameter_space.Point, *, hold_constants: bool = False
    ) -> tuple[Evaluation, tf.Tensor]:
        """Returns the evaluation at a point and the gradient of shape (n,)."""
        parameters = self.space.tensors(point)
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(parameters)
            evaluation = self.evaluate(parameters, hold_constants=hold_constants)
        gradient = self.joined(tape.gradient(evaluation.loss, parameters), parameters)
        loss = tf.cast(evaluation.loss, self.space.dtype)
        return evaluation._replace(loss=loss), gradient

    def joined(
        self, gradients: Sequence[tf.Tensor | None], parameters: Sequence[tf.Tensor]
    ) -> tf.Tensor:
        """Returns gradients as a vector of shape (n,), with zeros where there is none.

        Args:
            gradients: What a tape gave, one a variable.
            parameters: One tensor a variable.

        Raises:
            ValueError: There is no gradient at all.
        """
        if all(gradient is None for gradient in gradients):
            raise ValueError(_INDEPENDENT)
        return self.space.flatten(
            [
                tf.zeros_like(p) if g is None else g
                for g, p in zip(gradients, parameters, strict=True)
            ]
        )

    def gradient(self, point: parameter_space.Point) -> tf.Tensor:
        """Returns the gradient at a point, shape (n,)."""
        return self.evaluation_and_gradient(point)[1]

    def _check_read(self, read: set[int]) -> None:
        if self._read_before is None:
            self._read_before = frozenset(read)
        if not read or not self._read_before <= read:
            raise ValueError(_INDEPENDENT)


_INDEPENDENT = (
    "The loss must depend on the trained variables at every evaluation. It did not read them. "
    "Either the loss is a constant of the weights, or it reads them through a function that "
    "TensorFlow has already traced (a model whose `call`, or a loss whose body, is decorated with "
    "`@tf.function`): remove that decorator, the whole step is compiled anyway."
)


@contextlib.contextmanager
def _repeat_python_random(first: list[Any]) -> Iterator[None]:
    """Gives the block the global random states of Python and NumPy that the first block had.

    What a layer draws from them (Keras's `AugMix`) goes into the graph as a constant, which must be
    the same at every trace. They advance by what the first block draws.

    Args:
        first: Empty before the first block; the states are kept there.
    """
    if not first:
        first.extend([random.getstate(), np.random.get_state()])
        yield
        return
    now = random.getstate(), np.random.get_state()
    random.setstate(first[0])
    np.random.set_state(first[1])
    try:
        yield
    finally:
        random.setstate(now[0])
        np.random.set_state(now[1])


def _check_loss(loss: Any) -> tf.Tensor:
    loss = tf.convert_to_tensor(loss)
    if not loss.dtype.is_floating:
        raise ValueError(
            f"The loss must be a real floating scalar. Received dtype {loss.dtype.name}. "
            "Return a float tensor, for a complex loss its real part."
        )
    if loss.shape.rank is None:
        loss.set_shape(())
    if loss.shape.rank != 0:
        raise ValueError(
            f"The loss must be a scalar. Received shape {tuple(loss.shape)}. "
            "Reduce it, for example with `keras.ops.mean`."
        )
    return loss
