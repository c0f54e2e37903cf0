"""Applications of two_phase other than the shop."""
