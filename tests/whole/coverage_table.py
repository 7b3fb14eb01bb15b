"""Writes the page on which layers, activations and losses have the right curvature.

python -m tests.whole.coverage_table --output=docs/curvature_coverage.md
"""

import importlib.metadata
import pathlib

from absl import app, flags

from tests.whole import coverage_cases as cases

_OUTPUT = flags.DEFINE_string("output", "docs/curvature_coverage.md", "The page to write.")

_HEAD = """# Which layers have the right curvature

Written by `python -m tests.whole.coverage_table`, with Keras {keras} and TensorFlow {tensorflow};
the same cases are tests (`tests/whole/test_coverage.py`). For each layer, activation and loss
that Keras exports, a small model's Hessian-vector products are compared with differences of its
gradient by `keras_sfn.check_curvature`. The error is the largest over the model's variables,
relative to the product, in float64, or in float32 where TensorFlow has no other kernel; most of
it is that of the differences. *Refused* means an error that names the layer before the first
step.
"""


def row(name, outcome, dtype, note=""):
    """One line of a table; raises for an outcome that is neither right nor refused."""
    if outcome.verdict == "refused":
        # Without the layer, whose name is that of a model in these tests.
        reason = outcome.reason.split(", in `", 1)[0].removeprefix("The loss ")
        return f"| {name} | refused | | {reason} |"
    if outcome.verdict != "right":
        raise RuntimeError(f"{name} is not right:\n{outcome.verdict}")
    note = "; ".join(part for part in (note, dtype if dtype != "float64" else "") if part)
    return f"| {name} | right | {outcome.error:.0e} | {note} |"


def _table(title, rows):
    return "\n".join([f"\n## {title}\n", "| | curvature | error | |", "|---|---|---|---|", *rows])


def _layers():
    for name, aliases in sorted(cases.classes().items()):
        also = "also " + ", ".join(f"`{alias}`" for alias in aliases) if aliases else ""
        if name in cases.OTHER_FRAMEWORKS:
            package, seen = cases.OTHER_FRAMEWORKS[name]
            yield f"| `{name}` | {seen} | | needs {package}, not part of the tests |"
            continue
        case = cases.CASES[name]
        note = "; ".join(part for part in (case.note, also) if part)
        yield row(f"`{name}`", cases.outcome(name, case), case.dtype, note)


def _after_weights():
    for name, case in sorted(cases.AFTER_WEIGHTS.items()):
        yield row(f"`{name}`", cases.outcome(name, case), case.dtype, case.note)


def _variants():
    for (label, name), case in sorted(cases.VARIANTS.items(), key=lambda item: item[0][::-1]):
        yield row(f"`{name}`, {label}", cases.outcome(name, case), case.dtype, case.note)


def main(argv):
    """Runs every case and writes the page."""
    del argv
    versions = {name: importlib.metadata.version(name) for name in ("keras", "tensorflow")}
    parts = [
        _HEAD.format(**versions).rstrip("\n"),
        _table("Layers", _layers()),
        _table("Layers used in other ways", _variants()),
        _table(
            "Augmentation after weights",
            _after_weights(),
        ),
        _table(
            "Activations",
            (row(f"`{n}`", cases.activation_outcome(n), "float64") for n in cases.ACTIVATIONS),
        ),
        _table("Losses", (row(f"`{n}`", cases.loss_outcome(n), "float64") for n in cases.LOSSES)),
    ]
    output = pathlib.Path(_OUTPUT.value)
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text("\n".join(parts) + "\n")


if __name__ == "__main__":
    app.run(main)
