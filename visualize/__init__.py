"""Pictures of a score and of its runs. Reads `ensemble` through its public face, never the reverse.

graph     who says what and who hears it, as a networkx graph
layout    where everything is; the one place that knows the layout engine
reaction  the graph as a picture; `played` lays over it what was played
timeline  one chain or key over time; `overview` a whole band over time
live      a band that is watched while it plays, in a notebook; `live_counts` is what it is told
picture   what all of these draw: shapes and texts at places, in colours that a palette gives
svg, pixels (png, pdf), page (html), mermaid, dot   write it; `files` knows which by a file's ending
"""
