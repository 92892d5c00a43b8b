"""Relation-based knowledge: how the boxes of a batch, or the cells of a map, lie to one another."""
