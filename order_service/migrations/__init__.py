"""The schema of the decision log, step by step."""
