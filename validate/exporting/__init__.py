"""What `python -m validate.export` writes: others' layouts, a card, the check that goes along."""
