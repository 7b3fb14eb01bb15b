"""The precision of a floating dtype."""

from __future__ import annotations

import numpy as np
import tensorflow as tf


def epsilon(dtype: tf.DType | str) -> float:
    """Returns the distance from 1 to the next larger number of a dtype."""
    return float(np.finfo(tf.as_dtype(dtype).as_numpy_dtype).eps)
