"""The reference says of names and defaults what the signatures say, no less and no more."""

import inspect
import pathlib
import re

import pytest

import keras_sfn
from keras_sfn import validation
from keras_sfn.newton import step

pytestmark = pytest.mark.checkout

REFERENCE = (pathlib.Path(__file__).parents[2] / "docs" / "reference.md").read_text()
OPTIMIZERS = ["SaddleFreeNewton", "ExactSaddleFreeNewton", "DampedNewton"]


def table(first, text=REFERENCE):
    """Returns the header and the rows of the table whose header starts with a cell."""
    start = text.index(f"\n| {first} |") + 1
    lines = text[start:].split("\n\n")[0].splitlines()
    header, _, *rows = [
        [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines
    ]
    return header, rows


def names(cell):
    """Returns what stands in backticks, in order."""
    return re.findall(r"`([^`]+)`", cell)


def section(title):
    """Returns the text below a heading up to the next of its rank."""
    return REFERENCE[REFERENCE.index(f"\n## {title}\n") + 1 :].split("\n## ")[0]


def shown(default):
    """Returns a default as the tables write it."""
    return f'`"{default}"`' if isinstance(default, str) else str(default)


def parameters(function):
    """Returns names and defaults as the tables write them."""
    return {
        name: "" if parameter.default is parameter.empty else shown(parameter.default)
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.kind is not parameter.VAR_KEYWORD
    }


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_arguments_and_defaults_are_those_of_the_signature(optimizer):
    header, rows = table("argument")
    column = header.index(f"`{optimizer}`")
    documented = {names(row[0])[0]: row[column] for row in rows if row[column] != "-"}
    assert documented == parameters(getattr(keras_sfn, optimizer))


def test_the_table_has_a_column_for_each_optimizer_and_meanings():
    header, rows = table("argument")
    assert header == ["argument", *(f"`{name}`" for name in OPTIMIZERS), "meaning"]
    assert all(row[-1] for row in rows)


@pytest.mark.parametrize(
    "name",
    ["CurvatureLogger", "SpectrumLogger", "check_curvature", "spectral_density", "top_eigenpairs"],
)
def test_arguments_of_the_other_names(name):
    _, rows = table("argument", section(f"`{name}`"))
    documented = {name: row[1] for row in rows for name in names(row[0])}
    assert documented == parameters(getattr(keras_sfn, name))


def test_arguments_of_the_plot():
    text = section("`spectral_density`")
    _, rows = table("argument", text[text.index("`plot_spectral_density` draws") :])
    documented = {name: row[1] for row in rows for name in names(row[0])}
    assert documented == parameters(keras_sfn.plot_spectral_density)


def test_the_estimates_are_called_as_shown():
    shown = re.search(r"`keras_sfn\.estimate_trace\((.*?)\)`", REFERENCE)[1]
    for function in (keras_sfn.estimate_trace, keras_sfn.estimate_diagonal):
        expected = parameters(function)
        assert shown == ", ".join(
            f"{name}={default}" if default else name for name, default in expected.items()
        )


@pytest.mark.parametrize("name", ["SpectralDensity", "EigenPairs", "Estimate", "LanczosResult"])
def test_parts_of_named_tuples_are_all_there(name):
    for field in getattr(keras_sfn, name)._fields:
        assert f"`{field}`" in REFERENCE, field


def test_lanczos_and_from_model_are_called_as_shown():
    plain = inspect.signature(keras_sfn.lanczos)
    call = re.search(r"`keras_sfn\.lanczos\((.*?)\)`", section("`lanczos`"))[1]
    called = [part.split("=") for part in re.split(r", (?![^(]*\))", call)]
    assert [name for name, *_ in called] == list(plain.parameters)
    for name, *default in called:
        if default:
            assert default == [str(plain.parameters[name].default)]
    documented = re.search(r"from_model\((.*?)\)`", section("`HessianOperator`"))[1]
    expected = parameters(keras_sfn.HessianOperator.from_model)
    assert documented == ", ".join(
        f"{name}={default}" if default else name for name, default in expected.items()
    )


def test_fields_and_outcomes_are_all_there():
    _, rows = table("field", section("`lanczos`"))
    fields = [name for row in rows for name in names(row[0])]
    assert fields == list(keras_sfn.LanczosResult._fields)
    _, rows = table("`outcome`")
    outcomes = {name.strip('"') for row in rows for name in names(row[0])}
    assert outcomes == set(step.OUTCOMES)


def test_attributes_and_methods_exist():
    _, rows = table("of an optimizer")
    documented = [re.match(r"\w+", names(row[0])[0])[0] for row in rows]
    assert {"minimize", "last_step", "options_in_use"} < set(documented)
    # Set by the constructor or not: either the class or an object has it.
    optimizer = keras_sfn.SaddleFreeNewton()
    for name in documented:
        assert hasattr(type(optimizer), name) or hasattr(optimizer, name), name
    _, rows = table("name", section("`HessianOperator`"))
    operator = inspect.getsource(keras_sfn.HessianOperator)
    for row in rows:
        for name in names(row[0]):
            member = re.match(r"(?:HessianOperator\.?)?(\w*)", name)[1]
            assert not member or f"self.{member} =" in operator or f"def {member}(" in operator


def test_the_options_of_keras_that_are_refused_are_all_there():
    _, rows = table("refused")
    assert {name for row in rows for name in names(row[0])} == set(validation.REFUSED_KERAS_OPTIONS)
