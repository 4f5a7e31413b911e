"""What other people's errors say, in a line."""


def first_line(error: BaseException) -> str:
    """Of what an error says, or its kind where it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
