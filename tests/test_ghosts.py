"""The process behind T against NumPy's, with and without ghosts."""

import numpy as np
import pytest
import tensorflow as tf

from keras_sfn import ghosts

SINGLE = float(np.finfo("float32").eps)


def compiled(function, jit):
    return tf.function(function, jit_compile=jit, autograph=False)


def tridiagonal(diagonal, links):
    return np.diag(diagonal) + np.diag(links, 1) + np.diag(links, -1)


def of_measure(nodes, weights, rows):
    """Returns T and the basis, shape (rows, nodes), of a measure, orthogonalised in full."""
    basis, row = [], np.sqrt(weights / np.sum(weights))
    for _ in range(rows):
        basis.append(row)
        product = nodes * row
        for _ in range(2):
            product = product - np.transpose(basis) @ (basis @ product)
        row = product / np.linalg.norm(product)
    basis = np.array(basis)
    return basis @ np.diag(nodes) @ basis.T, basis


def plain_recurrence(matrix, start, rows):
    """Returns T, float64, and the rows of a Lanczos recurrence in single precision."""
    matrix, row = matrix.astype("float32"), (start / np.linalg.norm(start)).astype("float32")
    made, before, link, diagonal, links = [], np.zeros_like(row), np.float32(0), [], []
    for _ in range(rows):
        made.append(row)
        product = matrix @ row - link * before
        diagonal.append(row @ product)
        product -= diagonal[-1] * row
        link = np.linalg.norm(product)
        links.append(link)
        before, row = row, product / link
    return tridiagonal(np.float64(diagonal), np.float64(links[:-1])), np.array(made)


MATRICES = {
    "one": np.array([[3.0]]),
    "zero": np.zeros((3, 3)),
    "even": np.cov(np.random.default_rng(0).normal(size=(8, 20))),
    "odd": np.cov(np.random.default_rng(1).normal(size=(7, 20))),
    "twice the same": np.kron(np.eye(2), [[2.0, 1.0], [1.0, -1.0]]),
    "nearly the same": np.diag([1.0, 1 + 1e-9, 1 + 2e-9, -5.0]) + 1e-10,
}


@pytest.mark.parametrize("jit", [False, True])
@pytest.mark.parametrize("name", MATRICES)
def test_eigenpairs_are_right_to_double_precision(name, jit):
    matrix = MATRICES[name]
    values, rows = compiled(ghosts.eigenpairs, jit)(tf.constant(matrix))
    scale = np.linalg.norm(matrix)
    np.testing.assert_allclose(np.sort(values), np.linalg.eigvalsh(matrix), atol=1e-14 * scale)
    np.testing.assert_allclose(rows @ tf.transpose(rows), np.eye(len(matrix)), atol=1e-13)
    residual = rows.numpy() @ matrix - values.numpy()[:, None] * rows.numpy()
    np.testing.assert_allclose(residual, 0, atol=1e-14 * scale)


@pytest.mark.parametrize("jit", [False, True])
def test_nodes_that_rounding_cannot_tell_apart_are_one(jit):
    nodes, weights = np.array([1.0, 1 + 1e-9, 2.0]), np.array([0.3, 0.2, 0.5])
    matrix = tf.constant(of_measure(nodes, weights, 3)[0])

    def found(precision):
        result = compiled(lambda matrix: ghosts.measure(matrix, precision), jit)(matrix)
        kept = result.weights.numpy() > 0
        assert int(result.number()) == np.count_nonzero(kept)
        order = np.argsort(result.nodes.numpy()[kept])
        return result.nodes.numpy()[kept][order], result.weights.numpy()[kept][order]

    ours = found(1e-7)
    np.testing.assert_allclose(ours[0], [1 + 0.4e-9, 2], atol=1e-14)
    np.testing.assert_allclose(ours[1], [0.5, 0.5], atol=1e-9)
    ours = found(1e-11)
    np.testing.assert_allclose(ours[0], nodes, atol=1e-14)
    np.testing.assert_allclose(ours[1], weights, atol=1e-5)


def test_a_light_node_is_one_from_further_off():
    # The distance times the root of the weight counts: 1e-9 and 1e-4 of 2.
    for weight, expected in ((1e-16, 2), (1e-6, 3)):
        weights = np.array([0.5, weight, 0.5])
        matrix = of_measure(np.array([1.0, 1.2, 2.0]), weights, 3)[0]
        assert int(ghosts.measure(tf.constant(matrix), 1e-7).number()) == expected


def test_rows_and_columns_of_zero_have_no_weight(with_outliers):
    matrix, _ = plain_recurrence(*with_outliers, 12)
    small = ghosts.measure(tf.constant(matrix), SINGLE)
    padded = ghosts.measure(tf.constant(np.pad(matrix, (0, 5))), SINGLE)
    assert int(small.number()) == int(padded.number())
    ours, theirs = (ghosts.krylov(each, 6, tf.constant(6)) for each in (padded, small))
    np.testing.assert_allclose(ours.projected, theirs.projected, atol=1e-11)
    np.testing.assert_allclose(ours.rows[:, :12], theirs.rows, atol=1e-9)
    np.testing.assert_allclose(ours.rows[:, 12:], 0, atol=1e-12)


@pytest.mark.parametrize("jit", [False, True])
@pytest.mark.parametrize("rank", [10, 24])
def test_the_process_is_that_of_orthogonal_rows(with_outliers, rank, jit):
    matrix, start = with_outliers
    found, made = plain_recurrence(matrix, start, 4 * rank)
    measure = compiled(lambda found: ghosts.measure(found, SINGLE), jit)(tf.constant(found))
    # What was made is more than was found, and enough.
    assert rank + 3 < int(measure.number()) < 3 * rank
    process = ghosts.krylov(measure, rank, tf.constant(rank))
    values, rotation = np.linalg.eigh(matrix)
    coordinates = rotation.T @ start
    expected, basis = of_measure(values, coordinates**2, rank)
    np.testing.assert_allclose(process.projected, expected, atol=1e-4)
    rows = process.rows @ made
    np.testing.assert_allclose(rows, basis * np.sign(coordinates) @ rotation.T, atol=2e-3)
    # Without care for the ghosts T's corner is another.
    assert np.abs(found[:rank, :rank] - expected).max() > 0.1


def test_rows_that_are_not_wanted_are_zero(with_outliers):
    found, _ = plain_recurrence(*with_outliers, 20)
    measure = ghosts.measure(tf.constant(found), SINGLE)
    whole, part = (ghosts.krylov(measure, 8, tf.constant(number)) for number in (8, 5))
    np.testing.assert_allclose(part.projected[:5, :5], whole.projected[:5, :5], atol=1e-12)
    np.testing.assert_array_equal(part.rows[5:], 0)
    np.testing.assert_array_equal(part.projected[5:], 0)
    np.testing.assert_array_equal(part.projected[:, 5:], 0)


def test_the_process_ends_with_the_measure():
    matrix = of_measure(np.array([1.0, 2.0, 4.0]), np.ones(3), 3)[0]
    process = ghosts.krylov(ghosts.measure(tf.constant(matrix), SINGLE), 3, tf.constant(3))
    np.testing.assert_allclose(np.linalg.eigvalsh(process.projected), [1, 2, 4], atol=1e-13)
    padded = ghosts.measure(tf.constant(np.pad(matrix, (0, 2))), SINGLE)
    process = ghosts.krylov(padded, 5, tf.constant(5))
    np.testing.assert_allclose(process.projected[3:], 0, atol=1e-13)
    np.testing.assert_allclose(process.rows[3:], 0, atol=1e-13)


def test_one_row():
    np.testing.assert_array_equal(ghosts.tridiagonal(tf.constant([3.0]), tf.constant([7.0])), [[3]])
    process = ghosts.krylov(ghosts.measure(tf.constant([[3.0]], tf.float64), SINGLE), 1, 1)
    np.testing.assert_array_equal(process.projected, [[3]])
    np.testing.assert_array_equal(process.rows, [[1]])
