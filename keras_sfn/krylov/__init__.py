"""Krylov spaces of a symmetric operator: Lanczos, stored rows, Ritz pairs. Knows no Keras."""
