"""The coordinator's side: batches, verdicts, the decision log, and the remote participants."""
