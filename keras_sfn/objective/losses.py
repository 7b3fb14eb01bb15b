"""The frozen loss of one step, from what a caller hands over: a batch, slices, or replicas."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import keras
import tensorflow as tf

from keras_sfn.backend import devices
from keras_sfn.curvature import differentiability, products
from keras_sfn.objective import micro_batches, parameter_space, replicas
from keras_sfn.objective import objective as objective_lib

LossFunction: TypeAlias = Callable[[], tuple[tf.Tensor, Any]]
Batch: TypeAlias = LossFunction | micro_batches.Slices | replicas.Shares
# (i, count) -> the i-th of so many parts of a batch; i is a scalar integer tensor.
PartOfBatch: TypeAlias = Callable[[tf.Tensor, int], Batch]


class Parts:
    """The losses of parts of a batch's rows, each of which stands for all.

    Args:
        part_of: Gives a part of the batch.
        space: The variables to train.
    """

    def __init__(self, part_of: PartOfBatch, space: parameter_space.ParameterSpace) -> None:
        self._part_of = part_of
        self._space = space
        self._seed: tf.Tensor | None = None

    def reseed(self, seed: tf.Tensor) -> None:
        """See `objective.Objective.reseed`."""
        self._seed = seed

    def part(self, index: tf.Tensor, count: int) -> objective_lib.Loss:
        """Returns the loss of a part.

        Args:
            index: Scalar integer below `count`.
            count: Of the parts, which may overlap.
        """
        loss = _objective(self._part_of(index, count), self._space)
        if self._seed is not None:
            loss.reseed(self._seed)
        return loss


class Frozen(NamedTuple):
    """What a step evaluates.

    Attributes:
        objective: The loss.
        curvature: The loss whose Hessian is used: the same, or of a part of the batch.
        ops: Types of the ops of the loss; empty in eager code.
        hvp_mode: How products are taken, as in `products.hessian_vector_product`.
        jit_compile: Whether XLA compiles what evaluates them.
        parts: Those of parts of the batch; None where no part stands for all.
    """

    objective: objective_lib.Loss
    curvature: objective_lib.Loss
    ops: frozenset[str]
    hvp_mode: str
    jit_compile: bool
    parts: Parts | None = None


def prepare(
    loss_fn: Batch,
    curvature_loss_fn: Batch | None,
    part_of: PartOfBatch | None,
    space: parameter_space.ParameterSpace,
    hvp_mode: str,
    jit_compile: bool | str,
    jit_of_model: bool | str,
) -> Frozen:
    """Returns the losses of a step.

    Args:
        loss_fn: Returns `(loss, outputs)`; or a batch in slices, or on several replicas.
        curvature_loss_fn: The same, for the Hessian alone; None where it is that of `loss_fn`.
        part_of: Gives parts of the batch of `loss_fn`; None where none stands for all.
        space: The variables to train.
        hvp_mode: The optimizer's argument.
        jit_compile: The optimizer's argument.
        jit_of_model: As in `devices.jit_compile`.

    Raises:
        ValueError: See `differentiability.examine`.
        NotImplementedError: See `differentiability.examine`.
    """
    objective = _objective(loss_fn, space)
    curvature = objective
    if curvature_loss_fn is not None:
        curvature = _objective(curvature_loss_fn, space)
        curvature.example()
    ops = _examine(objective)
    synchronized = isinstance(objective, replicas.Replicas) and objective.synchronized
    mode = products.resolve_mode(hvp_mode, ops, synchronized)
    jit = not tf.executing_eagerly() and devices.jit_compile(jit_compile, ops, jit_of_model)
    parts = None if part_of is None else Parts(part_of, space)
    return Frozen(objective, curvature, ops, mode, jit, parts)


def compiled(compute: Callable[[bool], Any], frozen: Frozen, whole: bool) -> Callable[[], Any]:
    """Returns the computation of a step as it is to be called.

    Args:
        compute: The computation. Its argument: whether XLA is to compile products by themselves.
        frozen: The losses that it evaluates.
        whole: Whether it takes the eigenvalues of the whole Hessian. XLA would take minutes for
            these: there, only products are its.
    """
    if tf.executing_eagerly():
        return functools.partial(compute, False)
    jit = frozen.jit_compile
    # Not sooner: a renewal of the preconditioner, traced before, is faster with joined products.
    frozen.objective.space.in_place = jit
    parts = {frozen.objective, frozen.curvature}
    on_replicas = [part for part in parts if isinstance(part, replicas.Replicas)]
    if not on_replicas:
        step = functools.partial(compute, jit and whole)
        return tf.function(step, autograph=False, jit_compile=jit and not whole)
    # The sums between what the replicas compute cannot be inside a compiled function.
    for part in on_replicas:
        part.compile_parts(jit)
    return functools.partial(compute, False)


def carry_out(
    variables: Sequence[keras.Variable], values: Sequence[tf.Tensor], finite: tf.Tensor
) -> None:
    """Assigns what the pass at the old parameters would have assigned.

    Args:
        variables: What to assign to.
        values: One a variable.
        finite: Whether all of the step was finite.
    """
    for variable, value in zip(variables, values, strict=True):
        if value.dtype.is_floating:
            # Statistics that are not finite would spoil the model for good. They can overflow (a
            # variance) where the loss does not.
            keep = finite & tf.reduce_all(tf.math.is_finite(value))
            value = tf.where(keep, value, tf.cast(variable.value, value.dtype))
        variable.assign(value)


def _objective(loss_fn: Batch, space: parameter_space.ParameterSpace) -> objective_lib.Loss:
    if isinstance(loss_fn, micro_batches.Slices):
        return micro_batches.MicroBatches(loss_fn, space)
    if isinstance(loss_fn, replicas.Shares):
        return replicas.Replicas(loss_fn, space)
    return objective_lib.Objective(loss_fn, space)


def _examine(loss: objective_lib.Loss) -> frozenset[str]:
    """Refuses what has no right step; returns the ops that decide how it is compiled."""
    if not tf.executing_eagerly():
        return differentiability.examine(loss)
    differentiability.examine_eagerly(loss)
    return frozenset()
