"""Group presumed-abort two-phase commit over plain HTTP; knows no word of the shop."""
