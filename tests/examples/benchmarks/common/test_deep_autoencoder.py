"""The autoencoder of the benchmarks."""

from benchmarks.common import deep_autoencoder


def test_scaled_widths_keep_proportions_and_reach_the_size():
    assert deep_autoencoder.parameters(deep_autoencoder.WIDTHS) == 2_837_314
    for size in (1e4, 1e5, 1e7):
        widths = deep_autoencoder.scaled(deep_autoencoder.WIDTHS, int(size))
        assert abs(deep_autoencoder.parameters(widths) / size - 1) < 0.05
        assert abs(widths[1] / widths[0] / (1000 / 784) - 1) < 0.03


def test_the_network_is_as_wide_as_it_says():
    assert deep_autoencoder.layer_shapes((12, 8, 4)) == [(12, 8), (8, 4), (4, 8), (8, 12)]
    model = deep_autoencoder.build((12, 8, 4))
    activations = [layer.activation.__name__ for layer in model.layers]
    assert activations == ["tanh", "linear", "tanh", "sigmoid"]
    assert model.count_params() == deep_autoencoder.parameters((12, 8, 4)) == 288
    images = deep_autoencoder.batch((12, 8, 4), 5)
    assert model(images).shape == images.shape == (5, 12)
