"""Response-based knowledge: what the heads answer, on the same boxes, anchors or cells."""
