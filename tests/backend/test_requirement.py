import os
import subprocess
import sys

import pytest

import keras_sfn


def run(program, **environment):
    program = f"import sys; sys.path[:0] = {sys.path!r}\n{program}"
    return subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        env=os.environ | environment,
        check=False,
    )


@pytest.mark.parametrize("name", ["jax", "torch", "numpy"])
def test_another_backend_is_refused_at_once_even_if_its_package_is_missing(name):
    result = run("import keras_sfn", KERAS_BACKEND=name)
    assert result.returncode != 0
    assert "ImportError: `keras_sfn` needs Keras on the TensorFlow backend" in result.stderr
    assert f"{name!r}. Set the environment variable KERAS_BACKEND=tensorflow" in result.stderr


def test_another_backend_is_refused_where_keras_is_imported_already():
    # The configuration stands in for a backend whose package need not be installed here.
    program = "import keras\nkeras.config.backend = lambda: 'jax'\nimport keras_sfn"
    result = run(program, KERAS_BACKEND="")
    assert "ImportError: `keras_sfn` needs Keras on the TensorFlow backend" in result.stderr


def test_public_names():
    assert set(keras_sfn.__all__) <= set(dir(keras_sfn))
    for name in keras_sfn.__all__:
        assert getattr(keras_sfn, name) is not None
    assert keras_sfn.__version__.count(".") == 2
