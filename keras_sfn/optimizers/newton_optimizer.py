"""What every optimizer of this package shares: state, one step on a loss, Keras's bookkeeping."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import keras
import tensorflow as tf
from absl import logging

from keras_sfn import validation
from keras_sfn.backend import collectives, devices
from keras_sfn.curvature import slopes
from keras_sfn.curvature import survey as survey_lib
from keras_sfn.newton import damping as damping_lib
from keras_sfn.newton import effort as effort_lib
from keras_sfn.objective import batches, constraints, parameter_space, replica_batch
from keras_sfn.objective import objective as objective_lib
from keras_sfn.optimizers import (
    arguments,
    averaged_step,
    batch_noise,
    caught,
    decisions,
    dropout_seed,
    failures,
    finished_steps,
    last_step,
    previous_step,
    step_program,
)
from keras_sfn.preconditioner import averages as averages_lib
from keras_sfn.preconditioner import state as preconditioner_state

AnyBatch: TypeAlias = batches.Batch | replica_batch.ReplicaBatch

# What a step takes beside arithmetic, some milliseconds, in floating-point operations.
_OVERHEAD = 2.5e8


class NewtonOptimizer(finished_steps.FinishedSteps):
    """Abstract: takes steps on a loss function; a subclass holds the hyper-parameters.

    All that the next step depends on is in optimizer variables, so that a restored optimizer goes
    on as if it had never stopped.
    """

    curvature_batch_size: int | str | None
    micro_batch_size: int | None
    hvp_mode: str
    jit_compile: bool | str
    seed: int

    def __init__(
        self, method: arguments.Method, named: dict[str, Any], others: dict[str, Any]
    ) -> None:
        """Checks the arguments of a subclass and keeps them as attributes.

        Args:
            method: What sets the subclass apart.
            named: The arguments that its constructor names, Keras's own among them.
            others: What was passed besides.

        Raises:
            ValueError: One is unknown, out of range, or contradicts another.
            NotImplementedError: See `devices.refuse_strategy`.
        """
        devices.refuse_strategy()
        # As `get_config` gives it: the constructor takes all of that.
        limit = others.pop("max_consecutive_rejections", failures.MOST_IN_A_ROW)
        validation.refuse_keras_options(others)
        own, of_keras = arguments.parted(named)
        arguments.warn_of_small_steps(of_keras["learning_rate"])
        checked = arguments.Arguments(own, method)
        super().__init__(**of_keras)
        self._arguments = checked
        # As the attributes of any Keras optimizer: what was passed.
        for name, value in (self._arguments.values | own).items():
            setattr(self, name, value)
        self._own_names = tuple(own)
        self._decisions = decisions.Decisions()
        self.max_consecutive_rejections = limit

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments and `max_consecutive_rejections`, for JSON."""
        config = super().get_config()
        for option in validation.REFUSED_KERAS_OPTIONS:
            config.pop(option, None)
        config.update({name: getattr(self, name) for name in self._own_names})
        config["max_consecutive_rejections"] = self.max_consecutive_rejections
        return config

    @classmethod
    def from_config(
        cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None
    ) -> NewtonOptimizer:
        """Returns an optimizer from what `get_config` gave."""
        config = dict(config)
        # A rate that a callback has lowered, or a schedule's: no reason for the constructor's
        # warning.
        rate = config.get("learning_rate")
        if isinstance(rate, float):
            del config["learning_rate"]
        optimizer: NewtonOptimizer = super().from_config(config, custom_objects)
        if isinstance(rate, float):
            optimizer.learning_rate = validation.learning_rate(rate)
        return optimizer

    @property
    def max_consecutive_rejections(self) -> int | None:
        """Training ends with an error after so many failing steps in a row; None: never.

        A failing step is one that was rejected because the loss, its gradient, a product or every
        candidate was not finite. Steps that merely would not lower the loss do not count: near a
        minimum they are normal. Set it before training: a `tf.function` of your own keeps the value
        that it was traced with.
        """
        return self._max_consecutive_rejections

    @max_consecutive_rejections.setter
    def max_consecutive_rejections(self, limit: int | None) -> None:
        validation.integer_at_least("max_consecutive_rejections", limit, 1, optional=True)
        self._max_consecutive_rejections = limit

    def build(self, variables: Sequence[keras.Variable]) -> None:
        """Creates the state: previous step, damping and the counts of rejected steps."""
        if self.built:
            return
        variables = list(variables)
        space = parameter_space.ParameterSpace(variables)
        self._size = space.size
        super().build(variables)
        if self._arguments.values["use_previous_step"]:
            self._previous_step = previous_step.PreviousStep(space, self.add_variable)
        self._damping_state = self.add_variable(
            shape=(),
            initializer=keras.initializers.Constant(damping_lib.UNSET),
            dtype=space.dtype,
            aggregation="only_first_replica",
            name="damping",
        )
        self._rejected_steps = self.add_variable(
            shape=(), dtype="int", aggregation="only_first_replica", name="rejected_steps"
        )
        self._failures = self.add_variable(
            shape=(failures.COUNTS,),
            dtype="int",
            aggregation="only_first_replica",
            name="failures",
        )
        self._dropout_seed = dropout_seed.DropoutSeed(self.add_variable)
        if self._arguments.may_be_preconditioned:
            self._factors = preconditioner_state.PreconditionerState(
                variables, space.dtype, self.add_variable
            )
            self._effort = self.add_variable(
                shape=(len(effort_lib.INITIAL),),
                initializer=lambda shape, dtype: tf.constant(effort_lib.INITIAL, dtype),
                dtype="float32",
                aggregation="only_first_replica",
                name="effort",
            )
        if self._arguments.may_average:
            self._averages = averages_lib.Averages(variables, space.dtype, self.add_variable)
            self._noise = batch_noise.BatchNoise(self.add_variable)
        self._last_step = last_step.LastStepRecord(
            self._arguments.largest_dimension(space.size), space.dtype
        )
        self._slopes = slopes.SlopeRecord()
        self._warnings: set[str] = set()

    @property
    def rejected_steps(self) -> keras.Variable:
        """Scalar integer variable: how many steps so far left the parameters as they were."""
        if not self.built:
            raise ValueError(
                "`rejected_steps` exists once the optimizer is built. Train a step first, or call "
                "`optimizer.build(model.trainable_variables)`."
            )
        return self._rejected_steps

    @property
    def last_step(self) -> last_step.LastStep:
        """Figures of the last step, as Python numbers: see `keras_sfn.LastStep`.

        Raises:
            ValueError: No step was taken yet, or this is the trace of a `tf.function`.
        """
        if not self.built:
            raise ValueError(last_step.NO_STEP)
        return self._last_step.read(self._rejected_steps, self._arguments.kind)

    @property
    def options_in_use(self) -> dict[str, Any]:
        """Arguments of a step by name, with values in the place of "auto".

        And `preconditioner`: "kronecker" where directions are preconditioned, else None. Whether
        the loss allows that is found out by the first step; before it, this says what is used if
        so. After it, this is None too where no curvature has been found that could scale
        directions. `preconditioned_directions` is the number of the next step.
        `curvature_batch_size` may be "auto" here too: its value is another for each size of batch.
        """
        used = self._arguments.in_use
        if self.built and self._arguments.kind.preconditioned and not tf.inside_function():
            ladder = self._arguments.ladder(self._size)
            effort = ladder.effort(self._effort.value)
            used["preconditioned_directions"] = int(effort.directions)
        if self._arguments.may_average and self.built and not tf.inside_function():
            averaged = self._arguments.values["stochastic"] is True
            used["stochastic"] = averaged or self._noise.is_noisy()
        if (
            self._arguments.kind.preconditioned
            and self._decisions.said
            and not tf.inside_function()
        ):
            used["preconditioner"] = "kronecker" if self._factors.has_curvature() else None
        return used

    def compiles_within(self, steps: int) -> bool:
        """Returns whether XLA is going to compile the step, where it did not from the first on.

        Args:
            steps: Whether that will be in one of so many.
        """
        if not self.built:
            return False
        return self._decisions.compiles_within(int(self._iterations.numpy()), steps)

    def expect_batches(self, count: int | None) -> bool:
        """Decides for `fit` of which kind the next steps are, before one is traced.

        Steps on several batches are taken to be on noisy ones, until the first has looked.

        Args:
            count: Batches of an epoch, or None where that is not known.

        Returns:
            Whether a train function that was traced before takes steps of another kind.
        """
        before = self._decisions.averages
        known = self.built and self._arguments.may_average and self._noise.is_known()
        self._decisions.expect(count, self._noise.is_noisy() if known else None)
        return self._arguments.may_average and before != self._decisions.averages

    def changes_kind(self) -> bool:
        """Returns whether the next steps are of another kind than the one that was traced."""
        return self._decisions.looks and self._noise.is_noisy() != self._decisions.averages

    def trace_key(self) -> tuple[Any, ...]:
        """Returns what a trace of a step depends on that the configuration does not tell."""
        return (
            sorted(self._arguments.values.items()),
            self._arguments.kind,
            self._arguments.decided,
            self._arguments.may_be_preconditioned,
            self._decisions.averages,
            self._decisions.several_batches,
            self._last_step.dimension,
            self._size,
        )

    def traced_decisions(self) -> decisions.Traced:
        """Returns what the last trace of a step has decided."""
        held = dataclasses.replace(self._decisions)
        return decisions.Traced(self._arguments.kind, self._arguments.reason, held)

    def adopt(self, traced: decisions.Traced) -> None:
        """Becomes as if it had traced a step by itself, and says so in the log.

        Args:
            traced: Of an optimizer with the same `trace_key`.
        """
        self._arguments.adopt(traced.kind, traced.reason)
        if not self._decisions.said:
            decisions.say(self.name, traced.decisions.said)
        self._decisions = dataclasses.replace(traced.decisions)

    @property
    def unsaved_variables(self) -> list[keras.Variable]:
        """Variables beside those that are saved: figures of the last step."""
        return [self._last_step.variable, self._slopes.variable]

    def raise_if_failing(self) -> None:
        """Warns of the first step that was not finite, and raises after too many in a row.

        `fit` and eager code call this by themselves.

        Raises:
            FloatingPointError: `max_consecutive_rejections` steps in a row were not finite.
        """
        if self.built:
            self._warn_of_slopes()
            counts = self._failures.numpy()
            failures.warn_or_raise(counts, self.max_consecutive_rejections, self._warnings)

    def _warn_of_slopes(self) -> None:
        message = None if "slopes" in self._warnings else self._slopes.message()
        if message is not None:
            self._warnings.add("slopes")
            warnings.warn(message, RuntimeWarning, stacklevel=3)

    def minimize(
        self, loss_fn: Callable[[], Any], variables: Sequence[keras.Variable]
    ) -> tf.Tensor:
        """Takes one step on `loss_fn`, in eager code or inside a `tf.function`.

        Under a `tf.distribute` strategy call it in the code of the replicas (`strategy.run`); the
        loss is then the sum of what theirs return.

        The loss is evaluated many times; randomness and state (dropout seeds, moving statistics)
        are frozen meanwhile and move once. Inside a `tf.function` the step is compiled with it,
        which is many times faster than eager code.

        Args:
            loss_fn: Callable without arguments that reads `variables` and returns a scalar loss, or
                the pair `(loss, outputs)` with what the model gave. The curvature for the
                preconditioner is taken in these outputs where the loss is made of them, else
                where the graph of the loss shows its last layer.
            variables: The `keras.Variable` objects to train, the same at every call.

        Returns:
            The scalar loss before the step.

        Raises:
            ValueError: The loss is no real scalar or does not depend on `variables`, or
                `curvature_batch_size` or `micro_batch_size` is set (only `fit` knows the rows of a
                batch).
            TypeError: A variable is not a `keras.Variable`, or is complex or integer; or `loss_fn`
                returns something else.
            MemoryError: The Krylov basis cannot fit into memory.
            NotImplementedError: Layers sum over the replicas and `hvp_mode` is
                "forward_over_reverse", which is wrong there; or the strategy is not supported.
            RuntimeError: Under a strategy, this is no replica's code.
            FloatingPointError: `max_consecutive_rejections` steps in a row were rejected because
                something was not finite. From inside a `tf.function` this comes as
                `tf.errors.InvalidArgumentError`, and not at all if XLA compiles that function.
        """
        for name in ("curvature_batch_size", "micro_batch_size"):
            if getattr(self, name) not in (None, "auto"):
                raise ValueError(
                    f"`{name}` needs `model.fit`, which knows the rows of a batch. Received: "
                    f"{name}={getattr(self, name)} in `minimize`. Leave it at None in a "
                    "hand-written loop."
                )
        # A `tf.function` would keep the values of its first trace: use what it was made from.
        loss_fn = getattr(loss_fn, "python_function", loss_fn)
        # Python control flow on tensors in `loss_fn` is converted where the caller's is.
        loss_fn = tf.__internal__.autograph.tf_convert(
            loss_fn, tf.__internal__.autograph.control_status_ctx()
        )
        space = parameter_space.ParameterSpace(variables)
        if collectives.alone():
            return self.step(batches.of_function(loss_fn, space))[0]

        def step(loss_fns: Any) -> tf.Tensor:
            batch = replica_batch.ReplicaBatch(
                loss_fns,
                batches.with_outputs,
                space,
                obstacle=batches.ROWS_UNKNOWN,
                synchronized=None,
            )
            return self.step(batch)[0]

        return collectives.once(step, loss_fn)

    @tf.autograph.experimental.do_not_convert
    def step(
        self,
        batch: AnyBatch,
        jit_of_model: bool | str = "auto",
    ) -> tuple[tf.Tensor, Any]:
        """Takes one step; what `minimize` and the train step of a model share.

        Args:
            batch: Whose loss is lowered; on several replicas this is called inside
                `collectives.once`.
            jit_of_model: What `jit_compile="auto"` is, as in `devices.jit_compile`.

        Returns:
            The scalar loss before the step, and the outputs of the pass at that point.
        """
        devices.refuse_strategy()
        catcher = caught.in_force()
        if catcher is not None:
            catcher.stepped(self)
        space = batch.space
        self._refuse_too_large(space)
        if not self.built:
            with keras.name_scope(self.name):
                self.build(space.variables)
        self.refuse_unknown(space.variables)
        _refuse_float16(space.variables)
        constraints.enforce(space.variables)
        loss = self._frozen(batch, jit_of_model)
        if loss.survey.traced.has_own_gradients:
            first = tf.equal(self._iterations.value, 0)
            self._slopes.measure(loss.whole, loss.compiled, first)
        averages = self._arguments.averages(divisible=loss.part is not None)
        decided = self._decisions
        decided.draws = bool(batch.example.seed_generators)
        decided.looks = averages is None and (decided.several_batches or decided.draws)
        if space.size != self._size:
            if averages:
                logging.log_first_n(
                    logging.WARNING,
                    "%s: stochastic=True has no effect on steps of some of the variables.",
                    1,
                    self.name,
                )
            averages = decided.looks = False
        # What takes a few gradients, and some of it only every so often, is not compiled later on.
        simple = loss._replace(survey=loss.survey.at_once_or_never())
        if decided.looks:
            self._compile_parts(batch, simple.survey)
            self._noise.look(batch, simple, several=decided.several_batches, draws=decided.draws)
        if decided.averages if averages is None else averages:
            self._compile_parts(batch, simple.survey)
            returned = self._averaged_step(batch, simple)
            decided.first_compiled_step = 0
        else:
            self._compile_parts(batch, loss.survey)
            returned = self._step_in_subspace(batch, loss)
        if tf.executing_eagerly():
            self.raise_if_failing()
        elif not failures.is_watched():
            failures.assert_in_graph(self._failures.value, self.max_consecutive_rejections)
        return returned

    def _step_in_subspace(
        self, batch: AnyBatch, loss: survey_lib.FrozenLoss
    ) -> tuple[tf.Tensor, Any]:
        """Takes a step in a subspace of directions; returns loss and outputs."""
        factors = None
        if self._arguments.kind.preconditioned:
            factors = self._factors.renew(loss, self._iterations.value, self.seed)
        computed, updated = step_program.run(
            loss,
            self._arguments,
            lambda: self._read(batch.space, factors),
            self._last_step.dimension,
        )
        step_program.carry_out(updated, computed.updates, computed.result.finite)
        self._keep(batch.space, computed, factors)
        if factors is not None:
            self._choose_effort(batch, computed)
        return computed.loss, computed.outputs

    def _averaged_step(self, batch: AnyBatch, loss: survey_lib.FrozenLoss) -> tuple[tf.Tensor, Any]:
        """Takes a step along an average of gradients; returns loss and outputs."""
        space = batch.space
        computed, updated = averaged_step.run(
            loss._replace(whole=batch.whole()),
            batch.whole,
            self._averages,
            keras.ops.convert_to_tensor(self.learning_rate, space.dtype),
            self._arguments.values["max_step_norm"],
            self._last_step.dimension,
        )
        step_program.carry_out(updated, computed.updates, computed.result.finite)
        self._move(space, computed)
        return computed.loss, computed.outputs

    def _frozen(self, batch: AnyBatch, jit_of_model: bool | str) -> survey_lib.FrozenLoss:
        """Returns the loss of a batch as this step evaluates it, once it is known how."""
        survey = survey_lib.survey(
            batch, self.hvp_mode, self.jit_compile, jit_of_model, eager=tf.executing_eagerly()
        )
        if batch.obstacle is None:
            batch.obstacle = survey.traced.rows_meet
        # Before it is known whether it will be needed: the kind of step depends on it.
        rows = self._arguments.curvature_rows(divisible=batch.obstacle is None)
        if rows == "auto" and survey.traced.cut:
            batch.try_part()
        decided = self._decisions
        if not decided.said:
            self._arguments.decide(survey.traced, divisible=batch.obstacle is None)
        self._refuse_too_large(batch.space)
        survey = survey.from_when_it_pays(self._arguments.products(batch.space.size))
        decided.first_compiled_step = survey.first_compiled_step
        if not decided.said:
            decided.said = decisions.lines(
                self._arguments, batch.obstacle, batch.space.size, survey.traced
            )
            decisions.say(self.name, decided.said)
        seed = self._dropout_seed.of_step(batch.example.seed_generators, self._iterations.value)
        if seed is not None:
            batch.reseed(seed)
        # Steps that were not finite have left the statistics as they were.
        failed = tf.cast(self._failures.value[0], self._iterations.dtype)
        batch.follow(self._iterations.value - failed)
        self._compile_parts(batch, survey)
        whole = batch.whole()
        curvature: objective_lib.Summed = whole
        divisible = batch.obstacle is None
        rows = self._arguments.curvature_rows(divisible)
        if isinstance(rows, int):
            curvature = batch.spaced(rows)
        elif rows is not None:
            ladder = self._arguments.ladder(batch.space.size)
            curvature = batch.spread(ladder.effort(self._effort.value).share)
        part = batch.part if self._arguments.parts_may_be_sampled(divisible) else None
        return survey_lib.FrozenLoss(whole, curvature, part, survey, self._iterations.value)

    def _compile_parts(self, batch: AnyBatch, survey: survey_lib.Survey) -> None:
        """Has XLA compile what each replica evaluates of the losses that a batch gives from now on.

        On one device whole functions of a loss are compiled: see `survey.FrozenLoss.compiled`.
        """
        if isinstance(batch, replica_batch.ReplicaBatch):
            batch.compile_parts(survey.jit_compile, survey.early(self._iterations.value))

    def _refuse_too_large(self, space: parameter_space.ParameterSpace) -> None:
        numbers = 0
        if self._arguments.may_be_preconditioned:
            numbers = preconditioner_state.held_numbers(space.variables)
        if self._arguments.may_average:
            numbers += averages_lib.held_numbers(space.variables)
        self._arguments.refuse_too_large(space, numbers)

    def _read(
        self, space: parameter_space.ParameterSpace, factors: preconditioner_state.Factors | None
    ) -> step_program.StepState:
        """Reads the state from which a step starts."""
        previous = preconditioner = effort = None
        if self._arguments.values["use_previous_step"]:
            previous = self._previous_step.read(space)
        if factors is not None:
            preconditioner = self._factors.shifted(factors, previous, in_place=space.in_place)
            ladder = self._arguments.ladder(space.size)
            effort = ladder.effort(self._effort.value)
        return step_program.StepState(
            previous_step=previous,
            preconditioner=preconditioner,
            damping=tf.convert_to_tensor(self._damping_state),
            learning_rate=keras.ops.convert_to_tensor(self.learning_rate, space.dtype),
            seed=tf.stack([self.seed, tf.cast(self._iterations.value, tf.int32)]),
            effort=effort,
        )

    def _keep(
        self,
        space: parameter_space.ParameterSpace,
        computed: step_program.Computed,
        factors: preconditioner_state.Factors | None,
    ) -> None:
        """Moves the parameters and keeps the state from which the next step starts."""
        result = computed.result
        self._damping_state.assign(result.next_damping)
        if factors is not None:
            self._factors.keep(factors, result)
        if self._arguments.values["use_previous_step"]:
            self._previous_step.keep(space, result.step, result.accepted)
        self._move(space, computed)

    def _move(self, space: parameter_space.ParameterSpace, computed: step_program.Computed) -> None:
        """Moves the parameters, counts failures and keeps the figures."""
        result = computed.result
        steps = space.unflatten(result.step)
        self._rejected_steps.assign_add(tf.cast(~result.accepted, self._rejected_steps.dtype))
        self._failures.assign(failures.count(self._failures.value, result, computed.loss))
        self.add_steps(steps, space.variables, result.accepted)
        self._last_step.write(computed.figures)

    def _choose_effort(self, batch: Any, computed: step_program.Computed) -> None:
        """Decides what the next step spends."""
        overhead = _OVERHEAD / tf.maximum(batch.arithmetic(), 1.0)
        state = self._arguments.ladder(batch.space.size).following(
            self._effort.value, computed.loss, computed.result.loss, overhead
        )
        self._effort.assign(state)

    def finalize_variable_values(self, var_list: Sequence[keras.Variable]) -> None:
        """Leaves the parameters where training ends; `fit` calls it after the last epoch.

        After steps of averaged gradients that is the mean of the last points, where it has the
        lower loss. With `use_ema` it is Keras's own average.

        Args:
            var_list: What is trained.
        """
        super().finalize_variable_values(var_list)
        if self.built and not self.use_ema and self._last_step.was_averaged():
            self._averages.end(parameter_space.ParameterSpace(var_list))


def _refuse_float16(variables: Sequence[keras.Variable]) -> None:
    for variable in variables:
        if variable.value.dtype == tf.float16:
            raise ValueError(
                "`keras_sfn` optimizers train no float16 variables: gradients and curvatures leave "
                f"its range, and a loss scale would scale steps. Received: `{variable.path}` of "
                "dtype float16. Use the policy `mixed_bfloat16`, `bfloat16` or `float32`."
            )
