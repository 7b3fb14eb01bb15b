"""Which optimizer gets to a training loss first."""
