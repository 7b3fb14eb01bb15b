"""What a step costs: its iterations, its memory, its compilation, its messages."""
