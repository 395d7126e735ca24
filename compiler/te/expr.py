"""Scalar expressions under their place in the tensor-expression language."""

from compiler.loop.expr import *  # noqa: F403
