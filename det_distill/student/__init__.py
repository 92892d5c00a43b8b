"""The net that learns: its model, its width, the scale of its input, what its own losses weigh."""
