"""Which way a step runs on the machine at hand: XLA or not, one replica or several."""

from __future__ import annotations

import tensorflow as tf

from keras_sfn import graphs

# On CPUs XLA's own convolutions and loops are many times slower than TensorFlow's kernels, while it
# gains by fusing everything else. Measured on two cores, one step of each, XLA against graph: dense
# autoencoders 0.8 and 0.96, attention 0.86, a small classifier 0.5; convolutional nets 18 to 22,
# LSTM 31.
_SLOW_ON_CPU = graphs.CONVOLUTIONS | graphs.CONTROL_FLOW


def jit_compile(option: bool | str, ops: frozenset[str], can_compile: bool = True) -> bool:
    """Resolves the `jit_compile` argument for a loss made of `ops`.

    `"auto"` is XLA on a GPU, and on a CPU wherever the loss has no convolution and no loop. It
    depends on nothing that varies between runs, so that a resumed run compiles the same way.

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
