"""Pure functions on tensors, one file per idea; they run anywhere torch does."""
