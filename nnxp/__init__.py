"""Neural networks on the Python Array API standard: one set of kernels, any array library."""

import lazy_loader

__version__ = "0.1.0"

# `__init__.pyi` has the names. Each is imported when it is first used: `import nnxp` takes no time.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
