import numpy as np
import pytest
import tensorflow as tf

from keras_sfn.objective import rows

DATA = ({"a": tf.reshape(tf.range(12), (6, 2)), "none": None}, tf.range(6))


@pytest.mark.parametrize(
    ("wanted", "known", "taken"),
    [(30, 100, 30), (300, 100, 100)],
)
def test_rows_of_the_curvature(wanted, known, taken):
    assert rows.of_curvature(wanted, known) == taken
    assert int(rows.of_curvature(wanted, tf.constant(known))) == taken


@pytest.mark.parametrize(
    ("known", "predictions", "parts"),
    [
        (8000, 1, 16),
        (1797, 1, 7),
        (600, 1, 2),
        (100, 1, 1),
        (1, 1, 1),
        # Sequences of 64 predictions: four of them have 256, but so few rows are no sample.
        (512, 64, 16),
        (64, 64, 4),
        (20, 64, 1),
    ],
)
def test_into_how_many_parts_a_batch_is_divided(known, predictions, parts):
    assert rows.number_of_parts(known, predictions) == parts
    assert int(rows.number_of_parts(tf.constant(known), predictions)) == parts


@pytest.mark.parametrize("jit", [False, True])
@pytest.mark.parametrize("shape", [(14, 2), (None, 2)])
def test_a_part_has_every_row_of_so_many(jit, shape):
    @tf.function(jit_compile=jit, autograph=False, input_signature=[tf.TensorSpec(shape)])
    def parts(x):
        known = rows.static_count((x,)) or rows.count((x,))
        taken = [rows.every((x, None), tf.constant(i), 4, known) for i in range(4)]
        return [first for first, nothing in taken if nothing is None]

    x = np.arange(28, dtype="float32").reshape(14, 2)
    for index, part in enumerate(parts(x)):
        np.testing.assert_array_equal(part, x[:12][index::4])


@pytest.mark.parametrize(
    ("known", "size"), [(1, 1), (255, 255), (256, 256), (257, 256), (1024, 256), (1027, 257)]
)
def test_parts_of_the_rows_are_together_all(known, size):
    seen = set()
    for index in range(4):
        start, length = rows.of_part(index, 4, known)
        assert int(length) == size
        assert 0 <= start <= known - size
        seen |= set(range(int(start), int(start) + size))
    assert seen == set(range(known))
    # Of sequences fewer rows are enough.
    assert rows.of_part(0, 4, 1024, predictions=64)[1] == 256
    assert rows.of_part(0, 4, 64, predictions=64) == (0, 16)


def test_rows_are_counted_and_taken_from_every_part():
    assert int(rows.count(DATA)) == rows.static_count(DATA) == 6
    assert rows.static_count((tf.constant(1.0), DATA)) == 6
    first, targets = rows.first(DATA, 2)
    np.testing.assert_array_equal(first["a"], [[0, 1], [2, 3]])
    assert first["none"] is None
    np.testing.assert_array_equal(targets, [0, 1])
    taken, targets = rows.take(DATA, 3, 2)
    np.testing.assert_array_equal(taken["a"], [[6, 7], [8, 9]])
    np.testing.assert_array_equal(targets, [3, 4])


@pytest.mark.parametrize("wanted", [1, 5, 8, 23])
@pytest.mark.parametrize("counts", [[23], [12, 11], [8, 8, 7, 0], [0, 23]])
def test_spaced_rows_of_all_parts_are_those_of_the_batch(wanted, counts):
    whole = rows.spaced(tf.range(23), wanted, 23).numpy()
    assert len(whole) == wanted == len(set(whole))
    assert np.ptp(np.diff([*whole, 23])) <= 1
    found, before = [], 0
    for own in counts:
        data = tf.range(before, before + own)
        found.append(rows.spaced_of_part(data, wanted, tf.constant(23), before, own).numpy())
        before += own
        assert sum(map(len, found)) == int(rows.spaced_before(before, wanted, tf.constant(23)))
    np.testing.assert_array_equal(np.concatenate(found), whole)


@pytest.mark.parametrize("count", [1, 3, 5])
@pytest.mark.parametrize("counts", [[23], [12, 11], [8, 8, 7, 0], [0, 23]])
def test_every_row_of_all_parts_is_of_the_batch(count, counts):
    for index in range(count):
        whole = rows.every(tf.range(23), tf.constant(index), count, 23).numpy()
        found, before = [], 0
        for own in counts:
            data = tf.range(before, before + own)
            found.append(rows.every_of_part(data, index, count, 23, before, own).numpy())
            before += own
            assert sum(map(len, found)) == int(rows.every_before(before, index, count, 23))
        np.testing.assert_array_equal(np.concatenate(found), whole)


def test_a_batch_of_unknown_length_is_padded_to_a_slice():
    assert rows.padded(DATA, 9) is DATA

    @tf.function(input_signature=[tf.TensorSpec((None, 2))])
    def padded(x):
        assert rows.static_count(x) is None
        return rows.padded((x, None), 4)[0]

    np.testing.assert_array_equal(padded(tf.ones((3, 2))), [[1, 1]] * 3 + [[0, 0]])
    np.testing.assert_array_equal(padded(tf.ones((5, 2))), np.ones((5, 2)))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (DATA, None),
        ((tf.ones((9, 2)), tf.ones((4, 2))), "have [4, 9] rows"),
        ((tf.ones((9, 2)), tf.constant(1.0)), "a scalar"),
        ((tf.ragged.constant([[1.0], [2.0, 3.0]]), None), "sparse or ragged"),
        ((tf.sparse.from_dense(tf.eye(3)), tf.ones((3, 1))), "sparse or ragged"),
    ],
)
def test_what_stands_in_the_way_of_parts(data, reason):
    found = rows.obstacle(data)
    assert found is None if reason is None else reason in found


def test_rows_of_sparse_and_ragged_parts_are_counted():
    assert int(rows.count(tf.sparse.from_dense(tf.eye(3)))) == 3
    assert int(rows.count(tf.ragged.constant([[1.0], [2.0, 3.0]]))) == 2
