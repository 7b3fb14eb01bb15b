import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_sfn.objective import parameter_space


def make_space(dtype="float32"):
    first = keras.Variable(np.arange(6).reshape(2, 3), dtype=dtype)
    second = keras.Variable(7.0, dtype=dtype)
    return parameter_space.ParameterSpace([first, second])


def test_coordinates_run_over_variables_in_c_order():
    space = make_space()
    np.testing.assert_array_equal(space.flatten(space.values()), [0, 1, 2, 3, 4, 5, 7])
    assert space.size == 7


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
def test_unflatten_inverts_flatten(dtype):
    space = make_space(dtype)
    parts = space.unflatten(space.flatten(space.values()))
    for part, variable in zip(parts, space.variables, strict=True):
        assert part.dtype == dtype
        np.testing.assert_array_equal(tf.cast(part, "float32"), tf.cast(variable.value, "float32"))


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
def test_displaced_rounds_the_sum_to_the_storage_dtype(dtype):
    space = make_space(dtype)
    displacement = tf.constant(np.linspace(0, 1e-3, 7), space.dtype)
    found = space.displaced(space.values(), displacement)
    expected = space.unflatten(space.flatten(space.values()) + displacement)
    for part, sum_ in zip(found, expected, strict=True):
        assert part.dtype == dtype
        np.testing.assert_array_equal(tf.cast(part, "float64"), tf.cast(sum_, "float64"))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("jit", [False, True])
def test_a_vector_written_in_place_is_the_joined_one(dtype, jit):
    space = make_space(dtype)
    joined = space.flatten(space.values())
    space.in_place = True
    written = tf.function(lambda: space.flatten(space.values()), jit_compile=jit)()
    assert written.dtype == joined.dtype
    np.testing.assert_array_equal(written, joined)


def test_tensors_of_a_point_can_be_watched_in_an_inner_graph():
    space = make_space()

    @tf.function
    def gradient(values):
        def body(index, _):
            with tf.GradientTape() as tape:
                here = space.tensors(values)
                tape.watch(here)
                square = tf.reduce_sum(here[0] ** 2) + here[1]
            return index + 1, space.flatten(tape.gradient(square, here))

        return tf.while_loop(lambda index, _: index < 1, body, (0, tf.zeros(7)))[1]

    np.testing.assert_array_equal(gradient(space.values()), [0, 2, 4, 6, 8, 10, 1])


@pytest.mark.parametrize(
    ("dtypes", "expected"),
    [
        (["float32"], "float32"),
        (["bfloat16"], "float32"),
        (["float16", "float32"], "float32"),
        (["float32", "float64"], "float64"),
    ],
)
def test_vector_has_the_widest_dtype_and_at_least_float32(dtypes, expected):
    space = parameter_space.ParameterSpace([keras.Variable([1.0], dtype=d) for d in dtypes])
    assert space.dtype == expected
    assert space.flatten(space.values()).dtype == expected


def test_sparse_gradients_become_dense():
    space = parameter_space.ParameterSpace([keras.Variable(np.zeros((3, 2)))])
    slices = tf.IndexedSlices(tf.ones((2, 2)), tf.constant([2, 2]), tf.constant([3, 2]))
    np.testing.assert_array_equal(space.flatten([slices]), [0, 0, 0, 0, 2, 2])


def test_no_variables_is_an_error():
    with pytest.raises(ValueError, match="at least one trainable variable"):
        parameter_space.ParameterSpace([])


def test_variables_of_tensorflow_are_refused():
    with pytest.raises(TypeError, match=r"keras\.Variable") as raised:
        parameter_space.ParameterSpace([tf.Variable(tf.zeros(100_000))])
    # The remedy comes within sight.
    assert len(str(raised.value)) < 300


@pytest.mark.parametrize("dtype", ["int32", "complex64"])
def test_integer_and_complex_variables_are_refused(dtype):
    variable = keras.Variable(1, dtype=dtype, trainable=False, name="counter")
    with pytest.raises(TypeError, match=f"counter.*{dtype}.*trainable=False"):
        parameter_space.ParameterSpace([variable])
