"""Blocks of rows behave like the matrix that they make up."""

import numpy as np
import pytest
import tensorflow as tf

from keras_sfn.krylov import row_blocks

# Less than a block, whole blocks, one row more, and more rows than the fewest a block times the
# most blocks.
ROWS = [1, 3, 8, 9, 120]
SIZE = 130


def filled(rows, count, dtype="float64"):
    """Blocks with `count` orthonormal rows, then zero ones, and the same as a matrix."""
    normal = np.random.default_rng(0).normal(size=(SIZE, rows))
    matrix = np.linalg.qr(normal)[0].T.astype(dtype)
    matrix[count:] = 0
    blocks = row_blocks.zeros(rows, SIZE, tf.as_dtype(dtype))
    for index in range(count):
        blocks = row_blocks.set_row(blocks, tf.constant(index), tf.constant(matrix[index]))
    return blocks, matrix


@pytest.mark.parametrize("rows", ROWS)
def test_rows_are_where_they_were_set(rows):
    blocks, matrix = filled(rows, rows - 1)
    np.testing.assert_array_equal(tf.concat(blocks, axis=0), matrix)
    assert len(blocks) <= 12


@pytest.mark.parametrize("rows", ROWS)
def test_products(rows):
    blocks, matrix = filled(rows, rows)
    rng = np.random.default_rng(1)
    vector, coefficients = rng.normal(size=SIZE), rng.normal(size=rows)
    projected = row_blocks.project(blocks, tf.constant(vector))
    np.testing.assert_allclose(projected, matrix @ vector, atol=1e-12)
    combined = row_blocks.combine(blocks, tf.constant(coefficients))
    np.testing.assert_allclose(combined, matrix.T @ coefficients, atol=1e-12)


@pytest.mark.parametrize("jit", [False, True])
@pytest.mark.parametrize(("rows", "count"), [(1, 1), (9, 3), (9, 9), (120, 57)])
def test_removes_the_filled_rows(rows, count, jit):
    blocks, matrix = filled(rows, count)
    vector = np.random.default_rng(1).normal(size=SIZE)
    remove = tf.function(row_blocks.remove, jit_compile=jit)
    wanted = row_blocks.with_any(blocks, tf.range(rows) < count)
    found, left = remove(blocks, tf.constant(vector), wanted)
    np.testing.assert_allclose(found, matrix @ vector, atol=1e-12)
    np.testing.assert_allclose(left, vector - matrix.T @ (matrix @ vector), atol=1e-12)


def test_blocks_that_are_not_wanted_stay():
    blocks, matrix = filled(9, 9)
    vector = matrix[8] + matrix[0]
    # Row 8 is alone in its block.
    found, left = row_blocks.remove(blocks, tf.constant(vector), tf.constant([True, True, False]))
    np.testing.assert_allclose(left, matrix[8], atol=1e-12)
    np.testing.assert_allclose(found, [1] + [0] * 8, atol=1e-12)


def test_blocks_and_their_rows():
    blocks = row_blocks.zeros(9, 2, tf.float32)
    wanted = row_blocks.with_any(blocks, tf.range(9) == 5)
    assert wanted.numpy().tolist() == [False, True, False]
    assert row_blocks.rows_of(blocks, wanted).numpy().tolist() == [False] * 4 + [True] * 4 + [False]


def test_xla_makes_no_copy_of_a_block_inside_the_loop():
    size, rows = 1009, 24

    def fill(start):
        def body(index, row, blocks):
            blocks = row_blocks.set_row(blocks, index, row)
            wanted = row_blocks.with_any(blocks, tf.range(rows) <= index)
            found, left = row_blocks.remove(blocks, tf.roll(row, 1, 0), wanted)
            return index + 1, left / tf.norm(left) + found[0], blocks

        first = (tf.constant(0), start, row_blocks.zeros(rows, size, tf.float32))
        return tf.while_loop(lambda index, *_: index < rows, body, first)[2]

    compiled = tf.function(fill, jit_compile=True, autograph=False)
    program = compiled.experimental_get_compiler_ir(tf.ones(size))(stage="optimized_hlo")
    # What copies there are initialise the loop: one a block at most.
    copies = [
        line for line in program.splitlines() if f"f32[4,{size}]" in line and " copy(" in line
    ]
    assert len(copies) <= rows // 4
    assert "dynamic-update-slice" in program
