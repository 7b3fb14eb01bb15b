"""Every layer, activation and loss that Keras exports has the right Hessian, or is refused.

The names are read from the installed Keras, so that one that a new release adds fails here until it
is listed in `coverage_cases`. `coverage_table.py` writes the outcome into the documentation.
"""

import importlib.util

import keras
import pytest

from tests.whole import coverage_cases as cases

pytestmark = pytest.mark.slow


def assert_as_expected(outcome, refused, gradient="right"):
    if refused:
        assert outcome.verdict == "refused", outcome
        assert refused in outcome.reason
    else:
        assert outcome.verdict == "right", outcome.verdict
        assert outcome.gradient in (gradient, "not resolved")


@pytest.mark.parametrize("name", sorted(set(cases.classes()) - set(cases.OTHER_FRAMEWORKS)))
def test_layers(name):
    assert name in cases.CASES, f"Keras has a new layer, {name}: add it to `coverage_cases.CASES`"
    case = cases.CASES[name]
    assert_as_expected(cases.outcome(name, case), case.refused)


@pytest.mark.parametrize("name", sorted(set(cases.AFTER_WEIGHTS) & set(cases.classes())))
def test_augmentations_after_weights(name):
    case = cases.AFTER_WEIGHTS[name]
    gradient = "wrong" if name in cases.INVENTED_GRADIENTS else "right"
    assert_as_expected(cases.outcome(name, case), case.refused, gradient)


@pytest.mark.parametrize(("label", "name"), sorted(cases.VARIANTS))
def test_variants(label, name):
    case = cases.VARIANTS[label, name]
    assert_as_expected(cases.outcome(name, case), case.refused)


@pytest.mark.parametrize("name", cases.ACTIVATIONS)
def test_activations(name):
    assert_as_expected(cases.activation_outcome(name), "")


@pytest.mark.parametrize("name", cases.LOSSES)
def test_losses(name):
    assert_as_expected(cases.loss_outcome(name), cases.REFUSED_LOSSES.get(name, ""))


@pytest.mark.parametrize("name", sorted(cases.OTHER_FRAMEWORKS))
def test_layers_of_other_frameworks_are_refused_by_keras_where_these_are_missing(name):
    package, _ = cases.OTHER_FRAMEWORKS[name]
    if importlib.util.find_spec(package) is not None:
        pytest.skip(f"{package} is installed")
    with pytest.raises(ImportError, match=package):
        getattr(keras.layers, name)(None)
