"""The participant's side: rounds, branches, recovery."""
