"""The arguments of the optimizers: which values they take, and which kind of step they ask for."""

from __future__ import annotations

import enum
import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from keras_sfn import validation
from keras_sfn.curvature import products
from keras_sfn.newton import damping as damping_lib
from keras_sfn.newton import directions, effort, step, subspaces
from keras_sfn.objective import parameter_space
from keras_sfn.objective import traced as traced_lib
from keras_sfn.optimizers import memory

DEFAULT_DAMPING_GRID = (1e1, 1e0, 1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)


# A smaller constant factor on the step is taken for the rate of a first-order optimizer.
_SMALL_STEP = 0.01


class Method(NamedTuple):
    """What sets an optimizer apart from the others.

    Attributes:
        direction: What it makes of the eigenvalues.
        leave_saddles: Whether a step that gets nowhere goes along negative curvature instead.
    """

    direction: directions.Direction
    leave_saddles: bool


class StepKind(enum.Enum):
    """Where a step looks for its subspace."""

    PRECONDITIONED = "preconditioned directions"
    PRECONDITIONED_LOOPS = "preconditioned directions through loops"
    PRECONDITIONED_ALL_ROWS = "preconditioned directions on all rows"
    KRYLOV = "Lanczos vectors"
    WHOLE = "the whole Hessian"
    AVERAGED = "averaged gradients"

    @property
    def preconditioned(self) -> bool:
        """Whether directions are scaled by a preconditioner."""
        return self not in (StepKind.KRYLOV, StepKind.WHOLE, StepKind.AVERAGED)


# The values of "auto", by the kind of step: what did best over the tasks of docs/benchmarks.md.
_PRECONDITIONED = {"damping": "adaptive", "curvature_batch_size": "auto"}
_AUTO: dict[StepKind, dict[str, Any]] = {
    StepKind.PRECONDITIONED: _PRECONDITIONED,
    StepKind.PRECONDITIONED_LOOPS: _PRECONDITIONED,
    StepKind.PRECONDITIONED_ALL_ROWS: _PRECONDITIONED | {"curvature_batch_size": None},
    StepKind.KRYLOV: {"krylov_dimension": 10, "damping": "search", "curvature_batch_size": None},
    StepKind.WHOLE: {"damping": "search", "curvature_batch_size": None},
}

# Directions of a step, and one in so many rows of which its curvature is, from cheap to dear. More
# directions from few rows would fit these rows. Through a loop the approximation of the curvature
# is rougher, and more directions pay from the start.
_LEVELS = ((1, 16), (2, 4), (4, 1), (8, 1))
_LEVELS_THROUGH_LOOPS = ((3, 16), (3, 4), (4, 1), (8, 1))
# Where all rows are taken, the first step has the third level.
_START_OF_ALL_ROWS = 2

# The rows of a subspace hold at most so many numbers, if it may have fewer.
_MOST_NUMBERS = 10**8

# What an optimizer has that does not take the argument.
_ABSENT = {
    "curvature_batch_size": None,
    "inner_steps": 1,
    "jit_compile": "auto",
    "krylov_dimension": None,
    "micro_batch_size": None,
    "preconditioned_directions": "auto",
    "reorthogonalize": True,
    "seed": 0,
    "stochastic": False,
    "use_previous_step": False,
}


class Arguments:
    """Holds the arguments, and the kind of step in use: the first loss decides among those open.

    Args:
        passed: An optimizer's own arguments, by name.
        method: What sets the optimizer apart.

    Raises:
        ValueError: An argument is out of range, or contradicts another.

    Attributes:
        values: The arguments, with what stands in for those that the optimizer does not take.
        kind: The kind of step in use.
        decided: Whether that is known; before the first loss it is the one that is wanted.
        reason: Why directions are not preconditioned, or None where they are.
    """

    def __init__(self, passed: dict[str, Any], method: Method) -> None:
        self.values = _complete(passed)
        self._method = method
        self._open = _open_kinds(self.values)
        self.kind = self._open[0]
        self.decided = len(self._open) == 1
        self.may_be_preconditioned = self.kind.preconditioned
        self.reason = None if self.may_be_preconditioned else "`krylov_dimension` asks for that"

    @property
    def may_average(self) -> bool:
        """Whether steps of averaged gradients are open: all of them, or as batches turn out."""
        return self.values["stochastic"] is True or self._averages_by_itself

    def averages(self, divisible: bool) -> bool | None:
        """Returns whether all steps are of averaged gradients; None: as batches turn out.

        Args:
            divisible: Whether a part of the batch may be taken for all of it.
        """
        if self.values["stochastic"] is True:
            return True
        by_itself = self._averages_by_itself and self.kind.preconditioned and divisible
        return None if by_itself else False

    @property
    def _averages_by_itself(self) -> bool:
        # Who fixes what a step does in its subspace wants such steps.
        open_ones = ("damping", "curvature_batch_size", "preconditioned_directions", "stochastic")
        chosen = all(self.values[name] == "auto" for name in (*open_ones, "krylov_dimension"))
        return chosen and self.values["inner_steps"] == 1

    @property
    def in_use(self) -> dict[str, Any]:
        """All arguments, with values in the place of "auto", and `preconditioner`."""
        preconditioned = self.kind.preconditioned
        named: dict[str, Any] = {"preconditioner": "kronecker" if preconditioned else None}
        # Of the two numbers of directions, one has no meaning.
        named["krylov_dimension" if preconditioned else "preconditioned_directions"] = None
        return self._resolved(self.kind) | named

    @property
    def settings(self) -> step.Settings:
        """What a step of the kind in use is traced with."""
        values = self._resolved(self.kind)
        return step.Settings(
            damping=_damping_policy(values["damping"]),
            inner_steps=values["inner_steps"],
            max_step_norm=values["max_step_norm"],
            direction=self._method.direction,
            leave_saddles=self._method.leave_saddles,
        )

    def decide(self, traced: traced_lib.Traced, divisible: bool) -> None:
        """Finds out, at the first step, of which kind this and all later steps are.

        Args:
            traced: What the trace of the first loss shows.
            divisible: Whether a part of the batch may be taken for all of it.
        """
        if self.decided:
            return
        self.reason = _obstacle(traced)
        if self.reason is not None:
            self.kind = StepKind.KRYLOV
        elif traced.has_loops:
            self.kind = StepKind.PRECONDITIONED_LOOPS
        elif not divisible:
            self.kind = StepKind.PRECONDITIONED_ALL_ROWS
        self._close()

    def adopt(self, kind: StepKind, reason: str | None) -> None:
        """Takes over what an equal loss has decided with equal arguments.

        Args:
            kind: Of all steps.
            reason: As the attribute.
        """
        self.kind, self.reason = kind, reason
        self._close()

    def _close(self) -> None:
        # Once and for all: state and trace belong to it.
        self.decided, self._open = True, (self.kind,)

    def describe(self, obstacle: str | None, size: int) -> str:
        """Returns the kind of step in use in words.

        Args:
            obstacle: Why no part of the batch may be taken for all of it, or None.
            size: n, the number of parameters.
        """
        rows: dict[int | str | None, str] = {
            None: "all rows",
            "auto": "a sixteenth of the rows to all",
        }
        wanted = self.curvature_rows(obstacle is None)
        text = f"curvature of {rows.get(wanted, f'{wanted} rows')}"
        if self.kind.preconditioned and wanted is None and obstacle is not None:
            text = f"{text} ({obstacle})"
        text = f"{self.kind.value}{self._numbers(size)}, {text}"
        if self.values["stochastic"] is True:
            text = StepKind.AVERAGED.value
        elif self.averages(obstacle is None) is None:
            text = f"{text}; on noisy batches {StepKind.AVERAGED.value}"
        return text if self.reason is None else f"{text}; not preconditioned: {self.reason}"

    def ladder(self, size: int) -> effort.Ladder:
        """Returns between how many directions and rows a preconditioned step chooses.

        Args:
            size: n, the number of parameters.
        """
        chosen = self._resolved(self.kind)
        directions, rows = chosen["preconditioned_directions"], chosen["curvature_batch_size"]
        through_loops = self.kind is StepKind.PRECONDITIONED_LOOPS
        all_levels = _LEVELS_THROUGH_LOOPS if through_loops else _LEVELS
        most = max(_MOST_NUMBERS // size, all_levels[0][0])
        levels = []
        for count, share in all_levels:
            level = effort.Level(
                min(count, most, size) if directions == "auto" else min(directions, size),
                share if rows == "auto" else 1,
            )
            if level not in levels:
                levels.append(level)
        start = _START_OF_ALL_ROWS if rows is None else 0
        return effort.Ladder(levels, min(start, len(levels) - 1))

    def curvature_rows(self, divisible: bool) -> int | str | None:
        """Returns of how many rows the Hessian is: a number, "auto", or None for all.

        Args:
            divisible: Whether a part of the batch may be taken for all of it.
        """
        wanted: int | str | None = self._resolved(self.kind)["curvature_batch_size"]
        return wanted if divisible else None

    def parts_may_be_sampled(self, divisible: bool) -> bool:
        """Returns whether samples for the preconditioner may be of parts of the batch.

        Args:
            divisible: Whether a part of the batch may be taken for all of it.
        """
        return divisible and self.values["curvature_batch_size"] is not None

    def dimension(self, size: int) -> int:
        """Returns the dimension of the subspace of a step of the kind in use.

        Args:
            size: n, the number of parameters.
        """
        return self._dimension(self.kind, size)

    def largest_dimension(self, size: int) -> int:
        """Returns the largest dimension of any kind that is open.

        Args:
            size: n, the number of parameters.
        """
        return max(self._dimension(kind, size) for kind in self._open)

    def products(self, size: int) -> int:
        """Returns how many products of the Hessian the first step makes.

        Args:
            size: Number of parameters.
        """
        if self.kind.preconditioned:
            return 1 + self.ladder(size).first.directions
        return self.dimension(size)

    def refuse_too_large(
        self, space: parameter_space.ParameterSpace, numbers_of_preconditioner: int
    ) -> None:
        """Raises where a step of the kind in use cannot fit into memory.

        Args:
            space: The parameters.
            numbers_of_preconditioner: How many numbers a preconditioner keeps.

        Raises:
            MemoryError: It cannot.
        """
        if self.kind is StepKind.WHOLE:
            memory.refuse_hessian_too_large(space)
            return
        memory.refuse_basis_too_large(
            space, self.dimension(space.size), factors=numbers_of_preconditioner
        )

    def _numbers(self, size: int) -> str:
        if self.kind is StepKind.WHOLE:
            return ""
        if self.kind is StepKind.KRYLOV:
            return f" ({self.in_use['krylov_dimension']})"
        numbers = [level.directions for level in self.ladder(size).levels]
        return (
            f" ({min(numbers)})"
            if len(set(numbers)) == 1
            else f" ({min(numbers)} to {max(numbers)})"
        )

    def _resolved(self, kind: StepKind) -> dict[str, Any]:
        values = self.values
        chosen = {name: value for name, value in _AUTO[kind].items() if values[name] == "auto"}
        return values | chosen

    def _dimension(self, kind: StepKind, size: int) -> int:
        if kind.preconditioned:
            directions_of = self.ladder(size).most_directions
        else:
            directions_of = self._resolved(kind)["krylov_dimension"]
        return subspaces.dimension(directions_of, size, self.values["use_previous_step"])


def parted(named: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns the arguments of an optimizer as its own and those of every Keras optimizer.

    Args:
        named: All arguments by name.

    Raises:
        ValueError: One that is Keras's is out of range.
    """
    own = {name: value for name, value in named.items() if name in _CHECKS}
    of_keras = {name: value for name, value in named.items() if name not in _CHECKS}
    validation.within("weight_decay", of_keras["weight_decay"], 0, math.inf, optional=True)
    validation.boolean("use_ema", of_keras["use_ema"])
    validation.within("ema_momentum", of_keras["ema_momentum"], 0, 1)
    frequency = of_keras["ema_overwrite_frequency"]
    validation.integer_at_least("ema_overwrite_frequency", frequency, 1, optional=True)
    of_keras["learning_rate"] = validation.learning_rate(of_keras["learning_rate"])
    return own, of_keras


def warn_of_small_steps(learning_rate: Any) -> None:
    """Warns of a constant learning rate that was meant for a first-order optimizer.

    Args:
        learning_rate: As an optimizer's constructor got it from a user.
    """
    # Zero stands still on purpose; schedules and callbacks lower the rate on purpose.
    if isinstance(learning_rate, float) and 0 < learning_rate < _SMALL_STEP:
        warnings.warn(
            "`learning_rate` is a factor on the whole step, not the rate of Adam or SGD: 1.0 is "
            f"the full step. Received: learning_rate={learning_rate:g}, which trains "
            f"{1 / learning_rate:.0f} times slower. Leave it at 1.0; for shorter steps use "
            "`max_step_norm`, or `damping`.",
            UserWarning,
            stacklevel=4,
        )


def _complete(passed: dict[str, Any]) -> dict[str, Any]:
    """Checks arguments and returns them with what stands in for those not taken."""
    for name, value in passed.items():
        _CHECKS[name](name, value)
    complete = _ABSENT | passed
    if complete["krylov_dimension"] != "auto" and complete["preconditioned_directions"] != "auto":
        raise ValueError(
            '`preconditioned_directions` needs krylov_dimension="auto": an integer '
            "`krylov_dimension` asks for Lanczos vectors instead. Received: "
            f"preconditioned_directions={complete['preconditioned_directions']}, "
            f"krylov_dimension={complete['krylov_dimension']}. Leave one of them out."
        )
    if complete["krylov_dimension"] is None:
        if complete["jit_compile"] is True:
            raise ValueError(
                "`jit_compile` cannot be True with the whole Hessian, whose eigenvalues XLA takes "
                "minutes for. Received: jit_compile=True, krylov_dimension=None. Use "
                'jit_compile="auto", or an integer `krylov_dimension`.'
            )
        complete["use_previous_step"] = False
    return complete


def _open_kinds(values: dict[str, Any]) -> tuple[StepKind, ...]:
    """Returns the kinds of step among which the first loss decides, the wanted one first."""
    if values["krylov_dimension"] is None:
        return (StepKind.WHOLE,)
    if values["krylov_dimension"] == "auto":
        return (
            StepKind.PRECONDITIONED,
            StepKind.PRECONDITIONED_LOOPS,
            StepKind.PRECONDITIONED_ALL_ROWS,
            StepKind.KRYLOV,
        )
    return (StepKind.KRYLOV,)


def _obstacle(traced: traced_lib.Traced) -> str | None:
    """Returns why directions cannot be preconditioned, or None."""
    if traced.error is not None:
        return f"the loss cannot be traced into a graph ({traced.error})"
    if not traced.cut:
        return "the loss is a function of the parameters alone, without rows"
    return None


def _count(name: str, value: Any) -> None:
    validation.integer_at_least(name, value, 1)


def _optional_count(name: str, value: Any) -> None:
    validation.integer_at_least(name, value, 1, optional=True)


def _count_or_auto(name: str, value: Any) -> None:
    validation.integer_at_least(name, value, 1, optional=True, auto=True)


def _directions(name: str, value: Any) -> None:
    if value != "auto":
        validation.integer_at_least(name, value, 1)


def _damping(name: str, value: Any) -> None:
    if not (isinstance(value, str) and value == "auto"):
        _damping_policy(value)


_CHECKS: dict[str, Callable[[str, Any], None]] = {
    "curvature_batch_size": _count_or_auto,
    "damping": _damping,
    "hvp_mode": lambda name, value: validation.one_of(name, value, products.HVP_MODES),
    "inner_steps": _count,
    "jit_compile": lambda name, value: validation.one_of(name, value, (True, False, "auto")),
    "krylov_dimension": _count_or_auto,
    "max_step_norm": lambda name, value: validation.positive(name, value, optional=True),
    "micro_batch_size": _optional_count,
    "preconditioned_directions": _directions,
    "reorthogonalize": validation.boolean,
    "seed": lambda name, value: validation.integer_at_least(name, value, 0),
    "stochastic": lambda name, value: validation.one_of(name, value, (True, False, "auto")),
    "use_previous_step": validation.boolean,
}


def _damping_policy(damping: str | float | Sequence[float]) -> damping_lib.Damping:
    if isinstance(damping, str) and damping == "search":
        return damping_lib.SearchDamping(DEFAULT_DAMPING_GRID)
    if isinstance(damping, str) and damping == "adaptive":
        return damping_lib.AdaptiveDamping()
    if isinstance(damping, Sequence) and not isinstance(damping, str):
        return damping_lib.SearchDamping(validation.positive_values("damping", damping))
    return damping_lib.FixedDamping(validation.damping_value(damping))
