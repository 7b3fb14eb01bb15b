"""An approximate curvature P of each layer, the directions made with it, and its state."""
