"""Participants to try the conformance kit on.

A correct one in memory, broken ones, and one in another language.
"""
