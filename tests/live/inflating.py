"""A client's reading of compressed frames, by another implementation than they were made with."""

from __future__ import annotations

from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.frames import Frame


class Inflating(PerMessageDeflate):
    """Reads frames as a client does with whom this was agreed on, and notes the compressed ones."""

    def __init__(self, bits: int = 15, keeps_context: bool = True) -> None:
        super().__init__(not keeps_context, True, bits, 15)
        self.compressed: list[bytes] = []

    def decode(self, frame: Frame, *, max_size: int | None = None) -> Frame:
        if frame.rsv1:
            self.compressed.append(bytes(frame.data))
        return super().decode(frame, max_size=max_size)
