"""One module per verb (or family of verbs); each holds a click command and the few lines that carry it out."""
