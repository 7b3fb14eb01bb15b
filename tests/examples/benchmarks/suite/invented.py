"""Runs that nobody trained, for the tests of tables and pictures."""

from benchmarks.suite import contestants, summary
from benchmarks.time_to_loss import training_runs

SETUP = summary.Setup("heat", "deterministic", "relative L2 error of u", 8.0)
OURS = contestants.Contestant("newton", "")
ADAM = contestants.Contestant("adam", "rate=0.003,batch_size=100")
LION = contestants.Contestant("lion", "rate=0.001,batch_size=100")


def run(contestant, losses, seed=0, first=2.0, kind=""):
    """A run of eight seconds, whose second figure is a tenth of its loss."""
    records = [
        training_runs.Record(8 * i / (len(losses) - 1), 10 * i, 0.0, loss, loss / 10)
        for i, loss in enumerate(losses)
    ]
    return training_runs.Run(*contestant, seed, "false", first, records, kind)


def groups():
    """Ours, a rival from two seeds, and one from a single seed."""
    return {
        OURS: [
            run(OURS, [1.0, 0.1, 0.01, 1e-3, 1e-4], seed, first=6.0, kind="preconditioned")
            for seed in range(2)
        ],
        ADAM: [run(ADAM, [1.0, 0.5, 0.2, 0.1, 0.01], seed) for seed in range(2)],
        # Lower, but of one seed alone.
        LION: [run(LION, [1.0, 0.5, 0.2, 0.1, 0.001])],
    }


def lines():
    """A task that ours is best at, and one at which it is stuck."""
    slow = {OURS: [run(OURS, [1.0, 0.9, 0.9], kind="Lanczos vectors")]}
    plain = summary.Setup("cnn", "mini-batch", "", 8.0)
    return summary.summarise(SETUP, groups()) + summary.summarise(plain, groups() | slow)
