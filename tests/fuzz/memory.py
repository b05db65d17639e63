"""How much memory an object holds."""

import gc
import sys
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType

SHARED = (type, ModuleType, FunctionType, BuiltinFunctionType, MethodType)
"""What an object refers to but does not own: code, and the objects behind callbacks."""


def held_bytes(root: object, *others: object) -> int:
    """Bytes of `root` and all it refers to, without `others` and what only they refer to."""
    seen = {id(other) for other in others}
    total, todo = 0, [root]
    while todo:
        item = todo.pop()
        if id(item) in seen or isinstance(item, SHARED):
            continue
        seen.add(id(item))
        total += sys.getsizeof(item)
        todo += gc.get_referents(item)
    return total
