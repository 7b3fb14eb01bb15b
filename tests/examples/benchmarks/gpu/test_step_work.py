"""Arithmetic and traffic of a step, against counts by hand and the compiler's own."""

import math
import re

import pytest

from benchmarks.common import deep_autoencoder
from benchmarks.cost import iteration_programs
from benchmarks.gpu import step_work

WIDTHS, ROWS = (64, 128, 32), 256
SHAPES = deep_autoencoder.layer_shapes(WIDTHS)


def compilers_flops(function, arguments):
    """Counts multiplications and additions in the matrix products of a program."""
    text = function.experimental_get_compiler_ir(*arguments)(stage="hlo")
    shapes = {
        name: [int(size) for size in re.findall(r"\d+", sizes)]
        for name, sizes in re.findall(r"(%?[\w.-]+) = f32\[([\d,]*)\]", text)
    }
    products = re.findall(
        r"(%?[\w.-]+) = f32\S+ dot\((?:f32\S+ )?(%?[\w.-]+), .*lhs_contracting_dims={(\d)}", text
    )
    assert len(products) == text.count(" dot(")
    return sum(
        2 * math.prod(shapes[result]) * shapes[left][int(contracted)]
        for result, left, contracted in products
    )


@pytest.mark.parametrize("kind", ["loss", "gradient", "product"])
def test_arithmetic_is_that_of_the_programs_matrix_products(kind):
    programs = iteration_programs.Programs(WIDTHS, ROWS)
    counted = compilers_flops(getattr(programs, kind)(), programs.arguments)
    work = getattr(step_work.Parts(SHAPES, ROWS), kind)()
    # A program may do more: a derivative that is zero, a product that is taken twice.
    assert work.flops <= counted <= 1.5 * work.flops
    if kind != "product":
        assert counted == work.flops


def test_a_product_is_two_gradients_but_for_the_first_layer():
    parts = step_work.Parts([(10, 10)] * 50, rows=100)
    assert parts.another_product().flops / parts.gradient().flops == pytest.approx(2, rel=0.02)


def test_an_iteration_reads_the_rows_before_it_twice():
    parts = step_work.Parts([(10, 10)], rows=1)
    vector = 4 * 110
    seen = parts.lanczos(8).bytes - parts.lanczos(7).bytes
    # The eight rows twice, and the new one; weights, vector and product.
    assert seen == (2 * 8 + 1 + 3) * vector
    assert parts.products(8).bytes - parts.products(7).bytes == (3 + 2) * vector
    flops = parts.lanczos(8).flops - parts.lanczos(7).flops - parts.another_product().flops
    assert flops == 4 * 8 * 110


def test_a_step_is_a_gradient_a_lanczos_process_and_three_trials():
    parts = step_work.Parts([(10, 10), (10, 5)], rows=20)
    rest = step_work.total([(1, parts.gradient()), (1, parts.lanczos(3)), (3, parts.loss())])
    n = 110 + 55
    assert parts.step(3).bytes - rest.bytes == 3 * 3 * 4 * n
    assert parts.step(3).flops - rest.flops == 3 * 2 * 3 * n


def test_a_solution_is_four_products_a_layer():
    parts = step_work.Parts([(3, 5), (5, 2)], rows=7)
    # Of (4, 5) and (6, 2): with the eigenvectors of both sides, and again transposed.
    assert parts.solve().flops == 4 * (4 * 5 * (4 + 5) + 6 * 2 * (6 + 2))
    eigenvectors = 16 + 25 + 36 + 4
    assert parts.solve().bytes == 4 * (eigenvectors + 3 * (4 * 5 + 6 * 2))
    assert 2 * parts.rotation().flops == parts.solve().flops


def test_a_default_step_is_a_gradient_products_solutions_and_three_trials():
    batch, part = (step_work.Parts([(10, 10), (10, 5)], rows) for rows in (20, 5))
    others = step_work.total(
        [(1, batch.gradient()), (1, part.products(2)), (1, batch.solve()), (3, batch.loss())]
    )
    n = 110 + 55
    step = step_work.default_step(2, batch, part)
    assert step.flops == others.flops + 3 * 2 * 2 * n
    # Products of a loop are normalised besides: read and written.
    assert step.bytes == others.bytes - 2 * 2 * 4 * n + 3 * 2 * 4 * n


def test_arithmetic_of_a_renewal_is_that_of_its_program():
    programs = iteration_programs.Programs((24, 16, 8), ROWS)
    work = step_work.Parts(deep_autoencoder.layer_shapes((24, 16, 8)), 64)
    # One sample and one probe: what is in a loop is counted once.
    counted = compilers_flops(programs.renewal(1, 64, 1, 64), programs.arguments)
    least = step_work.renewal(1, work, 1, work).flops
    assert least <= counted <= 1.5 * least
