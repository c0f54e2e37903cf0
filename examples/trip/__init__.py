"""A trip: a flight, a hotel and a car, all three or none. Another trade on two_phase, without the shop."""
