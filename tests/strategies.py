"""Strategies of `tf.distribute` for tests."""

import tensorflow as tf


def mirrored(count: int) -> tf.distribute.MirroredStrategy:
    """Returns a strategy of so many replicas on this machine's processor.

    TensorFlow numbers the messages of each strategy from the same start, and keeps their types. So
    a second strategy with another precision fails ("expected type 0 and data_type 2 but got type 0
    and data_type 1"), unless it has numbers of its own. TensorFlow's tests set them here too.
    """
    tf.distribute.MirroredStrategy._collective_key_base += 1000
    return tf.distribute.MirroredStrategy([f"CPU:{i}" for i in range(count)])
