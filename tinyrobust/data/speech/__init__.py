"""Speech: from a folder of clips to the 8-bit features that a network and its microcontroller see.

`load` is imported by itself, where speech is asked for: it needs librosa and soundfile.
"""
