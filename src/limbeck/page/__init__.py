"""Reports as pages: one HTML file that needs nothing else, and the same as Markdown."""

from limbeck.page.compare import compare_markdown, compare_page
from limbeck.page.document import draw
from limbeck.page.text import markdown
from limbeck.page.tuning import tuning_sentences

__all__ = ["compare_markdown", "compare_page", "draw", "markdown", "tuning_sentences"]
