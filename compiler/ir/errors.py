"""A bug of ours: what is raised when the compiler meets a program that it should never have made."""

from __future__ import annotations


class InternalError(Exception):
    """`code` is NDL9xx: 901 an ill-formed graph, 902 no derivative, 903 cannot be printed, 904 IR text."""

    def __init__(self, message: str, code: str = "NDL901") -> None:
        super().__init__(f"{code}: {message}")
        self.code, self.message = code, message
