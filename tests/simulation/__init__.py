"""Agents, store and readers in one process, with a clock and a scheduler of the tests' own, and a
store that fails on cue.

A history is a list of steps that follows from one number, its seed: sessions begin, change and end,
processes stop and die, clocks jump, the store fails before, after and in the middle of a statement.
What agents, store and readers make of it is compared with a model of a few lines. What is run is
the product's own code: ``Agent``, ``SqliteStore`` on a real database in memory, ``Replica``,
``Bus`` and ``Mailbox``. What is not: sockets, threads, other processes, and what an agent sees.

``python -m tests.simulation --steps 1000000 --seed 1`` runs many histories,
``python -m tests.simulation --history 17`` repeats one and prints its steps.
"""
