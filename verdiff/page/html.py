"""HTML in which whatever is not markup is escaped: text from a file's name or header can never become a tag."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

VOID = frozenset({"meta", "img", "input", "br"})


class Html(str):
    """Markup; a plain string beside it is text."""

    __slots__ = ()


def text_of(content: str) -> Html:
    """A string as markup; text is escaped, and characters that UTF-8 cannot carry are spelled out.

    Names of files can hold bytes that are not UTF-8, which Python keeps as lone surrogates.
    """
    if isinstance(content, Html):
        return content
    return Html(escape(content.encode("utf-8", "backslashreplace").decode("utf-8")))


def element(name: str, /, *children: str, **attributes: str | bool | None) -> Html:
    """An element.

    Args:
        name: Name of the tag.
        children: Markup, or text, which is escaped.
        attributes: A trailing underscore is left out (``class_``), others are hyphens (``data_name``). True is an
            attribute without a value; None and False are left out.
    """
    given = {key.rstrip("_").replace("_", "-"): value for key, value in attributes.items()}
    words = [name]
    for key, value in given.items():
        if value is True:
            words.append(key)
        elif value is not None and value is not False:
            words.append(f'{key}="{escape(value, quote=True)}"')
    tag = " ".join(words)
    return Html(f"<{tag}>" if name in VOID else f"<{tag}>{joined(children)}</{name}>")


def joined(parts: Iterable[str], between: str = "") -> Html:
    """Markup and text, one after the other."""
    return Html(between.join(text_of(part) for part in parts))
