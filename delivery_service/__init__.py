"""Takes, holds and gives back the couriers of time slots."""
