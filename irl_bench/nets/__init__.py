"""Policies, input standardisation, and fitting them to labelled states."""
