"""Takes, holds and gives back products."""
