"""What is asked, in order: the project, the question, and what must come of it: a hit (`exact`, `semantic`), a miss
for one reason (`tools`), or a miss for any (`miss`)."""

ETHANOL = "What is the boiling point of ethanol?"

TURNS = [
    # The project lets requests with tools be answered from memory.
    ("allowed", ETHANOL, "miss"),
    ("allowed", ETHANOL, "exact"),
    ("allowed", "Please, what is the boiling point of ethanol?", "semantic"),
    ("allowed", "What's the boiling point of ethanol?", "semantic"),
    ("allowed", "What is the boiling point of methanol?", "miss"),
    ("allowed", "What is the melting point of ethanol?", "miss"),
    # Another project says nothing of tools: an answer may be an action, and is not repeated.
    ("careful", ETHANOL, "tools"),
    ("careful", ETHANOL, "tools"),
]
