import os
import subprocess
import sys

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


def test_another_backend_is_refused_at_once():
    # Stands in for JAX or PyTorch, which need not be installed for the check.
    result = run(
        "import keras\nkeras.config.backend = lambda: 'jax'\nimport keras_sfn", KERAS_BACKEND=""
    )
    assert result.returncode != 0
    assert "ImportError: `keras_sfn` needs Keras on the TensorFlow backend" in result.stderr
    assert "KERAS_BACKEND=tensorflow" in result.stderr


def test_public_names():
    assert set(keras_sfn.__all__) <= set(dir(keras_sfn))
    for name in keras_sfn.__all__:
        assert getattr(keras_sfn, name) is not None
    assert keras_sfn.__version__.count(".") == 2
