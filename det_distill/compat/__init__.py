"""What lets stock MMDetection run on current torch without a compiler. Useful alone."""
