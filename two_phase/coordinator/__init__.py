"""The coordinator's side: batches, verdicts, the decision log, and what each participant is asked and told."""
