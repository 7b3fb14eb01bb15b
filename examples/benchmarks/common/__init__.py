"""What the benchmarks share: timing, tables, a network, the optimizer's flags."""
