"""What the examples share: data, networks, tables and pictures, and what watches a training."""
