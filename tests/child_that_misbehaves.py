"""Answers as `litert_child` does, or does what native code does on a hostile file."""

from __future__ import annotations

import ctypes
import os
import time
from typing import Any


def serve() -> Any:
    def answer(header: dict[str, Any], payload: bytes) -> tuple[dict[str, Any], bytes]:
        wish = header.get("wish")
        if wish == "crash":
            ctypes.string_at(0)
        if wish == "exit":
            os._exit(3)
        if wish == "hang":
            time.sleep(600)
        if wish == "raise":
            raise RuntimeError("two\nlines")
        if wish == "print":
            os.write(1, b"INFO: a delegate was created\n")
        if wish == "memory":
            return {}, bytes(1 << 34)
        return {"pid": os.getpid(), "length": len(payload)}, payload[::-1]

    return answer
