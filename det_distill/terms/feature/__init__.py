"""Feature-based knowledge: what maps and boxes look like inside, between input and answer."""
