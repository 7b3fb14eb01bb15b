"""The page of losses and activations says what the default decides."""

import importlib.metadata
import pathlib
import re

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.whole import losses_table as table

PAGE = (pathlib.Path(__file__).parents[2] / "docs/losses.md").read_text()
WRITTEN_WITH = re.search(r"with Keras (\S+) and TensorFlow (\S+)\.\n", PAGE).groups()
CELLS = table.parsed(PAGE)


def differing(activations, losses, ways=table.ways):
    """Returns the cells in which the page is wrong, with what is right."""
    found = {
        (activation, loss, way): table.decision(activation, loss, way)
        for activation in activations
        for loss in losses
        for way in ways(activation, loss)
    }
    assert found
    return {
        (activation, loss, way): decided
        for (activation, loss, way), decided in found.items()
        if table.expected(CELLS[activation.split(" = ")[0], loss], way) != decided
    }


def test_the_page_has_every_loss_and_activation():
    names = [name for column in table.ACTIVATIONS for name in column.split(" = ")]
    missing = {(name, loss) for name in names for loss in table.LOSSES} - set(CELLS)
    assert missing == set()


def test_the_page_is_what_the_script_writes():
    if importlib.metadata.version("keras") != WRITTEN_WITH[0]:
        pytest.skip(f"the page was written with Keras {WRITTEN_WITH[0]}")
    assert table.page(CELLS, *WRITTEN_WITH) == PAGE


def one_way(activation, loss):
    return table.ways(activation, loss)[:1]


def test_a_row():
    assert differing(table.ACTIVATIONS, ["MeanSquaredError"], one_way) == {}


def test_a_column():
    assert differing(["softmax"], table.LOSSES, one_way) == {}


@pytest.mark.slow
@pytest.mark.parametrize("loss", table.LOSSES)
def test_every_cell(loss):
    # Refused for its own op, whatever comes before it; its traces take longest.
    activations = list(table.ACTIVATIONS)[::10] if loss == "CTC" else table.ACTIVATIONS
    assert differing(activations, [loss]) == {}


@pytest.mark.parametrize("way", table.WAYS)
def test_the_decision_is_that_of_a_graph(way):
    for loss in ("CategoricalCrossentropy", "Circle"):
        assert table.decision("softmax", loss, way, run_eagerly=False) == "yes"


def test_a_decision_can_be_no():
    optimizer = table.Deciding()
    variable = keras.Variable(np.arange(3.0))
    optimizer.build([variable])
    optimizer.minimize(lambda: tf.reduce_sum(variable.value**4), [variable])
    assert optimizer.decision == "no"


def test_a_cell_names_ways_that_differ():
    decided = dict.fromkeys(table.WAYS, "yes")
    assert table.cell(decided) == "yes"
    decided["minimize/add_loss"] = "no"
    cell = table.cell(decided)
    assert cell.startswith("no: minimize/add_loss; yes: fit/targets, ")
    assert {way: table.expected(cell, way) for way in table.WAYS} == decided


def test_a_cell_that_changes_is_found(monkeypatch):
    monkeypatch.setitem(CELLS, ("softmax", "Poisson"), "no")
    assert list(differing(["softmax"], ["Poisson"]).values()) == ["yes"]
