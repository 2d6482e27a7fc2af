"""Stages: all that moves bytes, waits, and starts instances.

tape.py     the frames that were sealed lately, and a way back to older ones
workers.py  instances at work: inline, on threads, as coroutines
sources.py  what starts the music: files, every so often, players that only speak
live.py     input that may have nothing to give yet
pump.py     a source at work, no faster than its rate
solo.py     one process
door.py     how other processes speak to a band that plays
"""
