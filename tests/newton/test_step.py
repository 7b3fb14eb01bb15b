import functools

import numpy as np
import pytest
import tensorflow as tf

from keras_sfn.curvature import products
from keras_sfn.newton import damping as damping_lib
from keras_sfn.newton import directions, subspaces
from keras_sfn.newton import step as step_lib

GRID = (10.0, 1.0, 0.1, 0.01, 1e-3, 1e-4)


def alone(value):
    """One process has nobody to agree with."""
    return value


class Loss:
    """A function of a point and of numbers: traced once for all numbers of a shape."""

    def __init__(self, function, *numbers):
        self.function = function
        self.numbers = [tf.constant(each, "float64") for each in numbers]

    def __call__(self, point):
        return self.function(point, *self.numbers)


@functools.cache
def traced_step(function, damping, *, krylov_dimension, reorthogonalize, jit, **settings):
    """Returns a compiled function from a point, what a `Loss` holds and a start to a step."""

    @tf.function(autograph=False, jit_compile=jit)
    def step(point, numbers, previous, learning_rate):
        def loss_fn(at):
            return function(at, *numbers)

        def gradient_fn(at):
            with tf.GradientTape() as tape:
                tape.watch(at)
                loss = loss_fn(at)
            return tape.gradient(loss, at)

        def matvec(vector):
            with tf.autodiff.ForwardAccumulator(point, vector) as accumulator:
                gradient = gradient_fn(point)
            return accumulator.jvp(gradient, unconnected_gradients="zero")

        if krylov_dimension is None:
            hessian = products.dense(matvec, point.shape[0], point.dtype.name, jit=False)
            span = subspaces.whole_space(hessian, alone)
        else:
            span = subspaces.krylov_space(matvec, krylov_dimension, reorthogonalize, alone)
        return step_lib.newton_step(
            step_lib.Problem(
                lambda displacement: loss_fn(point + displacement),
                lambda displacement: gradient_fn(point + displacement),
                span,
            ),
            step_lib.Settings(damping, **settings),
            loss_fn(point),
            learning_rate,
            subspaces.Start(
                gradient_fn(point),
                previous,
                tf.constant(damping_lib.UNSET, "float64"),
                tf.constant([0, 0]),
            ),
        )

    return step


def take_step(
    loss_fn,
    point,
    damping,
    *,
    krylov_dimension=10,
    reorthogonalize=True,
    previous=None,
    learning_rate=1.0,
    jit=False,
    **settings,
):
    """Returns the `StepResult` of a `Loss` at a point."""
    step = traced_step(
        loss_fn.function,
        damping,
        krylov_dimension=krylov_dimension,
        reorthogonalize=reorthogonalize,
        jit=jit,
        **settings,
    )
    return step(
        tf.constant(point, "float64"),
        loss_fn.numbers,
        None if previous is None else tf.constant(previous, "float64"),
        tf.constant(learning_rate, "float64"),
    )


def quadratic(matrix):
    return Loss(half_square, matrix)


def half_square(x, matrix):
    return 0.5 * tf.tensordot(x, tf.linalg.matvec(matrix, x), 1)


def sum_of_terms(point, factors):
    x, y = tf.unstack(point)
    one = tf.ones_like(x)
    terms = [one, x, y, x * x, y * y, x * y, x * x * x, x * y * y, (x * x) ** 2, (y * y) ** 2]
    return tf.reduce_sum(factors * tf.stack(terms))


TERMS = ("one", "x", "y", "x2", "y2", "xy", "x3", "xy2", "x4", "y4")


def polynomial(**factors):
    """Returns the loss of two numbers with these factors: `x2=1.0` is x squared."""
    assert set(factors) <= set(TERMS)
    return Loss(sum_of_terms, [factors.get(name, 0.0) for name in TERMS])


def dense_step(matrix, gradient, damping):
    values, vectors = np.linalg.eigh(matrix)
    return -vectors @ ((vectors.T @ gradient) / (np.abs(values) + damping))


@pytest.mark.parametrize("jit", [False, True])
@pytest.mark.parametrize("eigenvalues", [[-3, -1, 0.5, 2, 6], [1, 2, 3, 4, 5], [-2, -2, 1, 1, 1]])
def test_full_subspace_gives_the_dense_formula(eigenvalues, jit, symmetric):
    matrix = symmetric(eigenvalues)
    point = np.array([1.0, -2.0, 0.5, 3.0, 1.0])
    result = take_step(quadratic(matrix), point, damping_lib.FixedDamping(0.1), jit=jit)
    np.testing.assert_allclose(result.step, dense_step(matrix, matrix @ point, 0.1), rtol=1e-9)
    np.testing.assert_allclose(result.ritz_values, np.sort(eigenvalues), atol=1e-10)


def test_small_subspace_gives_the_formula_on_the_projected_matrix(symmetric):
    matrix = symmetric(np.linspace(-4, 8, 12))
    point, previous = np.random.default_rng(0).normal(size=(2, 12))
    gradient = matrix @ point
    result = take_step(
        quadratic(matrix),
        point,
        damping_lib.FixedDamping(0.1),
        previous=previous,
        krylov_dimension=3,
    )
    krylov = np.stack([gradient, matrix @ gradient, matrix @ matrix @ gradient, previous], axis=1)
    basis, _ = np.linalg.qr(krylov)
    expected = basis @ dense_step(basis.T @ matrix @ basis, basis.T @ gradient, 0.1)
    np.testing.assert_allclose(result.step, expected, rtol=1e-8)


def test_predicted_reduction_is_exact_on_a_quadratic(symmetric):
    matrix = symmetric([-3.0, -1.0, 0.5, 2.0, 6.0])
    loss_fn, point = quadratic(matrix), np.array([1.0, -2.0, 0.5, 3.0, 1.0])
    result = take_step(loss_fn, point, damping_lib.FixedDamping(0.1), learning_rate=0.7)
    actual = loss_fn(tf.constant(point)) - loss_fn(point + result.step)
    np.testing.assert_allclose(result.predicted_reduction, actual)
    np.testing.assert_allclose(result.loss, loss_fn(point + result.step))


def test_definite_quadratic_is_solved_in_one_step(symmetric):
    matrix = symmetric([1.0, 2.0, 3.0, 10.0])
    point = np.array([1.0, -2.0, 0.5, 3.0])
    result = take_step(quadratic(matrix), point, damping_lib.FixedDamping(0.0))
    np.testing.assert_allclose(point + result.step, 0, atol=1e-10)


def descend(loss_fn, point, damping, steps):
    point = tf.constant(point, "float64")
    for _ in range(steps):
        point += take_step(loss_fn, point, damping).step
    return point.numpy(), float(loss_fn(point))


@tf.function(autograph=False)
def damped_newton_step(point, factors):
    with tf.GradientTape() as outer:
        outer.watch(point)
        with tf.GradientTape() as inner:
            inner.watch(point)
            loss = sum_of_terms(point, factors)
        gradient = inner.gradient(loss, point)
    hessian = outer.jacobian(gradient, point) + 1e-4 * np.eye(2)
    return -tf.linalg.solve(hessian, gradient[:, None])[:, 0]


SADDLES = {
    "5x^2 - y^2": (polynomial(x2=5.0, y2=-1.0), [1.0, 1e-3]),
    "monkey": (polynomial(x3=1.0, xy2=-3.0), [0.01, 0.02]),
}


@pytest.mark.parametrize("name", SADDLES)
@pytest.mark.parametrize(
    "policy",
    [
        damping_lib.FixedDamping(1e-4),
        damping_lib.SearchDamping(GRID),
        damping_lib.AdaptiveDamping(),
    ],
)
def test_leaves_saddles_where_damped_newton_stays(name, policy):
    loss_fn, start = SADDLES[name]
    point, loss = descend(loss_fn, start, policy, 25)
    assert loss < -10
    assert np.linalg.norm(point) > 1

    # The paper's baseline, (H + damping)^-1 g with the same damping, converges to the saddle.
    newton = tf.constant(start, "float64")
    for _ in range(25):
        newton += damped_newton_step(newton, *loss_fn.numbers)
    assert float(tf.norm(newton)) < 1e-3


@pytest.mark.parametrize(
    "policy",
    [
        damping_lib.FixedDamping(0.1),
        damping_lib.SearchDamping(GRID),
        damping_lib.AdaptiveDamping(),
    ],
)
@pytest.mark.parametrize("offset", [0.0, 1000.0])
def test_leaves_an_exact_saddle(policy, offset):
    loss_fn = polynomial(one=offset, x2=5.0, y2=-1.0, y4=0.1)
    result = take_step(loss_fn, [0.0, 0.0], policy)
    assert bool(result.accepted)
    assert float(result.loss) < offset - 0.05
    np.testing.assert_allclose(np.abs(result.step), [0, 1], atol=1e-6)


def test_leaves_a_saddle_on_the_side_that_goes_down():
    def walled(p, sign):
        # Downhill on one side only: the quartic wall stands on the other.
        return p[0] ** 2 - 0.01 * p[1] ** 2 + 100 * tf.nn.relu(sign * p[1]) ** 4

    for sign in (1.0, -1.0):
        result = take_step(Loss(walled, sign), [0.0, 0.0], damping_lib.SearchDamping(GRID))
        assert float(result.step[1]) * sign < 0


@pytest.mark.parametrize("policy", [damping_lib.SearchDamping(GRID), damping_lib.AdaptiveDamping()])
def test_a_minimum_is_not_left(policy):
    result = take_step(polynomial(one=1.0, x2=1.0, y2=1.0), [0.0, 0.0], policy)
    assert not bool(result.accepted)
    np.testing.assert_array_equal(result.step, [0, 0])
    assert float(result.loss) == 1


@pytest.mark.parametrize(
    "policy",
    [
        damping_lib.FixedDamping(0.1),
        damping_lib.SearchDamping(GRID),
        damping_lib.AdaptiveDamping(),
    ],
)
@pytest.mark.parametrize("jit", [False, True])
def test_nan_gives_a_rejected_step(policy, jit):
    result = take_step(polynomial(x2=np.nan), [1.0, 2.0], policy, jit=jit)
    assert not bool(result.accepted)
    np.testing.assert_array_equal(result.step, [0, 0])


def test_nan_in_products_alone_gives_a_rejected_step():
    point = tf.constant([1.0, 2.0])
    result = step_lib.newton_step(
        step_lib.Problem(
            lambda displacement: tf.reduce_sum((point + displacement) ** 2),
            lambda displacement: 2 * (point + displacement),
            subspaces.krylov_space(lambda v: v * tf.constant(np.nan), 10, True, alone),
        ),
        step_lib.Settings(damping_lib.FixedDamping(0.1)),
        tf.constant(5.0),
        tf.constant(1.0),
        subspaces.Start(2 * point, None, tf.constant(0.1), tf.constant([0, 0])),
    )
    assert not bool(result.accepted)
    np.testing.assert_array_equal(result.step, [0, 0])


quartic = polynomial(x4=1.0, y4=1.0, x2=-1.0, y2=-1.0, xy=1.0)


def test_inner_steps_go_further_in_the_same_subspace():
    once = take_step(quartic, [2.0, -1.5], damping_lib.FixedDamping(0.1))
    thrice = take_step(quartic, [2.0, -1.5], damping_lib.FixedDamping(0.1), inner_steps=3)
    # By hand: the Hessian of the start, a new gradient each time.
    point = np.array([2.0, -1.5])
    hessian = np.diag(12 * point**2 - 2) + np.array([[0, 1], [1, 0]])
    for _ in range(3):
        gradient = 4 * point**3 - 2 * point + point[::-1]
        point = point + dense_step(hessian, gradient, 0.1)
    np.testing.assert_allclose(thrice.step + tf.constant([2.0, -1.5], "float64"), point, rtol=1e-9)
    assert float(thrice.loss) < float(once.loss)


@pytest.mark.parametrize("policy", [damping_lib.SearchDamping(GRID), damping_lib.AdaptiveDamping()])
def test_inner_steps_that_do_not_help_are_left_out(policy):
    # Steps in one subspace reach the minimum of a quadratic: from there none can lower the loss.
    loss_fn = polynomial(one=1.0, x2=1.0, y2=1.0)
    result = take_step(loss_fn, [1.0, -1.0], policy, inner_steps=50)
    assert bool(result.accepted)
    np.testing.assert_allclose(result.loss, 1, rtol=1e-12)
    # The one that was rejected does not count against the damping of the next step.
    assert 0 < float(result.next_damping) < 1e-2


def test_max_step_norm_bounds_the_step():
    free = take_step(quartic, [2.0, -1.5], damping_lib.FixedDamping(0.1))
    bounded = take_step(quartic, [2.0, -1.5], damping_lib.FixedDamping(0.1), max_step_norm=0.01)
    assert float(tf.norm(free.step)) > 0.01
    np.testing.assert_allclose(tf.norm(bounded.step), 0.01)
    np.testing.assert_allclose(bounded.step / 0.01, free.step / tf.norm(free.step))


def test_learning_rate_scales_the_step():
    full = take_step(quartic, [2.0, -1.5], damping_lib.FixedDamping(0.1))
    half = take_step(quartic, [2.0, -1.5], damping_lib.FixedDamping(0.1), learning_rate=0.5)
    np.testing.assert_allclose(half.step, 0.5 * full.step)


def test_a_linear_loss_is_followed_down():
    result = take_step(polynomial(x=1.0, y=1.0), [0.0, 0.0], damping_lib.SearchDamping(GRID))
    assert bool(result.accepted)
    assert float(result.loss) < 0


@pytest.mark.parametrize("eigenvalues", [[-3, -1, 0.5, 2, 6], [1, 2, 3, 4, 5], [-2, -2, 1, 1, 0]])
def test_the_whole_space_by_the_dense_hessian(eigenvalues, symmetric):
    matrix = symmetric(eigenvalues)
    point = np.array([1.0, -2.0, 0.5, 3.0, 1.0])
    policy = damping_lib.FixedDamping(0.1)
    whole = take_step(quadratic(matrix), point, policy, krylov_dimension=None)
    np.testing.assert_allclose(whole.step, dense_step(matrix, matrix @ point, 0.1), rtol=1e-9)
    np.testing.assert_allclose(whole.ritz_values, np.sort(eigenvalues), atol=1e-10)
    krylov = take_step(quadratic(matrix), point, policy, krylov_dimension=5)
    np.testing.assert_allclose(whole.step, krylov.step, rtol=1e-8)


@pytest.mark.parametrize("dimension", [None, 5])
def test_damped_newton_reaches_the_saddle_of_a_quadratic_and_stays(dimension, symmetric):
    matrix = symmetric([-3.0, -1.0, 0.5, 2.0, 6.0])
    newton = {
        "direction": directions.newton_direction,
        "leave_saddles": False,
        "krylov_dimension": dimension,
    }
    policy = damping_lib.FixedDamping(0.0)
    point = np.array([1.0, -2.0, 0.5, 3.0, 1.0])
    result = take_step(quadratic(matrix), point, policy, **newton)
    np.testing.assert_allclose(point + result.step, 0, atol=1e-9)
    still = take_step(quadratic(matrix), np.zeros(5), policy, **newton)
    np.testing.assert_array_equal(still.step, 0)
    leaving = take_step(quadratic(matrix), np.zeros(5), policy, krylov_dimension=dimension)
    assert np.linalg.norm(leaving.step) > 0.01
