"""Takes, holds and gives back the customers' money."""
