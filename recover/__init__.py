"""Recover: optimise real images against a logit teacher and the BatchNorm statistics of others."""
