"""Participants to try the conformance kit on: a correct one in memory, broken ones, and one in another language."""
