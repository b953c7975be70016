"""Java properties text: the configuration bodies of 25, 26, 318 and 319.

`name=value` lines; `#` and `!` begin comments; a backslash at the end joins lines; escapes with backslash. Names may
end at `=`, `:` or a blank. Written so that Java's loader, which takes Latin-1, reads it as well.
Source: java.util.Properties.load; RocketMQ 5.3 MixAll.properties2String, string2Properties.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from posthouse.codec.remoting.frame import WireError

_LINE = re.compile(r"\r\n|\r|\n")
_NAME = re.compile(r"((?:\\.|[^\\=: \t\f])*)[ \t\f]*[=:]?[ \t\f]*(.*)", re.S)
_ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{4}|u|.)", re.S)
_BLANKS = "".join(map(chr, range(0x21)))
_MEANING = {"t": "\t", "n": "\n", "r": "\r", "f": "\f"}
_TO_ESCAPE = re.compile(r"[\\=:#! \t\n\r\f]|[^\x20-\x7e]")
_NAMES = {"\t": "\\t", "\n": "\\n", "\r": "\\r", "\f": "\\f"}


def read_java_properties(data: bytes) -> dict[str, str]:
    """UTF-8 text to a map; values without blanks around them. Raises WireError."""
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise WireError(f"the properties text: {error}") from None
    found: dict[str, str] = {}
    for line in _logical_lines(text):
        match = _NAME.match(line)
        assert match is not None
        found[_unescape(match.group(1))] = _unescape(match.group(2)).strip(_BLANKS)
    return found


def _logical_lines(text: str) -> list[str]:
    """Lines without comments and blank ones, continuations joined."""
    lines: list[str] = []
    begun = ""
    continues = False
    for natural in _LINE.split(text):
        line = natural.lstrip(" \t\f")
        if not continues and (not line or line[0] in "#!"):
            continue
        backslashes = len(line) - len(line.rstrip("\\"))
        continues = backslashes % 2 == 1
        begun += line[:-1] if continues else line
        if not continues:
            lines.append(begun)
            begun = ""
    if begun:
        lines.append(begun)
    return lines


def _unescape(text: str) -> str:
    def meaning(match: re.Match[str]) -> str:
        what = match.group(1)
        if what == "u":
            raise WireError("the properties text: \\u needs four hex digits")
        return chr(int(what[1:], 16)) if len(what) == 5 else _MEANING.get(what, what)

    unescaped = _ESCAPE.sub(meaning, text)
    try:
        # Java writes a character beyond the basic plane as two \\u escapes
        return unescaped.encode("utf-16", "surrogatepass").decode("utf-16")
    except UnicodeDecodeError:
        raise WireError("the properties text: half of a surrogate pair") from None


def write_java_properties(properties: Mapping[str, str]) -> bytes:
    lines = [f"{_escape(name, True)}={_escape(value, False)}\n" for name, value in properties.items()]
    return "".join(lines).encode("ascii")


def _escape(text: str, is_name: bool) -> str:
    def escaped(match: re.Match[str]) -> str:
        found = match.group()
        if found in _NAMES:
            return _NAMES[found]
        if found == "\\" or (found in "=:#! " and (is_name or match.start() == 0)):
            return f"\\{found}"
        if found in "=:#! ":
            return found
        raw = found.encode("utf-16-be")
        return "".join(f"\\u{raw[at : at + 2].hex().upper()}" for at in range(0, len(raw), 2))

    return _TO_ESCAPE.sub(escaped, text)
