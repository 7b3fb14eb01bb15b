import numpy as np

from helpers import small_classifier


def test_images_become_small_grey_rows():
    images = np.zeros((2, 4, 4, 3), "float32")
    images[0, :2, :2] = 1.0
    rows = small_classifier.small_images(images, 2)
    np.testing.assert_allclose(rows, [[1, 0, 0, 0], [0, 0, 0, 0]], atol=1e-3)
    np.testing.assert_allclose(small_classifier.small_images(images[..., :1], 2), rows, atol=1e-3)


def test_a_classifier_gives_logits_in_the_dtype_asked_for():
    model = small_classifier.build_classifier(4, 3, 2, "tanh", "float64")
    logits = model(np.ones((5, 4)))
    assert logits.shape == (5, 2)
    assert logits.dtype == "float64"
    assert [weights.dtype for weights in model.get_weights()] == ["float64"] * 4
    assert float(model.evaluate(np.ones((5, 4)), np.zeros(5), verbose=0)) > 0
