"""What both echo servers serve, and what the bench therefore calls."""

import struct
from typing import Final

SERVICE: Final = "inference.GRPCInferenceService"
UNARY: Final = f"/{SERVICE}/ModelInfer"
"""The reply is the request."""
BIDI: Final = f"/{SERVICE}/ModelStreamInfer"
"""Each message comes back."""
MANY: Final = f"/{SERVICE}/Many"
"""The request comes back as many times as its first four bytes (`COUNT`) say."""
COUNT: Final = struct.Struct(">L")
