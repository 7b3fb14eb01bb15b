import sys

import matplotlib
import numpy as np
import pytest

import keras_sfn
from keras_sfn.curvature import report

matplotlib.use("Agg")
from matplotlib import pyplot as plt


@pytest.fixture
def spectrum(make_hessian):
    hessian, _ = make_hessian([-1.0, 0.1, 0.2, 3.0])
    return keras_sfn.spectral_density(hessian, num_steps=3, num_probes=3)


def test_the_curve_is_the_density_and_lies_in_its_band(spectrum):
    axes = keras_sfn.plot_spectral_density(spectrum, label="after training")
    (line,) = axes.get_lines()
    np.testing.assert_array_equal(line.get_xdata(), spectrum.grid)
    np.testing.assert_array_equal(line.get_ydata(), spectrum.density)
    assert line.get_label() == "after training"
    assert axes.get_yscale() == "log"
    assert axes.get_title() == ""
    (band,) = axes.collections
    highest = (spectrum.density + 2 * spectrum.standard_error).max()
    assert band.get_paths()[0].vertices[:, 1].max() == pytest.approx(highest)
    plt.close(axes.figure)


def test_axes_of_the_user_are_drawn_into(spectrum):
    figure, panels = plt.subplots(1, 2)
    assert keras_sfn.plot_spectral_density(spectrum, panels[1]) is panels[1]
    assert not panels[0].get_lines()
    plt.close(figure)


def test_a_title_says_that_the_curvature_is_wrong(spectrum):
    check = report.VariableCheck("kernel", (4,), 1.0, 0.0, report.WRONG)
    wrong = spectrum._replace(curvature_report=report.CurvatureReport((check,), 1e-6, 0))
    axes = keras_sfn.plot_spectral_density(wrong)
    assert axes.get_title() == "The curvature is wrong: see `curvature_report`"
    plt.close(axes.figure)


def test_without_matplotlib_the_error_says_what_to_install(spectrum, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ImportError, match=r"needs Matplotlib.*`pip install matplotlib`"):
        keras_sfn.plot_spectral_density(spectrum)
