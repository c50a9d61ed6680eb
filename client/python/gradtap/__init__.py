"""Statistics of LibTorch training runs, from a gradtap collector.

    tap = gradtap.connect("127.0.0.1:7317")
    frame = tap.series("mnist", "grad.l2", match="encoder", points=1000)
"""

from gradtap.client import Client, connect
from gradtap.errors import (Error, InvalidError, NotFoundError, RefusedError,
                            UnavailableError)

__version__ = "0.1.0"
__all__ = ["Client", "Error", "InvalidError", "NotFoundError", "RefusedError",
           "UnavailableError", "connect"]
