"""The plainest PyTorch that computes what a loss of ours does: to be timed beside it.

Forms are as they are usually written: vectorised, and without the guards for what is infinite, absent or of half
precision. What is drawn at random is drawn in the order in which the loss draws it, so that both are one number under
one seed. A form takes the settings, maps and memories of its term, and writes over the latter as the loss does: give it
a copy. No loss is without one yet, but a new one may be: it is then timed alone.
"""

from __future__ import annotations

from plain.form import Naive
from plain.hidden import HIDDEN
from plain.ranking import RANKING
from plain.response import RESPONSE

NAIVE: dict[str, Naive] = {**RESPONSE, **RANKING, **HIDDEN}
"""By the name of the loss."""
