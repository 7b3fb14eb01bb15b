"""Which kind of step an optimizer takes: its arguments leave some open, the first loss decides."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf

from keras_sfn.backend import collectives, graphs
from keras_sfn.newton import subspaces
from keras_sfn.objective import objective as objective_lib
from keras_sfn.objective import parameter_space
from keras_sfn.optimizers import arguments, memory
from keras_sfn.preconditioner import gauss_newton


class Method(NamedTuple):
    """What sets an optimizer apart from the others.

    Attributes:
        direction: What it makes of the eigenvalues, as in `damping.SubspaceLoss`.
        leave_saddles: Whether a step that gets nowhere goes along negative curvature instead.
    """

    direction: Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tf.Tensor]
    leave_saddles: bool


class StepKinds:
    """Holds the kinds of step that are open, and the one in use.

    Args:
        options: An optimizer's own arguments, by name.
        method: What sets it apart.

    Raises:
        ValueError: An argument is out of range, or contradicts another.

    Attributes:
        options: The arguments, with what stands in for those that the optimizer does not take.
        with_previous_step: Whether the previous step joins the subspace.
        with_factors: Whether a kind with preconditioned directions is open.
    """

    def __init__(self, options: dict[str, Any], method: Method) -> None:
        self.options = arguments.complete(options)
        self._settings = {
            kind: arguments.settings(arguments.resolved(self.options, kind), *method)
            for kind in arguments.kinds(self.options)
        }
        self._kind = next(iter(self._settings))
        self._decided = len(self._settings) == 1
        self.with_previous_step = bool(self.options["use_previous_step"])
        self.with_factors = any(kind != "krylov" for kind in self._settings)

    @property
    def settings(self) -> subspaces.Settings:
        """Of the kind in use."""
        return self._settings[self._kind]

    @property
    def preconditioned(self) -> bool:
        """Whether the kind in use has preconditioned directions."""
        return self._kind != "krylov"

    @property
    def in_use(self) -> dict[str, Any]:
        """All arguments, with values in the place of "auto"."""
        return arguments.resolved(self.options, self._kind)

    @property
    def curvature_rows(self) -> int | str | None:
        """`curvature_batch_size`, or None under "auto" where no step can be preconditioned."""
        wanted: int | str | None = self.options["curvature_batch_size"]
        return None if wanted == "auto" and not self.with_factors else wanted

    @property
    def whole_batch(self) -> bool:
        """Whether the kind in use has the curvature of all rows, whatever was prepared."""
        return not self.preconditioned and self.options["curvature_batch_size"] == "auto"

    def decide(self, loss: objective_lib.Loss) -> None:
        """Finds out, at the first step, of which kind this and all later steps are.

        Args:
            loss: Of the batch.
        """
        if self._decided:
            return
        ops = gauss_newton.ops_of_sample(loss.example()) if collectives.alone() else None
        if ops is None:
            self._kind = "krylov"
        elif ops & graphs.CONTROL_FLOW:
            self._kind = "kronecker, loops"
        self._decided = True

    def most_rows(self, size: int) -> int:
        """Returns the rows of the largest basis of any kind that is open.

        Args:
            size: n, the number of parameters.
        """
        return max(
            subspaces.basis_rows(settings, size, self.with_previous_step)
            for settings in self._settings.values()
        )

    def refuse_too_large(self, space: parameter_space.ParameterSpace, factors: int) -> None:
        """Raises where a step of the kind in use cannot fit into memory.

        Args:
            space: The parameters.
            factors: Numbers that a preconditioner keeps.

        Raises:
            MemoryError: It cannot.
        """
        settings = self.settings
        if settings.krylov_dimension is None:
            memory.refuse_hessian_too_large(space)
            return
        rows = subspaces.basis_rows(settings, space.size, self.with_previous_step)
        memory.refuse_basis_too_large(space, rows, factors=factors)
