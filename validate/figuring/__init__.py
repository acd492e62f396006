"""The figures of validate.figures, a file each: `numbers(runs)`, what is drawn, as JSON; `draw(values)`.

The numbers are read from what runs and their measures left on disk and need no matplotlib.
"""
