"""Pages to look at: one self-contained HTML file each, with nothing loaded from anywhere.

:func:`verdiff.page.frame.whole_page` is the frame they share, :func:`verdiff.page.markdown.html_of` makes HTML of
Markdown pages and their tables, and :func:`verdiff.page.figures.figures_page` is the page of a benchmark or a study.
"""
