"""Mutants that are no fault: what they change cannot be seen from outside, each with the reason. Reviewed by hand."""

EQUIVALENT: dict[str, str] = {}
