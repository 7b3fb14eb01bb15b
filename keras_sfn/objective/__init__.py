"""The loss of a batch as a function of the parameters: whole, of rows, in slices, on replicas."""
