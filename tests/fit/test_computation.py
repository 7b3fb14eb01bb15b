import tensorflow as tf

from keras_sfn.fit import computation


def batch(*shapes, dtype="float32"):
    return computation.Batch(tuple(tf.TensorSpec(shape, dtype) for shape in shapes))


def test_a_step_fits_batches_whose_sizes_it_leaves_open():
    assert batch((16, 3)).fits(batch((16, 3)))
    assert batch((None, 3)).fits(batch((16, 3)))
    assert not batch((16, 3)).fits(batch((None, 3)))
    assert not batch((16, 3)).fits(batch((16, 4)))
    assert not batch((16, 3)).fits(batch((16, 3), (16,)))
    assert not batch((16, 3)).fits(batch((16, 3), dtype="float64"))


def test_batches_are_widened_to_what_both_are():
    def shapes(widened):
        return [tuple(spec.shape) for spec in widened.specs]

    assert shapes(batch((16, 3), (16,)).widened(batch((8, 3), (8,)))) == [(None, 3), (None,)]
    assert shapes(batch((16, 3)).widened(batch((16, 3)))) == [(16, 3)]
    # What has nothing in common stays as it is.
    assert shapes(batch((16, 3)).widened(batch((16,)))) == [(16, 3)]
    assert shapes(batch((16, 3)).widened(batch((8, 3), (8,)))) == [(16, 3)]


def test_what_is_missing_is_none_and_takes_no_tensor():
    data = tf.TensorSpec((16, 3)), tf.OptionalSpec(None)
    found = computation.Batch(data)
    assert [tuple(spec.shape) for spec in found.specs] == [(16, 3)]
    assert found.packed(["tensor"]) == ("tensor", None)
