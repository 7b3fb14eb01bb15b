"""The suite as a user runs it, in short form."""

import pytest

from benchmarks.suite import contestants
from tests import scripts

SCRIPT = scripts.EXAMPLES / "benchmarks/suite/run.py"


@pytest.mark.slow
def test_the_quick_form_writes_all_and_the_same_command_trains_no_more(tmp_path, capsys):
    flags = ["--quick", "--tasks=softmax_mlp", f"--output_dir={tmp_path}"]
    flags += ["--newton=jit_compile=False,stochastic=False"]
    scripts.call(SCRIPT, *flags)
    first = capsys.readouterr().out
    assert first.count(" steps in ") == 2
    report = (tmp_path / "report.md").read_text()
    assert "| softmax_mlp, newton (jit_compile=False,stochastic=False) |" in report
    assert "| preconditioned directions |" in report
    for name in ("suite.png", "softmax_mlp.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "suite.csv").read_text().count("\n") == 3
    # One is lost, as where a command was interrupted.
    (lost,) = (tmp_path / "runs/softmax_mlp").glob("adam*seed 0.json")
    lost.unlink()
    scripts.call(SCRIPT, *flags)
    assert capsys.readouterr().out.count(" steps in ") == 1


@pytest.mark.slow
def test_a_script_finds_its_modules_by_itself():
    ended = scripts.run(SCRIPT, "--tasks=chess", check=False)
    assert ended.stderr.splitlines()[-1].startswith("--tasks=chess is unknown. Use autoencoder, ")


def test_without_tensorflow_probability_one_method_is_left_out(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(contestants, "lbfgs_is_installed", lambda: False)
    flags = ["--quick", "--tasks=regression", "--methods=lbfgs", f"--output_dir={tmp_path}"]
    scripts.call(SCRIPT, *flags)
    assert "lbfgs is left out. It needs: pip install" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--methods=adam,hessian", "--methods=hessian is unknown. Use newton, adam, "),
        ("--newton=krylov_dimension=0", "--newton=krylov_dimension=0 is refused: "),
        ("--seeds=a", "--seeds=a must be integers"),
        ("--images=cats", "flag --images=cats: "),
        ("extra", "Unknown arguments: ['extra']"),
    ],
)
def test_wrong_flags_end_with_a_line(flag, message, tmp_path):
    assert message in scripts.refusal(SCRIPT, flag, f"--output_dir={tmp_path}")
