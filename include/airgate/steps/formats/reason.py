"""Why bytes are not in a format."""


class NotInFormat(ValueError):
    """Bytes are not in the format that they begin like. The text says what is wrong, to be put after the file's name."""
