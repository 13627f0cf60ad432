"""Knowledge that is brought: one source a file.

A part has `open(problem, base)`, which answers a predictor. One that lies in a file or folder also has `find(base)`,
which tells `check` whether it is there; one that puts questions to a service, which may cost money, says
`asks_a_service = True`, and is not opened before a run needs it.
"""
