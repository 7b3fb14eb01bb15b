"""Hands an optimizer of this package the loss of the batch inside Keras's `fit`.

Keras's train step gives an optimizer gradients only. `install` puts a train step in front of
`keras.Model.train_step` that looks at the model's optimizer: one of ours gets the loss as a
function of the parameters, every other goes to Keras's own train step untouched. Subclasses that
call `super().train_step` come through here too. Those that call `optimizer.apply` themselves are
`own_train_step`'s.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import tensorflow as tf

from keras_sfn.backend import collectives
from keras_sfn.fit import agreement, compiling, own_train_step, passes, shared_steps, tapes
from keras_sfn.objective import batches, model_loss, parameter_space, replica_batch
from keras_sfn.objective import objective as objective_lib
from keras_sfn.objective import rows as rows_lib
from keras_sfn.optimizers import failures, newton_optimizer

_MARK = "_keras_sfn_original"

# Reductions of a loss that are no means over rows.
_NO_MEANS = ("sum", "mean_with_sample_weight")


def install() -> None:
    """Wraps `train_step` and `make_train_function` of `keras.Model`, once a process."""
    if not hasattr(keras.Model.train_step, _MARK):
        _wrap_train_step()
        _wrap_make_train_function()
        passes.install()
        tapes.install()


def _wrap_train_step() -> None:
    original = keras.Model.train_step

    @functools.wraps(original)
    def train_step(self: keras.Model, data: Any) -> dict[str, Any]:
        if _uses_ours(self.optimizer):
            return _train_step(self, data)
        return original(self, data)

    setattr(train_step, _MARK, original)
    keras.Model.train_step = train_step


def _wrap_make_train_function() -> None:
    original = keras.Model.make_train_function

    @functools.wraps(original)
    def make_train_function(self: keras.Model, force: bool = False) -> Any:
        own = own_train_step.of(self)
        optimizers = _optimizers(self, everywhere=own is not None)
        if not optimizers:
            return original(self, force)
        _refuse_float16(self)
        count = _batches_an_epoch(self)
        # All are told.
        changed = [optimizer.expect_batches(count) for optimizer in optimizers]
        force = force or any(changed)
        replacement = own and own_train_step.trained(self, own, _jit_compile)
        with _step_alone_compiled(self), own_train_step.in_place(self, replacement):
            original(self, force)
        if not hasattr(self.train_function, _MARK):
            steps = shared_steps.TrainFunction(self, self.train_function)
            self.train_function = _watch(steps, self, optimizers, replacement)
        return self.train_function

    keras.Model.make_train_function = make_train_function


@contextlib.contextmanager
def _step_alone_compiled(model: keras.Model) -> Iterator[None]:
    """Keeps Keras from handing a whole train step to XLA, as it does by itself on a GPU.

    A step compiles itself. What stands around it is little, but for the eigenvectors of a renewed
    preconditioner or of the whole Hessian: with 1,000 rows XLA's solver takes 400 ms on an H100
    where the library that TensorFlow calls takes 12.
    """
    asked = model.jit_compile
    model.jit_compile = False
    try:
        yield
    finally:
        model.jit_compile = asked


def _optimizers(model: keras.Model, *, everywhere: bool) -> list[newton_optimizer.NewtonOptimizer]:
    """Returns the optimizers of this package that a model trains with.

    Args:
        model: The model.
        everywhere: Whether other attributes than `optimizer` are looked at.
    """
    held = [model.optimizer]
    if everywhere:
        for value in vars(model).values():
            held.extend(value.values() if isinstance(value, dict) else [])
            held.extend(value if isinstance(value, (list, tuple)) else [value])
    return list({id(one): one for one in held if _uses_ours(one)}.values())


def _watch(
    train_function: Callable[[Any], Any],
    model: keras.Model,
    optimizers: Sequence[newton_optimizer.NewtonOptimizer],
    own: Callable[[Any], Any] | None,
) -> Callable[[Any], Any]:
    """Builds what is not built yet, and looks at the optimizers' failures after each call.

    A call may be of several steps. Both outside the traced function: one that creates variables is
    traced a second time, and a graph cannot warn.
    """
    compiles = compiling.Watch(optimizers)
    compared: list[bool] = []

    def watched(iterator: Any) -> Any:
        if own is None and not compared:
            agreement.require(model, iterator)
            compared.append(True)
        if own is None and not model.optimizer.built:
            iterator = _build(model, iterator)
        with (
            failures.watched(),
            own_train_step.in_place(model, own),
            compiles.call(model.steps_per_execution),
        ):
            logs = train_function(iterator)
        for optimizer in optimizers:
            optimizer.raise_if_failing()
        if any(optimizer.changes_kind() for optimizer in optimizers):
            model.make_train_function(force=True)
        return logs

    setattr(watched, _MARK, train_function)
    return watched


def _batches_an_epoch(model: keras.Model) -> int | None:
    """Returns how many batches an epoch of the running `fit` has; None where that is not known."""
    # What Keras tells all callbacks, its own `History` among them.
    params = getattr(getattr(model, "history", None), "params", None) or {}
    return params.get("steps")


def _build(model: keras.Model, iterator: Any) -> Any:
    """Builds model, loss, metrics and optimizer for the batches of an iterator, and returns it."""
    if isinstance(iterator, tf.data.Iterator):
        batch = iterator.element_spec
    else:
        first = next(iterator)
        iterator = itertools.chain([first], iterator)
        batch = keras.tree.map_structure(
            lambda part: None if part is None else tf.type_spec_from_value(part), first
        )
    # Keras wraps what may be missing, and takes the wrapper off before the step.
    batch = keras.tree.map_structure(
        lambda spec: None if isinstance(spec, tf.OptionalSpec) else spec, batch
    )
    rows_lib.refuse_unknown_shapes(batch)
    model._symbolic_build(data_batch=batch)
    return iterator


def _uses_ours(optimizer: Any) -> bool:
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer) and isinstance(
        optimizer.inner_optimizer, newton_optimizer.NewtonOptimizer
    ):
        raise ValueError(
            "`keras_sfn` optimizers cannot be wrapped in a `LossScaleOptimizer`: it would scale "
            f"steps instead of gradients. Received: {optimizer.inner_optimizer.name} in "
            "a LossScaleOptimizer, as `compile` does under the dtype policy mixed_float16. Use "
            "the policy `mixed_bfloat16` or `float32`."
        )
    return isinstance(optimizer, newton_optimizer.NewtonOptimizer)


def _train_step(model: keras.Model, data: Any) -> dict[str, Any]:
    batch = keras.utils.unpack_x_y_sample_weight(data)
    # Keras's own train step creates missing weights in its forward pass. Ours runs that pass in a
    # stateless scope, where none can be created. Does nothing where all is built, as it is unless
    # the model has a train step of its own.
    model._symbolic_build(data_batch=batch)
    rows_lib.refuse_unknown_shapes(batch)
    rows = rows_lib.count(batch[0])
    step = functools.partial(_step, model, rows_lib.obstacle(batch))
    alone = collectives.alone()
    value, y_pred = step(batch, rows) if alone else collectives.once(step, batch, rows)
    # Private, as in Keras's own train step: a model may hide it from `metrics`, or keep another
    # metric of the same name there.
    model._loss_tracker.update_state(value, sample_weight=rows)
    x, y, sample_weight = batch
    return model.compute_metrics(x, y, y_pred, sample_weight=sample_weight)


def _step(model: keras.Model, obstacle: str | None, data: Any, rows: Any) -> tuple[tf.Tensor, Any]:
    """Takes the step of a batch: once for all replicas, whose data and rows these are then."""
    for option in ("curvature_batch_size", "micro_batch_size"):
        if getattr(model.optimizer, option) not in (None, "auto"):
            _refuse_sums(model, option)

    def loss_of(part: Any) -> objective_lib.LossFunction:
        return model_loss.batch_loss(model, *part)

    space = parameter_space.ParameterSpace(model.trainable_variables)
    if _sums(model):
        obstacle = "a loss is no mean over rows"
    batch: batches.Batch | replica_batch.ReplicaBatch
    if collectives.alone():
        size = model.optimizer.micro_batch_size
        batch = batches.Batch(data, loss_of, space, obstacle=obstacle, slice_rows=size)
    else:
        batch = replica_batch.ReplicaBatch(
            data,
            loss_of,
            space,
            replica_batch.count_rows(rows),
            obstacle=obstacle,
            slice_rows=_slice_rows(model),
            is_sum=_is_sum(model),
            synchronized=_synchronizes(model),
        )
    return model.optimizer.step(batch, _jit_compile(model))


def _jit_compile(model: keras.Model) -> bool | str:
    """Returns what the optimizer's "auto" is for a model: True where `compile` was given that."""
    if not all(layer.supports_jit for layer in model._flatten_layers()):
        return False
    return model.jit_compile or "auto"


def _refuse_float16(model: keras.Model) -> None:
    """Raises where a layer computes in float16, also where `compile` has not seen it."""
    for layer in model._flatten_layers():
        if layer.compute_dtype == "float16":
            raise ValueError(
                "`keras_sfn` optimizers train no layers that compute in float16: gradients and "
                "curvatures leave its range, and a loss scale would scale steps. Received: "
                f"`{layer.name}` with the policy {layer.dtype_policy.name}. Use the policy "
                "`mixed_bfloat16` or `float32`."
            )


def _slice_rows(model: keras.Model) -> int | None:
    """Returns the rows of a replica's slices: `micro_batch_size` counts those of all replicas."""
    size = model.optimizer.micro_batch_size
    if size is None:
        return None
    if _synchronizes(model):
        raise NotImplementedError(
            "`micro_batch_size` cannot be used with layers that sum over the replicas by "
            "themselves, since these may have different numbers of slices. Received: "
            f"micro_batch_size={size} and a layer with synchronized=True. Use "
            "micro_batch_size=None, or synchronized=False."
        )
    return max(size // collectives.number(), 1)


def _synchronizes(model: keras.Model) -> bool:
    return any(getattr(layer, "synchronized", False) for layer in model._flatten_layers())


def _is_sum(model: keras.Model) -> bool:
    """Whether the losses are sums over rows, which replicas weigh otherwise than means."""
    reductions = {_reduction(loss) for loss in keras.tree.flatten(model.loss)}
    if "mean_with_sample_weight" in reductions or (len(reductions) > 1 and "sum" in reductions):
        raise NotImplementedError(
            "Under a `tf.distribute` strategy losses must be all means over rows or all sums. "
            f"Received losses with the reductions {sorted(reductions)}. Use the default "
            "reduction 'sum_over_batch_size', and `loss_weights` for their weights."
        )
    return reductions == {"sum"}


def _reduction(loss: Any) -> str:
    reduction = getattr(loss, "reduction", None)
    return reduction if reduction in _NO_MEANS else "mean"


def _sums(model: keras.Model) -> list[keras.losses.Loss]:
    """Returns the losses that are no means over rows, of which no part may be taken for all."""
    return [loss for loss in keras.tree.flatten(model.loss) if _reduction(loss) in _NO_MEANS]


def _refuse_sums(model: keras.Model, option: str) -> None:
    for loss in _sums(model):
        raise ValueError(
            f"`{option}` needs losses that are means over the rows of a batch, so that a part "
            f"of the rows stands for all. Received a loss with reduction={loss.reduction!r}: "
            f"{loss.name}. Use the default reduction 'sum_over_batch_size', or {option}=None."
        )
