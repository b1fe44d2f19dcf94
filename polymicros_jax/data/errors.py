"""The one exception for data that cannot be used."""


class DataError(ValueError):
    """A file or an array that cannot be used; the message names the file, the field, what was found and what is
    accepted."""
