"""Model files to graphs. `import_model` reads any of the supported formats."""

from compiler.frontend.model import import_model

__all__ = ["import_model"]
