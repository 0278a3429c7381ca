"""Several runs side by side: their numbers, what differs, and their curves."""
