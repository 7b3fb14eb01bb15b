import inspect
import re

import keras
import pytest

import keras_sfn
from keras_sfn.optimizers import shared_arguments

OPTIMIZERS = [keras_sfn.SaddleFreeNewton, keras_sfn.ExactSaddleFreeNewton, keras_sfn.DampedNewton]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_each_argument_is_documented_once_in_the_order_of_the_signature(optimizer):
    section = re.search(r"\n    Args:\n(.*?)\n\n    \w", optimizer.__doc__, re.DOTALL)[1]
    documented = re.findall(r"^        (\w+): ", section, re.MULTILINE)
    taken = [name for name in inspect.signature(optimizer).parameters if name != "kwargs"]
    assert documented == taken


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_no_placeholder_and_no_long_line_is_left(optimizer):
    assert "{{" not in optimizer.__doc__
    assert max(map(len, optimizer.__doc__.splitlines())) <= 100


def test_shared_arguments_have_one_text():
    texts = [
        re.search(r"micro_batch_size: (.*?)\n        \w", o.__doc__, re.DOTALL)[1]
        for o in OPTIMIZERS
    ]
    assert len(set(texts)) == 1


def test_an_argument_without_a_text_is_an_error():
    class Unknown(keras.optimizers.SGD):
        """Args:
        {{momentum_of_inertia}}
        """

    with pytest.raises(KeyError, match="momentum_of_inertia"):
        shared_arguments.documented(Unknown)


def test_named_are_the_arguments_of_the_signature():
    def constructor(self, first, second=2, **kwargs):
        return shared_arguments.named(locals())

    assert constructor(None, 1, other=3) == {"first": 1, "second": 2}
