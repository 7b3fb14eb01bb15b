"""What a port to another backend of Keras would rewrite: devices, graphs, replicas, derivatives."""
