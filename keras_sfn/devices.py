"""Which way a step runs on the machine at hand: XLA or not, one replica or several."""

from __future__ import annotations

import tensorflow as tf

from keras_sfn import graphs

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


def jit_compile(option: bool | str, ops: frozenset[str], can_compile: bool = True) -> bool:
    """Resolves the `jit_compile` argument for a loss made of `ops`.

    `"auto"` is XLA on a GPU, and on a CPU wherever the loss has none of the ops that XLA is slow
    at there. It depends on nothing that varies between runs, so that a resumed run compiles the
    same way.

    Args:
        option: True, False or `"auto"`.
        ops: Types of the ops in the loss.
        can_compile: False where a layer of the model says it cannot be compiled.
    """
    if option != "auto":
        return bool(option)
    if not can_compile:
        return False
    if tf.config.list_logical_devices("GPU"):
        return True
    return not ops & _SLOW_ON_CPU


def refuse_replicas() -> None:
    """Raises under a `tf.distribute` strategy with more than one replica.

    Raises:
        NotImplementedError: The Hessian of the global batch is not summed over replicas yet.
    """
    replicas = tf.distribute.get_strategy().num_replicas_in_sync
    if replicas > 1:
        raise NotImplementedError(
            "`keras_sfn` optimizers train on one replica. Received a `tf.distribute` strategy with "
            f"{replicas} replicas. Build and compile the model outside `strategy.scope()`."
        )
