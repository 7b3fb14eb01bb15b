"""Which way a step runs on the machine at hand: XLA or not, under which strategies."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from keras_sfn.backend import graphs

_STRATEGIES = (
    tf.distribute.MirroredStrategy,
    tf.distribute.MultiWorkerMirroredStrategy,
    tf.distribute.OneDeviceStrategy,
)

# On CPUs XLA's convolutions, loops, scatters (the gradient of a gather) and max-pooling are slower
# than TensorFlow's kernels, some by far, while it gains by fusing everything else. One step,
# seconds with XLA over seconds without, two cores, TensorFlow 2.21: dense classifier 0.5,
# autoencoders of 0.1 and 2.8 million weights 0.8 and 0.96, physics-informed net in float64 0.26,
# normalisation and dropout 0.21, attention 0.86, average pooling 0.63; max-pooling 1.4,
# convolutional nets 18 and 22, LSTM 31, embedding 33.
_SLOW_ON_CPU = (
    graphs.CONVOLUTIONS
    | graphs.CONTROL_FLOW
    | {"GatherV2", "MaxPool", "MaxPool3D", "ResourceGather"}
)


def jit_compile(option: bool | str, ops: frozenset[str], of_model: bool | str = "auto") -> bool:
    """Resolves the `jit_compile` argument for a loss made of `ops`.

    `"auto"` is XLA on a GPU, and on a CPU wherever the loss has none of the ops that XLA is slow
    at there. It depends on nothing that varies between runs, so that a resumed run compiles the
    same way.

    Args:
        option: True, False or `"auto"`.
        ops: Types of the ops in the loss.
        of_model: What takes the place of `"auto"`: True where `compile` was asked for it, False
            where a layer says that it cannot be compiled.
    """
    if option == "auto":
        option = of_model
    if option != "auto":
        return bool(option)
    if tf.config.list_logical_devices("GPU"):
        return True
    return not ops & _SLOW_ON_CPU


def jit_waits(option: bool | str, of_model: bool | str = "auto") -> bool:
    """Returns whether XLA may compile later than in the first step: on a CPU, if not asked for.

    Args:
        option: As of `jit_compile`.
        of_model: As of `jit_compile`.
    """
    asked = option is True or (option == "auto" and of_model is True)
    return not asked and not tf.config.list_logical_devices("GPU")


def compiled(
    function: Callable[..., Any], jit: bool, early: tf.Tensor | None = None
) -> Callable[..., Any]:
    """Returns a function as a graph of its own.

    Args:
        function: Of tensors, or of none.
        jit: Whether XLA compiles it.
        early: Scalar boolean, whether it is too early for XLA; None for never. The function is
            traced once for both, and XLA compiles it when it is first needed.
    """
    if not jit or early is None:
        return tf.function(function, autograph=False, jit_compile=jit)
    plain = tf.function(function, autograph=False)
    by_xla = tf.function(plain, autograph=False, jit_compile=True)

    def chosen(*arguments: Any) -> Any:
        return tf.cond(early, lambda: plain(*arguments), lambda: by_xla(*arguments))

    return chosen


def refuse_strategy() -> None:
    """Raises under a strategy or distribution that the optimizers cannot train with.

    Raises:
        NotImplementedError: It is none of those whose replicas hold all variables and step together
            in plain TensorFlow.
    """
    if keras.distribution.distribution() is not None:
        raise NotImplementedError(
            "`keras_sfn` optimizers know nothing of `keras.distribution`, which Keras does not "
            "implement for TensorFlow. Received: "
            f"{type(keras.distribution.distribution()).__name__}. Call "
            "`keras.distribution.set_distribution(None)`, and build and compile under the scope of "
            "a `tf.distribute.MirroredStrategy` instead."
        )
    strategy = tf.distribute.get_strategy()
    if tf.distribute.has_strategy() and not isinstance(strategy, _STRATEGIES):
        raise NotImplementedError(
            "`keras_sfn` optimizers train under `MirroredStrategy`, `MultiWorkerMirroredStrategy` "
            f"and `OneDeviceStrategy`. Received: {type(strategy).__name__}, whose replicas "
            f"{_reason(strategy)}. Build and compile the model under the scope of one of the "
            "former, or outside any `strategy.scope()`."
        )


def _reason(strategy: tf.distribute.Strategy) -> str:
    if isinstance(strategy, tf.distribute.TPUStrategy):
        return "cannot leave their compiled program for the sums of a step"
    return "do not all hold the variables and step together"


def refuse_replicas(name: str) -> None:
    """Raises under a strategy with several replicas, for what is computed on one device.

    Args:
        name: What is called, for the message.

    Raises:
        RuntimeError: There are several.
    """
    replicas = tf.distribute.get_strategy().num_replicas_in_sync
    if replicas > 1:
        raise RuntimeError(
            f"`{name}` evaluates one batch on one device, and under a strategy Keras's losses are "
            f"divided by the number of replicas. Received: a call under {replicas} replicas. Call "
            "it outside `strategy.scope()`; a model that was built there will do."
        )
