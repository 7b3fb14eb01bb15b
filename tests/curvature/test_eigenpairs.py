import keras
import numpy as np
import pytest

import keras_sfn
from keras_sfn.curvature import eigenpairs

EIGENVALUES = np.concatenate([[-3.0, -0.5], np.linspace(0.01, 0.1, 200), [2.5, 5.0, 9.0]])
WANTED = {"largest": [9, 5, 2.5], "smallest": [-3, -0.5, 0.01], "magnitude": [9, 5, -3]}


@pytest.mark.parametrize("which", WANTED)
def test_the_wanted_end_comes_first(make_hessian, which):
    hessian, matrix = make_hessian(EIGENVALUES)
    values, vectors, residuals = keras_sfn.top_eigenpairs(hessian, 3, which=which)
    np.testing.assert_allclose(values, WANTED[which], atol=1e-7)
    assert vectors.shape == (3, len(matrix))
    np.testing.assert_allclose(vectors @ vectors.T, np.eye(3), atol=1e-10)
    found = np.linalg.norm(vectors @ matrix - values[:, None] * vectors, axis=1)
    np.testing.assert_allclose(residuals, found, atol=1e-10)
    assert residuals.max() < 1e-6


def test_pairs_of_a_network_in_single_precision(digits, make_classifier):
    model = make_classifier()
    model.compile(loss="sparse_categorical_crossentropy")
    hessian = keras_sfn.HessianOperator.from_model(model, digits[0][:50], digits[1][:50])
    for which in WANTED:
        pairs = keras_sfn.top_eigenpairs(hessian, 2, which=which)
        assert pairs.residuals.max() < 1e-3 * np.abs(pairs.values).max()
    largest = keras_sfn.top_eigenpairs(hessian).values[0]
    spectrum = keras_sfn.spectral_density(hessian, num_steps=40, num_probes=1)
    assert largest == pytest.approx(spectrum.nodes.max(), rel=1e-4)


def test_the_same_seed_gives_the_same_pairs(make_hessian):
    hessian, _ = make_hessian(EIGENVALUES)
    first, again = (keras_sfn.top_eigenpairs(hessian, seed=3) for _ in range(2))
    np.testing.assert_array_equal(first.vectors, again.vectors)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"count": 0}, "`count` must be an integer >= 1"),
        ({"count": 3}, r"`count` must be less than n.*\(3\).*to_dense"),
        ({"which": "LA"}, "`which` must be one of 'largest', 'smallest', 'magnitude'"),
        ({"tolerance": 0.0}, "`tolerance` must be a finite number > 0"),
        ({"seed": -1}, "`seed` must be an integer >= 0"),
    ],
    ids=str,
)
def test_bad_arguments_are_named(make_hessian, options, message):
    hessian, _ = make_hessian([1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match=message):
        keras_sfn.top_eigenpairs(hessian, **options)


def test_something_else_than_an_operator_is_refused():
    with pytest.raises(TypeError, match=r"`hessian` must be a `keras_sfn\.HessianOperator`"):
        keras_sfn.top_eigenpairs(keras.Variable([1.0]))


def test_no_convergence_is_an_error_with_a_remedy(make_hessian, monkeypatch):
    monkeypatch.setattr(eigenpairs, "_MOST_RESTARTS", 1)
    hessian, _ = make_hessian(EIGENVALUES)
    with pytest.raises(RuntimeError, match=r"of 20 eigenvalues have converged after 1 restarts"):
        keras_sfn.top_eigenpairs(hessian, 20, which="smallest", tolerance=1e-14)
