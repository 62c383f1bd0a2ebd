"""JSON Lines that every reader of lines splits alike."""

_SEPARATORS = {
    b"\xc2\x85": b"\\u0085",
    b"\xe2\x80\xa8": b"\\u2028",
    b"\xe2\x80\xa9": b"\\u2029",
}


def escape_line_separators(json_text: bytes) -> bytes:
    """Escape U+0085, U+2028 and U+2029, at which some readers end a line.

    In JSON they can only be a part of a string, where an escape means the same.
    """
    for separator, escape in _SEPARATORS.items():
        if separator in json_text:
            json_text = json_text.replace(separator, escape)
    return json_text
