"""What one detector shows of one batch, under stable names."""
