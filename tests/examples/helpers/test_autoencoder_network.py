"""The paper's network and its sparse initialisation."""

import numpy as np
import pytest

from helpers import autoencoder_network


def test_layers_mirror_each_other_around_a_linear_code():
    model = autoencoder_network.build_autoencoder(36, [12, 7, 3], "sigmoid", "sparse", seed=0)
    assert [layer.units for layer in model.layers] == [12, 7, 3, 7, 12, 36]
    names = [layer.activation.__name__ for layer in model.layers]
    assert names == ["sigmoid", "sigmoid", "linear", "sigmoid", "sigmoid", "linear"]


def test_each_unit_has_so_many_normal_weights():
    kernel = np.asarray(autoencoder_network.Sparse(3)((200, 400), "float32"))
    assert (np.count_nonzero(kernel, axis=0) == 15).all()
    values = kernel[kernel != 0]
    assert abs(values.mean()) < 0.05
    assert abs(values.std() - 1) < 0.05
    assert len({tuple(np.flatnonzero(column)) for column in kernel.T}) > 390


def test_fewer_inputs_than_weights_are_all_used():
    assert np.count_nonzero(autoencoder_network.Sparse(0)((4, 6))) == 24


@pytest.mark.parametrize("initializer", autoencoder_network.INITIALIZERS)
def test_the_seed_decides(initializer):
    def weights(seed):
        return autoencoder_network.build_autoencoder(
            16, [8, 2], "tanh", initializer, seed
        ).get_weights()

    for first, again, other in zip(weights(1), weights(1), weights(2), strict=True):
        np.testing.assert_array_equal(first, again)
        if first.ndim == 2:
            assert (first != other).any()


def test_layers_differ_from_each_other():
    model = autoencoder_network.build_autoencoder(20, [20, 20, 20], "tanh", "sparse", seed=0)
    kernels = [layer.kernel.numpy() for layer in model.layers]
    assert all((kernels[0] != kernel).any() for kernel in kernels[1:])


def test_the_initialiser_is_saved_with_its_arguments():
    kept = autoencoder_network.Sparse.from_config(
        autoencoder_network.Sparse(5, 3, 0.5).get_config()
    )
    expected = autoencoder_network.Sparse(5, 3, 0.5)((9, 9))
    np.testing.assert_array_equal(kept((9, 9)), expected)
