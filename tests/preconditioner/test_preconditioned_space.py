import numpy as np
import pytest
import tensorflow as tf

from keras_sfn.newton import subspaces
from keras_sfn.preconditioner import preconditioned_space

SIZE = 12


def problem(seed=0):
    """Returns a symmetric matrix, a positive approximation of it, a gradient and a last step."""
    rng = np.random.default_rng(seed)
    rotation, _ = np.linalg.qr(rng.normal(size=(SIZE, SIZE)))
    values = np.geomspace(1e-3, 10, SIZE) * np.where(np.arange(SIZE) == 3, -1, 1)
    matrix = rotation * values @ rotation.T
    rough = rotation * (np.abs(values) * rng.uniform(0.5, 2, SIZE)) @ rotation.T
    return matrix, rough, *rng.normal(size=(2, SIZE))


def curvature_along(rough, vector):
    unit = vector / np.linalg.norm(vector)
    return unit @ rough @ unit


def build(
    rows,
    *,
    shift=0.1,
    search=False,
    append=None,
    gradient=None,
    rough=None,
    jit=False,
    damping=0.0,
    factor=1.0,
    stride=1.6,
    directions=None,
):
    matrix, default_rough, default, _ = problem()
    rough = default_rough if rough is None else rough
    gradient = default if gradient is None else gradient
    last_curvature = factor * curvature_along(rough, default if append is None else append)

    @tf.function(autograph=False, jit_compile=jit)
    def run():
        def solve(vector, shift):
            return tf.linalg.solve(rough + shift * np.eye(SIZE), vector[:, None])[:, 0]

        def multiply(vector, shift):
            return tf.linalg.matvec(rough + shift * np.eye(SIZE), vector)

        return preconditioned_space.preconditioned_rows(
            lambda vector: tf.linalg.matvec(tf.constant(matrix), vector),
            subspaces.Start(
                tf.constant(gradient),
                None if append is None else tf.constant(append),
                tf.constant(damping, tf.float64),
                tf.constant([0, 0]),
            ),
            rows,
            preconditioned_space.ShiftedPreconditioner(
                solve,
                multiply,
                tf.constant(last_curvature, tf.float64),
                tf.constant(shift, tf.float64),
                tf.constant(search),
                tf.constant(stride, tf.float64),
            ),
            None if directions is None else tf.constant(directions),
        )

    return run()


def projected(subspace):
    vectors = subspace.ritz.vectors.numpy()
    return vectors @ np.diag(subspace.ritz.values) @ vectors.T


def rows_of(subspace):
    return tf.concat(subspace.blocks, axis=0).numpy()


@pytest.mark.parametrize("jit", [False, True])
def test_rows_span_the_preconditioned_krylov_space_and_the_last_step(jit):
    matrix, rough, gradient, step = problem()
    subspace = build(4, append=step, jit=jit)
    rows = rows_of(subspace)
    metric = rough + 0.1 * np.eye(SIZE)
    np.testing.assert_allclose(rows @ metric @ rows.T, np.eye(4), atol=1e-12)
    np.testing.assert_allclose(projected(subspace), rows @ matrix @ rows.T, atol=1e-11)
    inverse = np.linalg.inv(metric)
    wanted = [inverse @ gradient]
    for _ in range(2):
        wanted.append(inverse @ matrix @ wanted[-1])
    for vector in (*wanted, step):
        left = vector - rows.T @ (rows @ metric @ vector)
        assert np.linalg.norm(left) < 1e-8 * np.linalg.norm(vector)
    assert float(subspace.shift) == 0.1


@pytest.mark.parametrize("directions", [1, 2, 5])
def test_as_many_rows_are_made_as_are_asked_for(directions):
    _, _, _, step = problem()
    few, room = build(directions + 1, append=step), build(6, append=step, directions=directions)
    assert int(room.made) == directions + 1
    np.testing.assert_allclose(rows_of(room)[: directions + 1], rows_of(few), atol=1e-14)
    np.testing.assert_array_equal(rows_of(room)[directions + 1 :], 0)
    # What was not made comes last, is stiffer than all, and has no share in the gradient.
    values = room.ritz.values.numpy()
    np.testing.assert_allclose(values[: directions + 1], few.ritz.values, atol=1e-12)
    assert np.all(values[directions + 1 :] > np.abs(few.ritz.values).max())
    reduced = room.ritz.vectors.numpy().T @ room.gradient.numpy()
    np.testing.assert_allclose(reduced[directions + 1 :], 0, atol=1e-12)


def test_an_estimated_curvature_along_the_last_step_sets_its_length_and_no_more():
    _, rough, _, step = problem()
    rows = rows_of(build(3, append=step, factor=0.95))
    metric = rough + 0.1 * np.eye(SIZE)
    gram = rows @ metric @ rows.T
    np.testing.assert_allclose(gram - np.diag(np.diag(gram)), 0, atol=1e-12)
    np.testing.assert_allclose(np.diag(gram)[:2], 1)
    assert 1.001 < gram[2, 2] < 1.5


def test_a_direction_in_the_span_leaves_a_row_of_zeros():
    _, rough, gradient, _ = problem()
    metric = rough + 0.1 * np.eye(SIZE)
    rows = rows_of(build(2, append=np.linalg.solve(metric, gradient)))
    np.testing.assert_array_equal(rows[1], 0)
    np.testing.assert_allclose(rows[0] @ metric @ rows[0], 1)


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_the_scale_of_a_direction_does_not_matter(scale):
    _, _, gradient, step = problem()
    scaled = rows_of(build(3, gradient=scale * gradient, append=scale * step))
    np.testing.assert_allclose(scaled, rows_of(build(3, append=step)), rtol=1e-9, atol=1e-12)


def test_much_damping_turns_the_step_to_the_preconditioned_gradient():
    _, rough, gradient, step = problem()
    subspace = build(3, append=step)
    rows, damping = rows_of(subspace), 1e8
    reduced = np.linalg.solve(projected(subspace) + damping * np.eye(3), rows @ gradient)
    wanted = np.linalg.solve(rough + 0.1 * np.eye(SIZE), gradient)
    np.testing.assert_allclose(damping * rows.T @ reduced, wanted, rtol=1e-5, atol=1e-7)


def test_without_a_gradient_the_first_direction_is_random():
    _, rough, _, _ = problem()
    rows = rows_of(build(3, gradient=np.zeros(SIZE)))
    metric = rough + 0.1 * np.eye(SIZE)
    np.testing.assert_allclose(rows @ metric @ rows.T, np.eye(3), atol=1e-12)


def test_the_search_keeps_the_shift_from_which_the_model_promises_most():
    _, _, gradient, _ = problem()

    def promise(subspace, damping=0.01):
        values, vectors = np.linalg.eigh(projected(subspace))
        reduced = vectors.T @ (rows_of(subspace) @ gradient)
        return 0.5 * np.sum(reduced**2 / (np.abs(values) + damping))

    for shift in (1e-4, 100.0):
        tried = {
            value: promise(build(1, shift=value)) for value in (shift, shift * 1.6, shift / 1.6)
        }
        kept = build(1, shift=shift, search=True, damping=0.01)
        best = max(tried, key=tried.get)
        np.testing.assert_allclose(float(kept.shift), best)
        np.testing.assert_allclose(promise(kept), tried[best])


def test_the_search_moves_the_shift_both_ways():
    # An approximation that knows nothing of most directions needs a shift, but not a large one.
    _, rough, _, _ = problem()
    values, vectors = np.linalg.eigh(rough)
    poor = vectors[:, 8:] * values[8:] @ vectors[:, 8:].T

    def following(shift, stride):
        found = build(1, shift=shift, search=True, damping=0.01, rough=poor, stride=stride)
        return float(found.shift) / shift

    for stride in preconditioned_space.STRIDES:
        found = [following(1e-6, stride), following(1e3, stride)]
        np.testing.assert_allclose(found, [stride, 1 / stride])


def test_a_product_that_is_not_finite_is_seen():
    subspace = build(2, gradient=np.full(SIZE, np.nan))
    assert not bool(subspace.ritz.finite)
