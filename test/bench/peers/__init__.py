"""Systems of others that do what the shop does, on the same machine, for the same orders."""
