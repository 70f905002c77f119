"""How often the host reads a value from the device: on a GPU, each such read waits for it.

Counted are the calls by which Python code turns an array into something on the host: `float(x)`,
`if x:`, `x.item()`, `np.asarray(x)`, `x.cpu()` and their like. What a library reads on its own
account, inside its compiled code, is not seen; nor is `np.asarray` of a JAX array on the CPU,
which shares its memory. On the CPU the same calls are counted otherwise, though nothing waits
there.
"""

from collections.abc import Callable
from functools import wraps
from typing import Any

_READS = (
    "__float__",
    "__int__",
    "__bool__",
    "__index__",
    "__complex__",
    "__array__",
    "item",
    "tolist",
    "numpy",  # PyTorch
    "cpu",
    "get",  # CuPy
)


def count(array: Any, action: Callable[[], Any]) -> int | None:
    """How many reads of arrays of `array`'s type there are while `action` runs.

    None where the type cannot be watched: NumPy's is built in, and its arrays are on the host.
    """
    kind, reads, inside = type(array), 0, False

    def counted(method: Any) -> Any:
        @wraps(method)
        def read(*arguments: Any, **options: Any) -> Any:
            nonlocal reads, inside
            outermost, inside = not inside, True  # one read may go through several of these
            reads += outermost
            try:
                return method(*arguments, **options)
            finally:
                inside = not outermost

        return read

    own = {name: vars(kind)[name] for name in _READS if name in vars(kind)}
    watched = [name for name in _READS if hasattr(kind, name)]
    try:
        for name in watched:
            setattr(kind, name, counted(getattr(kind, name)))
    except TypeError:
        return None
    try:
        action()
    finally:
        for name in watched:
            if name in own:
                setattr(kind, name, own[name])
            else:
                delattr(kind, name)
    return reads
