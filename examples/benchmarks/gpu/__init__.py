"""What a step costs on a machine that has JAX and a GPU, but no TensorFlow."""
