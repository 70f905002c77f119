"""Neural networks on the Python Array API standard: one set of kernels, any array library."""

__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    """Import a name of `__init__.pyi` when it is first used: `import nnxp` takes no time."""
    import lazy_loader  # it takes ten times as long as all else here

    find, _, names = lazy_loader.attach_stub(__name__, __file__)
    found = globals()[name] = names if name == "__all__" else find(name)
    return found


def __dir__() -> object:
    return __getattr__("__all__")
