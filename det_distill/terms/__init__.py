"""What is compared: one file per kind of knowledge."""
