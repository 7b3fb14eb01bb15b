"""The estimates of lost orthogonality, and the bound that partial reorthogonalisation keeps."""

import functools

import numpy as np
import pytest
import tensorflow as tf

from keras_sfn.krylov import lanczos, orthogonality, row_blocks

SIZE = 300
RNG = np.random.default_rng(0)
SPECTRA = {
    "outliers": np.r_[np.logspace(0, 3, 10), 0.05 * RNG.normal(size=SIZE - 10)],
    "of a network": np.r_[[1e3, 300, 120, 60, 30, -5, -3], RNG.exponential(0.1, SIZE - 7) ** 2],
    "of an autoencoder": np.r_[[10, 7.5, 6, 5, 4.5, -2.5], RNG.exponential(0.5, SIZE - 6)],
    "indefinite": np.linspace(-1, 1, SIZE),
    "wide": np.logspace(-12, 3, SIZE),
}


@functools.cache
def compiled(kind, rows):
    """Returns a function of the matrix, which tracing takes far longer than running does."""

    @tf.function(autograph=False)
    def run(matrix, start, options):
        matvec = lambda vector: tf.linalg.matvec(matrix, vector)
        return lanczos.tridiagonalise(matvec, start, rows, kind, **options)

    return run


def build(matrix, kind, rows, start=1, **options):
    start = np.random.default_rng(start).normal(size=SIZE).astype(matrix.dtype)
    krylov = compiled(kind, rows)(tf.constant(matrix), tf.constant(start), options)
    return np.concatenate(krylov.blocks).astype("float64"), krylov.projected.numpy()


def loss(basis):
    return np.abs(basis @ basis.T - np.eye(len(basis))).max()


@pytest.mark.parametrize(
    ("dtype", "rows"),
    [
        ("float32", 24),
        pytest.param("float32", 60, marks=pytest.mark.slow),
        pytest.param("float64", 60, marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("spectrum", SPECTRA)
def test_partial_keeps_the_basis_orthogonal_to_the_root_of_the_precision(
    spectrum, rows, dtype, symmetric
):
    eigenvalues = SPECTRA[spectrum]
    matrix = symmetric(eigenvalues).astype(dtype)
    basis, projected = build(matrix, "partial", rows)
    assert loss(basis) < np.finfo(dtype).eps ** 0.5
    # What semi-orthogonality is for: the Ritz values are those of an orthonormal basis.
    _, reference = build(matrix.astype("float64"), "full", rows)
    scale = np.abs(eigenvalues).max()
    extreme = [0, -2, -1]
    np.testing.assert_allclose(
        np.linalg.eigvalsh(projected)[extreme],
        np.linalg.eigvalsh(reference)[extreme],
        atol=20 * np.finfo(dtype).eps * scale,
    )


def test_without_it_the_same_basis_loses_all_orthogonality(symmetric):
    matrix = symmetric(SPECTRA["of a network"]).astype("float32")
    assert loss(build(matrix, "none", 24)[0]) > 0.1


def test_an_appended_vector_and_a_breakdown_are_orthogonal_too(symmetric):
    matrix = symmetric(SPECTRA["outliers"]).astype("float32")
    append = tf.constant(np.random.default_rng(5).normal(size=SIZE).astype("float32"))
    basis, projected = build(matrix, "partial", 24, append=append)
    assert loss(basis) < np.finfo("float32").eps ** 0.5
    # A hundred roundings of the largest eigenvalue, 1000.
    rounding = 100 * np.finfo("float32").eps * 1000
    np.testing.assert_allclose(projected, basis @ matrix @ basis.T, atol=rounding)
    few = symmetric(np.r_[np.zeros(SIZE - 3), [1.0, 2, 3]]).astype("float32")
    assert loss(build(few, "partial", 24)[0]) < np.finfo("float32").eps ** 0.5


@pytest.mark.parametrize("spectrum", ["outliers", "of a network", "wide"])
def test_estimates_follow_the_true_products(spectrum, symmetric):
    matrix = symmetric(SPECTRA[spectrum]).astype("float32")
    basis, projected = build(matrix, "none", 16)
    overlaps = orthogonality.first(16, tf.float32)
    estimated, true = [], []
    for index in range(15):
        alpha, beta = tf.constant(projected[index, index : index + 2])
        largest = tf.constant(np.abs(SPECTRA[spectrum]).max(), tf.float32)
        estimate = orthogonality.following(overlaps, tf.constant(index), alpha, beta, largest)
        overlaps = orthogonality.advance(overlaps, tf.constant(index), estimate, alpha, beta)
        estimated.append(float(tf.reduce_max(estimate)))
        true.append(np.abs(basis[: index + 1] @ basis[index + 1]).max())
    estimated, true = np.array(estimated), np.array(true)
    grown = true > 3e-6
    assert not grown[0]
    assert grown.any()
    # Never ten times short, once there is something to see; and no alarm without a cause.
    early = np.cumsum(true > 0.01) <= 1
    assert (estimated[grown & early] > 0.1 * true[grown & early]).all()
    assert (estimated[~grown] < 1e-2).all()


def test_what_is_not_finite_counts_as_too_large():
    estimate = tf.constant([0.0, np.nan, np.inf, 1e-3, 1e-6], tf.float32)
    assert orthogonality.too_large(estimate).numpy().tolist() == [False, True, True, True, False]


def test_a_decaying_spectrum_needs_a_part_of_the_blocks_only(symmetric, monkeypatch):
    removed = tf.Variable(0)
    original = row_blocks.remove

    def remove(blocks, vector, wanted):
        removed.assign_add(tf.reduce_sum(tf.cast(wanted, tf.int32)))
        return original(blocks, vector, wanted)

    monkeypatch.setattr(row_blocks, "remove", remove)
    # Functions of their own, which hold what takes the place of `remove`.
    monkeypatch.setitem(globals(), "compiled", compiled.__wrapped__)
    matrix = symmetric(SPECTRA["of an autoencoder"]).astype("float32")
    counts = {}
    for kind in ("full", "partial"):
        removed.assign(0)
        build(matrix, kind, 24)
        counts[kind] = int(removed)
    assert 0 < counts["partial"] < 0.7 * counts["full"]
