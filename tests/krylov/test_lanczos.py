import numpy as np
import pytest
import tensorflow as tf

import keras_sfn

SPECTRA = {
    "definite": np.linspace(1, 10, 20),
    "indefinite": np.linspace(-5, 10, 20),
    "clustered": np.r_[np.full(10, 1.0), np.full(8, 2.0), -3.0, 50.0],
    "singular": np.r_[np.zeros(12), np.linspace(-1, 1, 8)],
    "wide": np.logspace(-6, 3, 20),
}


def lanczos_of(matrix, start, num_steps, **kwargs):
    return keras_sfn.lanczos(lambda v: tf.linalg.matvec(matrix, v), start, num_steps, **kwargs)


# One trace for all matrices of a shape.
COMPILED = {jit: tf.function(lanczos_of, autograph=False, jit_compile=jit) for jit in (False, True)}


def run(matrix, start, num_steps, *, jit=False, **kwargs):
    matrix = tf.constant(matrix)
    return COMPILED[jit](matrix, tf.constant(start, matrix.dtype), num_steps, **kwargs)


def tridiagonal(result):
    off = np.diag(result.off_diagonal.numpy(), 1)
    return np.diag(result.diagonal.numpy()) + off + off.T


@pytest.mark.parametrize("jit", [False, True])
@pytest.mark.parametrize("spectrum", SPECTRA)
@pytest.mark.parametrize("num_steps", [1, 5, 20])
def test_basis_is_orthonormal_and_projects_the_operator(spectrum, num_steps, jit, symmetric):
    matrix = symmetric(SPECTRA[spectrum])
    start = np.random.default_rng(1).normal(size=20)
    result = run(matrix, start, num_steps, jit=jit)
    basis = result.basis.numpy()
    np.testing.assert_allclose(basis @ basis.T, np.eye(num_steps), atol=1e-12)
    scale = np.abs(matrix).max()
    np.testing.assert_allclose(result.projected, basis @ matrix @ basis.T, atol=1e-12 * scale)
    np.testing.assert_allclose(result.projected, tridiagonal(result), atol=1e-12 * scale)


@pytest.mark.parametrize("spectrum", ["definite", "indefinite", "wide"])
def test_three_term_relation(spectrum, symmetric):
    matrix = symmetric(SPECTRA[spectrum])
    result = run(matrix, np.random.default_rng(1).normal(size=20), 6)
    basis = result.basis.numpy()
    left = matrix @ basis.T - basis.T @ tridiagonal(result)
    expected = np.outer(result.residual, np.eye(6)[-1])
    np.testing.assert_allclose(left, expected, atol=1e-12 * np.abs(matrix).max())
    assert not result.breakdown.numpy().any()


@pytest.mark.parametrize("spectrum", SPECTRA)
def test_a_full_basis_gives_all_eigenvalues(spectrum, symmetric):
    eigenvalues = SPECTRA[spectrum]
    result = run(symmetric(eigenvalues), np.ones(20), 20)
    found = np.linalg.eigvalsh(result.projected)
    np.testing.assert_allclose(found, np.sort(eigenvalues), atol=1e-11 * np.abs(eigenvalues).max())


def test_extreme_eigenvalues_converge_first_in_float32(symmetric):
    eigenvalues = np.r_[np.linspace(0, 1, 198), -20.0, 30.0]
    matrix = symmetric(eigenvalues).astype("float32")
    result = run(matrix, np.ones(200), 25)
    found = np.linalg.eigvalsh(result.projected)
    np.testing.assert_allclose([found[0], found[-1]], [-20, 30], rtol=1e-5)
    basis = result.basis.numpy()
    np.testing.assert_allclose(basis @ basis.T, np.eye(25), atol=1e-5)


def test_reorthogonalisation_is_what_keeps_the_basis_orthonormal(symmetric):
    matrix = symmetric(np.r_[np.linspace(0, 1, 198), -20.0, 30.0]).astype("float32")
    gram = [
        (lambda b: np.abs(b @ b.T - np.eye(40)).max())(
            run(matrix, np.ones(200), 40, reorthogonalize=flag).basis.numpy()
        )
        for flag in (True, False)
    ]
    assert gram[0] < 1e-5
    assert gram[1] > 0.1


def test_without_reorthogonalisation_the_first_steps_agree(symmetric):
    matrix = symmetric(SPECTRA["indefinite"])
    start = np.random.default_rng(1).normal(size=20)
    plain, full = (run(matrix, start, 5, reorthogonalize=flag) for flag in (False, True))
    np.testing.assert_allclose(plain.basis, full.basis, atol=1e-9)
    np.testing.assert_allclose(plain.projected, full.projected, atol=1e-9)


def test_one_product_a_step():
    count = tf.Variable(0)

    def matvec(vector):
        count.assign_add(1)
        return vector * tf.range(1.0, 11.0)

    keras_sfn.lanczos(matvec, tf.ones(10), 7)
    assert int(count) == 7


@pytest.mark.parametrize("jit", [False, True])
def test_breakdown_goes_on_from_a_random_direction(jit):
    matrix = np.diag([3.0, -2.0, 5.0, 1.0])
    result = run(matrix, [0, 1.0, 0, 0], 4, jit=jit)
    assert bool(result.breakdown[0])
    np.testing.assert_allclose(result.diagonal[0], -2)
    basis = result.basis.numpy()
    np.testing.assert_allclose(basis @ basis.T, np.eye(4), atol=1e-12)
    np.testing.assert_allclose(np.linalg.eigvalsh(result.projected), [-2, 1, 3, 5], atol=1e-12)


@pytest.mark.parametrize("start", [[0.0, 0, 0], [np.nan, 1, 1], [np.inf, 1, 1]])
def test_a_start_without_direction_is_replaced_by_a_seeded_random_one(start):
    matrix = np.diag([3.0, -2.0, 5.0])
    first, again = (run(matrix, start, 3, seed=tf.constant((1, 2))) for _ in range(2))
    other = run(matrix, start, 3, seed=tf.constant((2, 2)))
    np.testing.assert_array_equal(first.basis, again.basis)
    assert not np.allclose(first.basis, other.basis)
    np.testing.assert_allclose(np.linalg.eigvalsh(first.projected), [-2, 3, 5], atol=1e-12)


def test_the_zero_operator_is_spanned_without_nan():
    result = run(np.zeros((3, 3)), [1.0, 0, 0], 3)
    np.testing.assert_array_equal(result.projected, np.zeros((3, 3)))
    np.testing.assert_allclose(result.basis.numpy() @ result.basis.numpy().T, np.eye(3), atol=1e-12)


@pytest.mark.parametrize("reorthogonalize", [True, False])
def test_an_appended_vector_is_in_the_span(symmetric, reorthogonalize):
    matrix = symmetric(SPECTRA["indefinite"])
    rng = np.random.default_rng(1)
    append = rng.normal(size=20)
    result = run(
        matrix,
        rng.normal(size=20),
        5,
        append=tf.constant(append),
        reorthogonalize=reorthogonalize,
    )
    basis = result.basis.numpy()
    np.testing.assert_allclose(basis @ basis.T, np.eye(5), atol=1e-12)
    np.testing.assert_allclose(result.projected, basis @ matrix @ basis.T, atol=1e-11)
    assert np.linalg.norm(basis[:4] @ append) < 0.99 * np.linalg.norm(append)
    np.testing.assert_allclose(basis.T @ (basis @ append), append, atol=1e-11)


@pytest.mark.parametrize("append", ["zero", "start"])
def test_an_appended_vector_without_news_leaves_the_krylov_sequence(symmetric, append):
    matrix = symmetric(SPECTRA["indefinite"])
    start = np.random.default_rng(1).normal(size=20)
    vector = np.zeros(20) if append == "zero" else 3 * start
    plain = run(matrix, start, 5)
    result = run(matrix, start, 5, append=tf.constant(vector))
    np.testing.assert_allclose(result.basis, plain.basis, atol=1e-12)


def test_num_steps_is_clipped_to_the_dimension():
    assert run(np.eye(3), np.ones(3), 10).basis.shape == (3, 3)


@pytest.mark.parametrize("num_steps", [0, -1, 1.5, True])
def test_bad_num_steps(num_steps):
    with pytest.raises(ValueError, match="num_steps"):
        keras_sfn.lanczos(lambda v: v, tf.ones(3), num_steps)


@pytest.mark.parametrize("name", ["start", "append"])
def test_vectors_must_be_vectors(name):
    arguments = {"start": tf.ones(3), "append": None, name: tf.ones((3, 1))}
    with pytest.raises(ValueError, match=f"`{name}` must be a vector"):
        keras_sfn.lanczos(lambda v: v, arguments["start"], 2, append=arguments["append"])
