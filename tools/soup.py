"""The table of docs/soup.md: ``python -m tools.soup`` writes it anew from what is installed."""

from __future__ import annotations

from tools.packages import ROOT, Package, packages

PAGE = ROOT / "docs" / "soup.md"
BEGIN, END = "<!-- made by python -m tools.soup -->", "<!-- end of what is made -->"
# What an operating room's machine may run, in the order of the table; `gpu` and `tensorrt` want NVIDIA's own.
EXTRAS = ("cpu", "openvino", "anatomy", "sign", "dicom", "igtl")


def table(listed: list[Package]) -> str:
    """The packages as a Markdown table, with its heading."""
    rows = [
        f"| [{each.name}]({each.page}) | {each.version} | {each.licence} | {_brought_by(each)} | {_line(each)} |"
        for each in listed
    ]
    return "\n".join(
        ["| package | version | licence | brought by | what it says it is |", "| --- | --- | --- | --- | --- |", *rows]
    )


def page(text: str, made: str) -> str:
    """A page with what is made of it put between its two marks."""
    head, _, rest = text.partition(BEGIN)
    _, _, tail = rest.partition(END)
    return f"{head}{BEGIN}\n\n{made}\n\n{END}{tail}"


def _brought_by(package: Package) -> str:
    return f"`{package.extra}`" if package.extra else "every installation"


def _line(package: Package) -> str:
    return " ".join(package.summary.split()).replace("|", "\\|").rstrip(".")


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text("utf-8"), table(packages(EXTRAS))), "utf-8")
