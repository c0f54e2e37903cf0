"""The real protocol code in a simulated world, in which a seed decides everything."""
