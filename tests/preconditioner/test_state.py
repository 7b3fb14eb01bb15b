import types

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_sfn.curvature import survey
from keras_sfn.objective import objective, parameter_space, traced
from keras_sfn.preconditioner import kronecker
from keras_sfn.preconditioner import state as preconditioner_state


class Owner(keras.optimizers.SGD):
    """An optimizer to add variables to."""


@pytest.fixture
def linear():
    """A linear model on digits: moments of its Gauss-Newton samples are known."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(3)])
    x = tf.constant(np.random.default_rng(0).normal(size=(40, 6)), tf.float32)

    def loss_fn():
        outputs = model(x)
        return tf.reduce_mean(outputs**2), outputs

    space = parameter_space.ParameterSpace(model.trainable_variables)
    return objective.Objective(loss_fn, space), x


def hessian_of(x):
    """Of the linear model's loss."""
    inputs = np.concatenate([x, np.ones((40, 1))], axis=1)
    return np.kron(inputs.T @ inputs * 2 / (40 * 3), np.eye(3))


def state_of(loss):
    owner = Owner()
    owner.build(loss.space.variables)
    return preconditioner_state.PreconditionerState(
        loss.space.variables, loss.space.dtype, owner.add_variable
    ), owner


def result(step=(0.0,) * 21, shift=1.0, norm=0.0, too_long=False, finite=True, accepted=True):
    """The part of a step's result that is remembered."""
    fields = {"step": step, "shift": shift, "norm": norm, "too_long": too_long}
    flags = {"finite": finite, "accepted": accepted}
    return types.SimpleNamespace(**{k: tf.constant(v) for k, v in (fields | flags).items()})


def frozen(loss, part=None):
    return survey.FrozenLoss(
        loss, loss, part, survey.Survey(traced.trace(loss), "forward_over_reverse", False)
    )


def renewal(state, loss):
    """Returns a function of the step that calls `renew`, traced once."""

    @tf.function(autograph=False)
    def run(step):
        return state.renew(frozen(loss), step, 0).renewed

    return lambda step: bool(run(tf.constant(step)))


def renew(state, loss, step):
    return renewal(state, loss)(step)


def test_each_sample_is_from_a_part_of_the_rows(linear, monkeypatch):
    loss, x = linear
    state, _ = state_of(loss)
    asked = []

    def part(index, count):
        asked.append(count)
        rows = x[10 * index : 10 * index + 10]

        def loss_fn():
            outputs = rows @ loss.space.variables[0].value + loss.space.variables[1].value
            return tf.reduce_mean(outputs**2), outputs

        return objective.Objective(loss_fn, loss.space)

    # Whatever the vectors are random by, their moments add up: one of ones in their place.
    monkeypatch.setattr(
        preconditioner_state.gauss_newton, "sample", lambda part, values, _: part.gradient(values)
    )
    found = state._mean_moments(frozen(loss, part), tf.constant([0, 0]))
    values = loss.space.values()
    gradients = [part(tf.constant(i), 4).gradient(values) for i in range(4)]
    expected = np.mean([kronecker.moments(state.blocks, g) for g in gradients], axis=0)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7)
    assert set(asked) == {4}
    of_all = state._mean_moments(frozen(loss), tf.constant([0, 0]))
    expected = kronecker.moments(state.blocks, loss.gradient(values))
    np.testing.assert_allclose(of_all, expected, rtol=1e-5, atol=1e-7)


def test_when_the_approximation_is_made_anew(linear):
    loss, _ = linear
    state, _ = state_of(loss)
    due = list(filter(renewal(state, loss), range(45)))
    assert due == [0, 1, 2, 4, 8, 20, 40]


def test_the_approximation_of_a_linear_model_is_its_hessian(linear, monkeypatch):
    # In the mean: samples that fade slowly come near to it.
    monkeypatch.setattr(preconditioner_state, "_DECAY", 0.95)
    loss, x = linear
    state, _ = state_of(loss)
    run = renewal(state, loss)
    for step in range(0, 2000, 20):
        run(step)
    hessian = hessian_of(x)
    shift = 0.1 * np.linalg.eigvalsh(hessian)[-1]
    solve = state.shifted(state.factors(), None).solve
    axes = np.eye(21, dtype=np.float32)
    inverse = np.stack([solve(tf.constant(a), tf.constant(shift, tf.float32)) for a in axes])
    expected = np.linalg.inv(hessian + shift * np.eye(21))
    assert np.linalg.norm(inverse - expected) < 0.1 * np.linalg.norm(expected)


def variable(owner, name):
    return next(v for v in owner.variables if v.path.endswith(name))


def test_curvature_that_gauss_newton_lacks_is_seen(linear):
    loss, _ = linear
    kernel = loss.space.variables[0]
    model_loss = loss._loss_fn

    def coupled():
        value, outputs = model_loss()
        return value + 50 * kernel.value[0, 0] * kernel.value[5, 2], outputs

    def curvatures(loss):
        state, _ = state_of(loss)
        renew(state, loss, 0)
        multiply = state.shifted(state.factors(), None).multiply
        axes = np.eye(21, dtype=np.float32)
        return np.array([multiply(tf.constant(a), tf.constant(0.0)).numpy() @ a for a in axes])

    # The model's outputs, and with them the factors, are the same. In their eigenbasis the coupling
    # is part of every row.
    added = curvatures(objective.Objective(coupled, loss.space)) / curvatures(loss)
    assert np.min(added) > 2


def test_the_curvature_is_between_two_estimates(linear):
    loss, x = linear
    state, owner = state_of(loss)
    run = renewal(state, loss)
    for step in range(0, 4000, 20):
        run(step)
    hessian = hessian_of(x).astype(np.float32)
    eigenvectors = [variable(owner, f"curvature_eigenvectors_{side}").value for side in (0, 1)]
    rotated = [kronecker.rotated(state.blocks, eigenvectors, column) for column in hessian]
    norms = np.linalg.norm(rotated, axis=0)
    found = np.sqrt(variable(owner, "curvature_row_squares"))
    # Of some twenty products the mean square of a row is within a third, in most coordinates.
    assert np.median(np.abs(found / norms - 1)) < 0.2
    moments = variable(owner, "curvature_moments").value
    pairs = kronecker.eigenpairs(state.blocks, moments)
    kappa = kronecker.eigenvalues(state.blocks, pairs, moments)
    np.testing.assert_allclose(variable(owner, "/curvature"), np.sqrt(kappa * found), rtol=1e-4)


def test_a_product_that_is_not_finite_says_nothing(linear):
    loss, _ = linear
    state, _ = state_of(loss)
    eigenvectors = [tf.eye(side) for side in (7, 3)]
    squares = state._mean_row_squares(lambda v: v * np.nan, eigenvectors, tf.constant([0, 0]))
    assert not np.any(squares)
    squares = state._mean_row_squares(lambda v: 3 * v, eigenvectors, tf.constant([0, 0]))
    np.testing.assert_allclose(squares, np.full(21, 9.0), rtol=1e-5)


@pytest.mark.parametrize("name", ["curvature_moments", "curvature_row_squares"])
def test_older_samples_fade_as_documented(linear, name):
    loss, _ = linear
    state, owner = state_of(loss)
    held, mean = variable(owner, "curvature_moments"), variable(owner, name)
    run = renewal(state, loss)
    for step, kept in ((0, 0.0), (1, 0.5), (2, 2 / 3), (200, 0.8)):
        # Rows are those in the eigenbasis of the moments.
        held.assign(tf.zeros_like(held.value))
        mean.assign(tf.zeros_like(mean.value))
        run(step)
        fresh = mean.numpy() / (1 - kept)
        held.assign(tf.zeros_like(held.value))
        mean.assign(tf.ones_like(mean.value))
        run(step)
        np.testing.assert_allclose(mean.numpy(), kept + (1 - kept) * fresh, rtol=1e-4)


def test_the_first_shift_is_a_fraction_of_the_largest_curvature(linear):
    loss, _ = linear
    state, owner = state_of(loss)
    renew(state, loss, 0)
    shifted = state.shifted(state.factors(), None)
    largest = variable(owner, "/curvature").numpy().max()
    np.testing.assert_allclose(float(shifted.shift), 1e-3 * largest, rtol=1e-5)


def test_the_shift_is_kept_and_grows_after_a_step_too_long(linear):
    loss, _ = linear
    state, _ = state_of(loss)

    def following(shift, too_long, finite=True):
        state.keep(state.factors(), result(shift=shift, too_long=too_long, finite=finite))
        return float(state.shifted(state.factors(), None).shift)

    # Without curvature nothing is remembered.
    assert following(7.0, False) == 1
    renew(state, loss, 0)
    largest = float(tf.reduce_max(state.factors().curvature))
    assert following(0.1 * largest, False) == pytest.approx(0.1 * largest)
    assert following(0.1 * largest, True) == pytest.approx(0.2 * largest)
    assert following(3.0, True, finite=False) == pytest.approx(0.2 * largest)
    # Beyond its curvature nothing is left of the preconditioner.
    assert following(0.9 * largest, True) == pytest.approx(largest)


def test_rejected_steps_send_the_shift_through_all_sizes_until_one_is_accepted(linear):
    loss, _ = linear
    state, _ = state_of(loss)
    renew(state, loss, 0)
    largest = float(tf.reduce_max(state.factors().curvature))
    seen = []
    for _ in range(12):
        state.keep(state.factors(), result(shift=largest, too_long=True, accepted=False))
        seen.append(float(state.factors().shift) / largest)
    expected = [1, 1, *(10.0 ** (-2 * k) for k in range(8)), 1, 0.01]
    np.testing.assert_allclose(seen, expected, rtol=1e-4)
    state.keep(state.factors(), result(shift=0.5 * largest))
    assert float(state.factors().shift) == pytest.approx(0.5 * largest)
    state.keep(state.factors(), result(shift=0.5 * largest, accepted=False))
    assert float(state.factors().shift) == pytest.approx(0.5 * largest)


def test_the_curvature_along_the_last_step_is_that_of_its_norm(linear):
    loss, _ = linear
    state, _ = state_of(loss)
    renew(state, loss, 0)
    last = tf.constant(np.random.default_rng(0).normal(size=21), tf.float32)
    old = state.factors()
    new = old._replace(renewed=tf.constant(True))
    shifted = state.shifted(new, last)
    product = shifted.multiply(last, tf.constant(0.0))
    exact = float(tf.tensordot(last, product, 1) / tf.tensordot(last, last, 1))
    np.testing.assert_allclose(float(shifted.last_curvature), exact, rtol=1e-5)
    # After a step: from its norm in the inner product of P + shift, without a product.
    shift = 0.3 * exact
    image = shifted.multiply(last, tf.constant(shift))
    norm = float(tf.tensordot(last, image, 1)) ** 0.5
    state.keep(state.factors(), result(step=last, shift=shift, norm=norm))
    kept = float(state.shifted(old, last).last_curvature)
    np.testing.assert_allclose(kept, exact, rtol=1e-4)
    # A step that was rejected is not the last one.
    state.keep(state.factors(), result(step=last, shift=shift, norm=9.0, accepted=False))
    assert float(state.shifted(old, last).last_curvature) == kept


def test_other_variables_are_refused(linear):
    loss, _ = linear
    state, _ = state_of(loss)
    part = objective.Objective(
        loss._loss_fn, parameter_space.ParameterSpace(loss.space.variables[:1])
    )
    with pytest.raises(ValueError, match="18 of 21 parameters"):
        state.renew(frozen(part), tf.constant(0), 0)


def test_samples_that_are_not_finite_count_as_zero(linear):
    loss, x = linear
    infinite = objective.Objective(
        lambda: (tf.reduce_mean((x @ loss.space.variables[0]) ** 2) * np.inf, None), loss.space
    )
    state, owner = state_of(infinite)
    renew(state, infinite, 0)
    assert not np.any(variable(owner, "curvature_moments").numpy())


def test_state_is_in_optimizer_variables(linear):
    loss, _ = linear
    state, owner = state_of(loss)
    names = {v.path.rpartition("/")[2] for v in owner.variables}
    assert {
        "curvature_moments",
        "curvature_eigenvectors_0",
        "curvature_eigenvectors_1",
        "curvature_row_squares",
        "curvature",
        "curvature_shift",
    } <= names
    assert kronecker.moments_length(state.blocks) == 7**2 + 3**2 + 1
