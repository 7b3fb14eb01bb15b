"""What is decided about a loss before a step is prepared: one look at one trace."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import tensorflow as tf
from absl import logging

from keras_sfn.backend import arithmetic, devices, graphs
from keras_sfn.curvature import differentiability, products
from keras_sfn.objective import objective as objective_lib
from keras_sfn.objective import replicas
from keras_sfn.objective import traced as traced_lib

# Kernels of a loss and its gradient that are run before XLA compiles a step. On two cores it takes
# some four seconds, the time that it saves in so many: an autoencoder takes 6.6 instead of 7.3 ms.
_KERNELS_BEFORE_JIT = 250_000

# Share of the arithmetic that is done element by element: 0.83 in a physics-informed net, whose
# steps take 6 instead of 26 ms, 0.1 in an autoencoder.
_FUSED_AT_ONCE = 0.5
# Such a loss waits where it would for more than so many steps: a net of two layers is compiled for
# seven seconds and gains ten milliseconds a step.
_SOON = 300

# Passes through the loss and its gradient in a step.
_OTHER_PASSES = 3
_PASSES_OF_A_PRODUCT = 2


class Surveyed(Protocol):
    """What is looked at: a batch."""

    synchronized: bool

    @property
    def example(self) -> objective_lib.Objective:
        """See `batches.Batch`."""

    @property
    def traced(self) -> traced_lib.Traced:
        """See `batches.Batch`."""


class Survey(NamedTuple):
    """How the loss of a step is differentiated and compiled.

    Attributes:
        traced: What the trace of the loss shows.
        hvp_mode: How products are taken, as in `products.hessian_vector_product`.
        jit_compile: Whether XLA compiles what evaluates the loss.
        jit_waits: Whether it need not do so from the first step on.
        first_compiled_step: From which step on it does.
    """

    traced: traced_lib.Traced
    hvp_mode: str
    jit_compile: bool
    jit_waits: bool = False
    first_compiled_step: int = 0

    def from_when_it_pays(self, products: int) -> Survey:
        """Returns the survey with the first step that XLA is to compile.

        XLA takes seconds for a step that takes milliseconds. What it takes hardly depends on the
        loss; what it gains at each step grows with the number of ops that are run. Where
        most arithmetic is done element by element, which XLA fuses, it may pay at once.

        Args:
            products: Of a Hessian with a vector that a step makes.
        """
        if not self.jit_waits:
            return self
        graph = self.traced.graph
        kernels = max(arithmetic.kernels(graph), 1)
        passes = _OTHER_PASSES + _PASSES_OF_A_PRODUCT * products
        first = _KERNELS_BEFORE_JIT // (kernels * passes)
        if first < _SOON and arithmetic.share_of_elements(graph) > _FUSED_AT_ONCE:
            return self
        return self._replace(first_compiled_step=first)

    def early(self, step: tf.Tensor | int) -> tf.Tensor | None:
        """Returns whether it is too early for XLA, a scalar boolean; None for never.

        Args:
            step: Scalar integer, how many were taken.
        """
        first = self.first_compiled_step
        return tf.cast(step, tf.int32) < first if self.jit_compile and first else None

    def at_once_or_never(self) -> Survey:
        """Returns the survey without XLA where that would come in later.

        For steps of one gradient: on a CPU their matrix products take longer under XLA than the ops
        between them gain.
        """
        if not self.first_compiled_step:
            return self
        return self._replace(jit_compile=False, first_compiled_step=0)


class FrozenLoss(NamedTuple):
    """The loss of one step, as all that a step evaluates sees it.

    Attributes:
        whole: The loss of the batch.
        curvature: The loss whose Hessian is used: the same, or that of a part of the rows.
        part: (i, count) -> the loss of the i-th of so many parts of the batch; None where no part
            may be taken for all.
        survey: How these are differentiated and compiled.
        step: Scalar integer, how many steps were taken.
    """

    whole: objective_lib.Loss
    curvature: objective_lib.Summed
    part: Callable[[tf.Tensor, int], objective_lib.Loss] | None
    survey: Survey
    step: tf.Tensor | int = 0

    def compiled(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Returns a function of the loss as it is to be called in a graph.

        Args:
            function: Of tensors, or of none.
        """
        if isinstance(self.whole, replicas.Replicas):
            # Sums between what the replicas compute cannot be inside a compiled function: that
            # each computes is compiled by itself.
            return function
        return devices.compiled(function, self.survey.jit_compile, self.survey.early(self.step))

    def in_a_graph(self, compute: Callable[[Any], tf.Tensor]) -> Callable[[Any], tf.Tensor]:
        """Returns what walks through the graph of a part's loss as it is to be called.

        On one device it is called in a function of its own already.

        Args:
            compute: Part -> tensor.

        Raises:
            NotImplementedError: Layers sum over the replicas, in eager code.
        """
        if not isinstance(self.whole, replicas.Replicas):
            return compute
        if not self.whole.synchronized:
            return lambda part: graphs.concrete(lambda: compute(part))()
        if tf.executing_eagerly():
            raise NotImplementedError(
                "Preconditioned directions with layers that sum over replicas (synchronized=True) "
                "need a graph. Received: run_eagerly=True, or `minimize` outside a `tf.function`. "
                "Use a graph, or an integer `krylov_dimension`."
            )
        return compute


def survey(
    batch: Surveyed,
    hvp_mode: str,
    jit_compile: bool | str = "auto",
    jit_of_model: bool | str = "auto",
    *,
    eager: bool = False,
) -> Survey:
    """Looks at the loss of a batch, refuses what has no right step, decides how it is evaluated.

    A loss that is going to be evaluated eagerly is also evaluated twice, since a graph would not
    show what Python code changes; and where it cannot be traced at all, a warning says that its ops
    are not known.

    Args:
        batch: Whose loss is looked at.
        hvp_mode: The optimizer's argument.
        jit_compile: The optimizer's argument.
        jit_of_model: As in `devices.jit_compile`.
        eager: Whether the loss is going to be evaluated eagerly.

    Raises:
        ValueError: The loss differs from one evaluation to the next, changes a variable, or does
            not depend on the parameters; or a layer reads trained variables by itself.
        NotImplementedError: An op between the parameters and the gradient has no second derivative
            in TensorFlow; or `hvp_mode` cannot be had.
    """
    try:
        if eager:
            _refuse_unrepeatable(batch.example)
        traced = batch.traced
    except LookupError as error:
        if type(error) is not LookupError:
            raise  # A `KeyError` or `IndexError` of the loss itself.
        differentiability.refuse_missing(batch.example, error)
    if traced.error is None:
        differentiability.refuse(traced.graph, batch.example.space.variables)
    elif not eager:
        raise traced.error
    else:
        logging.log_first_n(
            logging.WARNING,
            "The loss cannot be traced into a graph (%s), so that it is not known whether all of "
            "its ops have right second derivatives. `keras_sfn.check_curvature` can tell where "
            "the branch of Python code is taken out.",
            1,
            traced.error,
        )
    own = traced.has_forward_mode and not traced.has_loops
    mode = products.resolve_mode(hvp_mode, own, batch.synchronized)
    if traced.has_forward_mode and mode == "reverse_over_reverse":
        logging.log_first_n(
            logging.WARNING,
            "The loss uses `tf.autodiff.ForwardAccumulator`, and its curvature is taken in reverse "
            "mode (asked for, or because of loops or sums over replicas): where accumulators are "
            "nested, TensorFlow's second derivatives are wrong. Use nested `tf.GradientTape`.",
            1,
        )
    jit = not eager and devices.jit_compile(jit_compile, traced.ops, jit_of_model)
    waits = jit and devices.jit_waits(jit_compile, jit_of_model)
    return Survey(traced, mode, jit, waits)


def _refuse_unrepeatable(objective: objective_lib.Objective) -> None:
    point = objective.space.flatten(objective.space.values())
    first, second = float(objective.loss(point)), float(objective.loss(point))
    # Parallel sums on a GPU may differ by rounding; random numbers and other batches by far more.
    if abs(first - second) > 1e-4 * max(abs(first), abs(second)):
        found = f"Two evaluations at the same point gave {first} and {second}"
        raise ValueError(graphs.UNREPEATABLE.format(found=found))
