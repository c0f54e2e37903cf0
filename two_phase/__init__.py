"""Group presumed-abort two-phase commit over plain HTTP, for any application."""
