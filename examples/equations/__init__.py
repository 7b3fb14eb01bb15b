"""Differential equations as physics-informed networks solve them: one file an equation."""
