"""What the kernels use of Triton, as the type checker sees it, whether or not Triton is there.

A kernel is launched as `kernel[grid](...)` with numbers for what it calls `tl.constexpr`: Triton's own
annotations know neither.
"""

from typing import Any

def jit(function: Any) -> Any: ...
def cdiv(x: Any, y: Any) -> int: ...
def next_power_of_2(n: int) -> int: ...
