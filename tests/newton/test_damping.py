import numpy as np
import pytest
import tensorflow as tf

from keras_sfn.newton import damping as damping_lib

RITZ_VALUES = tf.constant([-2.0, 0.5, 4.0], "float64")
GRADIENT = tf.constant([1.0, 2.0, -3.0], "float64")
ORIGIN = tf.zeros(3, "float64")
START = tf.constant(10.0, "float64")
UNSET = tf.constant(damping_lib.UNSET, "float64")


def quadratic(position):
    return START + tf.reduce_sum(position * (GRADIENT + 0.5 * RITZ_VALUES * position))


def problem(loss, learning_rate=1.0, clip=lambda z: z):
    return damping_lib.SubspaceLoss(RITZ_VALUES, loss, clip, tf.constant(learning_rate, "float64"))


def direction(damping):
    return -GRADIENT.numpy() / (np.abs(RITZ_VALUES.numpy()) + damping)


def choose(policy, loss=quadratic, damping=UNSET, **kwargs):
    return policy.choose(
        problem(loss, **kwargs), damping_lib.Start(ORIGIN, START, GRADIENT, damping)
    )


def test_fixed_damping_takes_the_step_of_the_formula():
    choice = choose(damping_lib.FixedDamping(0.3))
    np.testing.assert_allclose(choice.position, direction(0.3))
    np.testing.assert_allclose(choice.loss, quadratic(choice.position))
    np.testing.assert_allclose(choice.predicted_reduction, START - choice.loss)
    assert float(choice.damping) == 0.3


def test_fixed_damping_accepts_a_rising_loss():
    choice = choose(damping_lib.FixedDamping(0.3), lambda z: START + tf.norm(z))
    assert bool(choice.accepted)
    assert float(choice.loss) > 10


@pytest.mark.parametrize(
    "policy",
    [
        damping_lib.FixedDamping(0.3),
        damping_lib.SearchDamping((1.0, 0.1)),
        damping_lib.AdaptiveDamping(),
    ],
)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_no_policy_accepts_a_loss_that_is_not_finite(policy, bad):
    choice = choose(policy, lambda z: tf.constant(bad, "float64"))
    assert not bool(choice.accepted)
    np.testing.assert_array_equal(choice.position, ORIGIN)
    assert float(choice.loss) == 10


@pytest.mark.parametrize(
    "policy", [damping_lib.SearchDamping((1.0, 0.1)), damping_lib.AdaptiveDamping()]
)
def test_monotone_policies_reject_a_loss_that_does_not_fall(policy):
    choice = choose(policy, lambda z: START)
    assert not bool(choice.accepted)
    np.testing.assert_array_equal(choice.position, ORIGIN)


@pytest.mark.parametrize("best", [0, 1, 2])
def test_search_takes_the_candidate_with_the_lowest_loss(best):
    grid = (1.0, 0.1, 0.01)
    target = direction(grid[best] * 4)
    choice = choose(damping_lib.SearchDamping(grid), lambda z: tf.norm(z - target), damping=UNSET)
    np.testing.assert_allclose(choice.position, target)
    np.testing.assert_allclose(choice.damping, grid[best] * 4)
    np.testing.assert_allclose(choice.next_damping, grid[best] * 4)


def test_search_passes_over_candidates_that_are_not_finite():
    def loss(z):
        wild = tf.norm(z) > np.linalg.norm(direction(0.4)) + 1e-6
        return tf.where(wild, tf.constant(np.nan, "float64"), quadratic(z))

    for grid in [(10.0, 1.0, 0.1, 0.01), (0.01, 0.1, 1.0, 10.0)]:
        choice = choose(damping_lib.SearchDamping(grid), loss)
        np.testing.assert_allclose(choice.damping, 0.4)


GRID = (10.0, 1.0, 0.1, 0.01, 1e-3)


@pytest.mark.parametrize("grid", [GRID, GRID[::-1]])
@pytest.mark.parametrize("last", range(5))
@pytest.mark.parametrize("best", range(5))
def test_search_walks_from_the_last_value_to_the_best(grid, last, best):
    target, tried = direction(grid[best] * 4), []

    def loss(z):
        tried.append(1)
        return tf.norm(z - target)

    damping = tf.constant(grid[last] * 4, "float64")
    choice = choose(damping_lib.SearchDamping(grid), loss, damping=damping)
    np.testing.assert_allclose(choice.position, target)
    np.testing.assert_allclose(choice.next_damping, grid[best] * 4)
    # The value itself, one past the best, and perhaps one on the wrong side.
    assert len(tried) <= 3 + abs(best - last)


def test_search_with_one_value():
    policy = damping_lib.SearchDamping((0.1,))
    for damping in (UNSET, tf.constant(3.0, "float64")):
        np.testing.assert_allclose(choose(policy, damping=damping).position, direction(0.4))


def test_search_tries_everything_again_after_a_rejection():
    choice = choose(damping_lib.SearchDamping(GRID), lambda z: START, damping=UNSET)
    assert float(choice.next_damping) == damping_lib.UNSET


def test_search_is_invariant_to_the_scale_of_the_loss():
    policy = damping_lib.SearchDamping((1.0, 0.1, 0.01))
    plain = choose(policy)
    scaled = policy.choose(
        damping_lib.SubspaceLoss(
            1e3 * RITZ_VALUES,
            lambda z: 1e3 * quadratic(z),
            lambda z: z,
            tf.constant(1.0, "float64"),
        ),
        damping_lib.Start(ORIGIN, 1e3 * START, 1e3 * GRADIENT, UNSET),
    )
    np.testing.assert_allclose(scaled.position, plain.position)


def test_learning_rate_and_clip_shape_the_trial():
    choice = choose(damping_lib.FixedDamping(0.3), learning_rate=0.5, clip=lambda z: 0.1 * z)
    np.testing.assert_allclose(choice.position, 0.05 * direction(0.3))
    np.testing.assert_allclose(choice.predicted_reduction, START - quadratic(choice.position))


def test_adaptive_starts_at_a_thousandth_of_the_largest_ritz_value():
    choice = choose(damping_lib.AdaptiveDamping())
    np.testing.assert_allclose(choice.damping, 4e-3)


def test_adaptive_lowers_the_damping_by_three_where_the_model_is_exact():
    choice = choose(damping_lib.AdaptiveDamping(), damping=tf.constant(0.3, "float64"))
    np.testing.assert_allclose(choice.damping, 0.3)
    np.testing.assert_allclose(choice.next_damping, 0.1)


def test_adaptive_follows_nielsens_rule():
    # A loss that falls by a quarter of what the model promises.
    slow = lambda z: START + 0.25 * (quadratic(z) - START)
    choice = choose(damping_lib.AdaptiveDamping(), slow, damping=tf.constant(0.3, "float64"))
    np.testing.assert_allclose(choice.next_damping, 0.3 * (1 - (2 * 0.25 - 1) ** 3))


def test_adaptive_tries_again_in_the_same_subspace():
    longest = np.linalg.norm(direction(2.0))
    loss = lambda z: tf.where(tf.norm(z) > longest, START + 1, quadratic(z))
    choice = choose(damping_lib.AdaptiveDamping(), loss, damping=tf.constant(0.3, "float64"))
    assert bool(choice.accepted)
    np.testing.assert_allclose(choice.damping, 0.3 * 2 * 4)  # 0.3 and 0.6 are too small


def test_adaptive_raises_the_damping_of_the_next_step_after_a_rejection():
    choice = choose(
        damping_lib.AdaptiveDamping(), lambda z: START, damping=tf.constant(1.0, "float64")
    )
    np.testing.assert_allclose(choice.damping, 2.0**15)
    # More than a thousand times the curvature: it begins again.
    assert float(choice.next_damping) == damping_lib.UNSET
    choice = choose(
        damping_lib.AdaptiveDamping(), lambda z: START, damping=tf.constant(0.01, "float64")
    )
    np.testing.assert_allclose(choice.next_damping, 0.01 * 2.0**16)


@pytest.mark.parametrize(
    ("actual", "predicted", "expected"), [(1.0, 2.0, 0.5), (1.0, 0.0, 0.0), (-1.0, 2.0, -0.5)]
)
def test_reduction_ratio(actual, predicted, expected):
    ratio = damping_lib.reduction_ratio(tf.constant(actual), tf.constant(predicted))
    assert float(ratio) == expected


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_adaptive_damping_stays_where_it_acts_however_many_steps_are_rejected(dtype):
    policy, epsilon = damping_lib.AdaptiveDamping(), np.finfo(dtype).eps
    ritz_values, gradient, origin = (tf.cast(t, dtype) for t in (RITZ_VALUES, GRADIENT, ORIGIN))
    start, damping = tf.cast(START, dtype), tf.cast(UNSET, dtype)
    flat = damping_lib.SubspaceLoss(ritz_values, lambda z: start, lambda z: z, tf.ones((), dtype))
    seen = []
    for _ in range(10):
        at = damping_lib.Start(origin, start, gradient, damping)
        choice = policy.choose(flat, at)
        damping = choice.next_damping
        seen.append(float(choice.damping))
    # From a thousandth of the curvature, 4, to more than a thousand times that, and again.
    np.testing.assert_allclose(seen, [4e-3 * 2.0**15, 4e-3 * 2.0**31] * 5, rtol=1e-5)
    # A step of the same kind that lowers the loss brings it back too.
    lower = flat._replace(loss=lambda z: start - 1)
    at = damping_lib.Start(origin, start, gradient, tf.cast(1e8, dtype))
    np.testing.assert_allclose(policy.choose(lower, at).next_damping, 4)
    # The state of another loss, of much larger curvature, is brought into its range too.
    steep = flat._replace(ritz_values=ritz_values * 1e20, loss=lambda z: start - 1)
    at = damping_lib.Start(origin, start, gradient, tf.cast(1e-8, dtype))
    choice = policy.choose(steep, at)
    np.testing.assert_allclose(choice.damping, 4e20 * epsilon)


def test_a_gradient_whose_squares_overflow_has_a_finite_scale():
    flat = damping_lib.SubspaceLoss(
        tf.zeros(3), lambda z: tf.constant(1.0), lambda z: z, tf.constant(1.0)
    )
    gradient = tf.constant([1e25, -1e25, 0.0])
    choice = damping_lib.AdaptiveDamping().choose(
        flat,
        damping_lib.Start(tf.zeros(3), tf.constant(2.0), gradient, tf.constant(-1.0)),
    )
    expected = 1e-3 * np.finfo("float32").eps ** 0.5 * 2**0.5 * 1e25
    np.testing.assert_allclose(choice.damping, expected, rtol=1e-5)


def extended(theta, gradient, loss, damping=1e-3):
    restricted = damping_lib.SubspaceLoss(
        tf.constant([theta], "float64"), loss, lambda z: z, tf.ones((), "float64")
    )
    start = damping_lib.Start(
        tf.zeros(1, "float64"),
        loss(tf.zeros(1, "float64")),
        tf.constant([gradient], "float64"),
        tf.constant(damping, "float64"),
    )
    return damping_lib.AdaptiveDamping().choose(restricted, start)


def test_a_step_along_negative_curvature_is_doubled_while_that_pays():
    # Of x^4 / 4 - x^2 / 2 near its saddle: the minimum is at 1, the model's step is 0.01.
    well = lambda z: tf.reduce_sum(z**4 / 4 - z**2 / 2 - 0.01 * z)
    choice = extended(-1.0, -0.01, well)
    assert bool(choice.accepted)
    assert 0.6 < float(choice.position[0]) < 1.3
    np.testing.assert_allclose(choice.loss, well(choice.position))


def test_a_step_damped_far_too_much_is_doubled_to_the_model_s_own():
    parabola = lambda z: tf.reduce_sum(0.5 * (z - 1) ** 2)
    choice = extended(1.0, -1.0, parabola, damping=500.0)
    assert 0.5 <= float(choice.position[0]) <= 1.5


def test_a_step_to_the_minimum_of_the_model_is_not_doubled():
    calls = []

    def parabola(z):
        calls.append(z)
        return tf.reduce_sum(0.5 * (z - 1) ** 2)

    choice = extended(1.0, -1.0, parabola)
    np.testing.assert_allclose(choice.position, 1 / 1.001)
    # That at the start and one trial.
    assert len(calls) == 2
